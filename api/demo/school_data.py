"""Generates the fictional Larkfield Learning Trust: its register entries and its pupils, the same for the same seed and
day, without I/O.

Nobody and nothing here exists: URNs, the Group UID and the local authority (999) lie outside the ranges the Department
for Education uses, postcodes are of the pseudo-area ZZ99, names are drawn from lists. The data is as of the day on which
it is made (story.py):

- Six schools: three primaries, an infant school whose Year 2 moves on to the junior school nearby, and a village
  school of 23.
- Last summer's Year 6 has left, and a few pupils did during either year; two came a few weeks ago.
- One pupil is dual-registered, one is on a temporary UPN, three in Reception have none yet, one changed school within
  the trust six weeks ago.

Their judgements and targets are in assessment_data.py.
"""

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Any, NamedTuple, TypeAlias

from api.demo.names import POOLS
from api.demo.story import Story
from domain.roster.upn import compute_check_letter

Body: TypeAlias = dict[str, Any]

SEED = 2026
GROUP_UID = 99_901
TRUST = "Larkfield Learning Trust"
LOCAL_AUTHORITY = "999"
_DAYS_IN_YEAR = (date(2026, 1, 1) - date(2025, 1, 1)).days


@dataclass(frozen=True)
class DemoSchool:
    """A school. `years` are its year groups (0 is Reception); `cohorts` are sizes by the year group of this academic year,
    of which 7 is last summer's Year 6 and what lies above `years` has left; `scheme` is the one it marks in;
    `disadvantaged` is a share of pupils; `strength` moves attainment, in standard deviations."""

    urn: int
    number: str
    name: str
    years: range
    cohorts: dict[int, int]
    scheme: str = "wts-exs-gds"
    disadvantaged: float = 0.24
    strength: float = 0.0

    @property
    def ref(self) -> Body:
        return {"urn": self.urn}


def _count_cohorts(*sizes: int, oldest: int = 7) -> dict[int, int]:
    return {oldest - i: size for i, size in enumerate(sizes)}


QUILLBROOK = DemoSchool(
    999_101, "2101", "Quillbrook Primary Academy", range(7), _count_cohorts(33, 35, 32, 34, 31, 34, 33, 32), disadvantaged=0.38
)
HAREBELL = DemoSchool(
    999_102, "2102", "Harebell Heath Primary Academy", range(7), _count_cohorts(29, 30, 30, 28, 30, 30, 29, 30), strength=0.15
)
WRENLOW = DemoSchool(
    999_103,
    "2103",
    "Wrenlow Primary Academy",
    range(7),
    _count_cohorts(26, 28, 25, 27, 28, 24, 27, 22),
    "points",
    disadvantaged=0.3,
)
JUNIOR = DemoSchool(
    999_104, "2104", "Nettlewick Junior Academy", range(3, 7), _count_cohorts(42, 44, 41, 43), "below-at-above", strength=-0.1
)
INFANT = DemoSchool(
    999_105, "2105", "Nettlewick Infant Academy", range(3), _count_cohorts(42, 43, 40, 41, oldest=3), "below-at-above"
)
FALLOWDENE = DemoSchool(
    999_106, "2106", "Fallowdene Village Academy", range(7), _count_cohorts(3, 4, 3, 3, 4, 3, 3, 3), disadvantaged=0.1
)
SCHOOLS = (QUILLBROOK, HAREBELL, WRENLOW, INFANT, JUNIOR, FALLOWDENE)


class DemoSpell(NamedTuple):
    """An enrolment at a school, from a first to a last day. The status is that of `domain.roster.enrolments`."""

    school: DemoSchool
    status: str
    first: date
    last: date | None

    def is_on(self, day: date) -> bool:
        return self.first <= day <= (self.last or date.max)


@dataclass
class DemoPupil:
    """A fictional pupil. `entry` is the calendar year of entering Reception; `lean` is the difference of each subject
    from `ability`."""

    reference: str
    forename: str
    surname: str
    sex: str
    born: date
    entry: int
    upn: str | None
    characteristics: dict[str, str]
    ability: float
    lean: dict[str, float]
    spells: list[DemoSpell] = field(default_factory=list)

    def find_main_spell(self, day: date) -> DemoSpell | None:
        """Returns the spell of main registration on a day."""
        return next((spell for spell in self.spells if spell.status in "CM" and spell.is_on(day)), None)

    def draw_form(self, subject: str, random: Random) -> float:
        """Returns how well the pupil does in a subject on one occasion, in standard deviations."""
        return self.ability + self.lean[subject] + random.gauss(0, 0.25)


def make_register() -> list[tuple[str, bytes]]:
    """Returns the trust and its schools as GIAS publishes them: files of establishments, groups and group links, with
    their names."""
    establishments = [
        {
            "URN": school.urn,
            "LA (code)": LOCAL_AUTHORITY,
            "LA (name)": "Mallowshire",
            "EstablishmentNumber": school.number,
            "EstablishmentName": school.name,
            "TypeOfEstablishment (name)": "Academy converter",
            "EstablishmentStatus (name)": "Open",
            "PhaseOfEducation (name)": "Primary",
            "StatutoryLowAge": school.years.start + 4,
            "StatutoryHighAge": school.years.stop + 4,
            "OpenDate": "01-09-2017",
            "CloseDate": "",
            "UKPRN": "",
            "Town": "Larkfield",
            "Postcode": f"ZZ99 {school.urn % 10}AA",
        }
        for school in SCHOOLS
    ]
    group = {
        "Group UID": GROUP_UID,
        "Group ID": f"TR{GROUP_UID}",
        "Group Name": TRUST,
        "Companies House Number": "",
        "Group Type (code)": 6,
        "Group Status": "Open",
        "Open date": "",
        "Closed Date": "",
        "Incorporated on (open date)": "2017-04-01",
    }
    links = [
        {"URN": s.urn, "Group UID": GROUP_UID, "Group Type (code)": 6, "Joined date": "2017-09-01", "Closed Date": ""}
        for s in SCHOOLS
    ]
    files = (("establishments.csv", establishments), ("groups.csv", [group]), ("group_links.csv", links))
    return [(name, _write_csv(rows)) for name, rows in files]


def _write_csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


class Intake:
    """Generates pupils with unique UPNs."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.pupils: list[DemoPupil] = []
        self._serials: Counter[tuple[str, int]] = Counter()

    def allocate_upn(self, school: DemoSchool, year: int, *, temporary: bool = False) -> str:
        """Returns the next UPN that the school allocates in a calendar year."""
        self._serials[school.number, year] += 1
        serial = self._serials[school.number, year]
        last = f"{serial % 100:02}{'ABCDEFGHJKLMNPQRTUVWXYZ'[serial // 100]}" if temporary else f"{serial:03}"
        rest = f"{LOCAL_AUTHORITY}{school.number}{year % 100:02}{last}"
        return compute_check_letter(rest) + rest

    def admit(self, school: DemoSchool, entry: int, spells: list[DemoSpell], *, temporary: bool = False) -> DemoPupil:
        """Generates a pupil of the cohort that entered Reception in this year."""
        random = self.random
        pool = random.choices(POOLS, [pool.share for pool in POOLS])[0]
        sex = random.choice("FM")
        ever6 = random.random() < school.disadvantaged
        sen = random.choices("NKE", [0.82, 0.14, 0.04])[0]
        service, looked_after = random.random() < 0.02, random.random() < 0.006
        characteristics = {
            "fsm": "targeted" if ever6 and random.random() < 0.85 else "none",
            "ever6Fsm": _format_yes(ever6),
            "pupilPremium": _format_yes(ever6 or service or looked_after),
            "eal": "2" if random.random() < pool.another_language else "1",
            "sen": sen,
            "ethnicity": random.choice(pool.ethnicities),
            **({"serviceChild": "true"} if service else {}),
            **({"lookedAfter": "true"} if looked_after else {}),
        }
        weight = (-0.3 if ever6 else 0.27) + {"N": 0.15, "K": -0.7, "E": -1.5}[sen] + school.strength
        pupil = DemoPupil(
            reference=f"{10_000 + len(self.pupils)}",
            forename=random.choice(pool.girls if sex == "F" else pool.boys),
            surname=random.choice(pool.surnames),
            sex=sex,
            born=date(entry - 5, 9, 1) + timedelta(random.randrange(_DAYS_IN_YEAR)),
            entry=entry,
            upn=self.allocate_upn(
                INFANT if school is JUNIOR else school, spells[0].first.year if temporary else entry, temporary=temporary
            ),
            characteristics=characteristics,
            ability=random.gauss(0, 0.85) + weight,
            lean={"reading": random.gauss(0.05, 0.3), "writing": random.gauss(-0.05, 0.3), "maths": random.gauss(0, 0.4)},
            spells=spells,
        )
        self.pupils.append(pupil)
        return pupil


def _format_yes(value: bool) -> str:
    return "true" if value else "false"


def make_pupils(story: Story, seed: int = SEED) -> list[DemoPupil]:
    """Returns all pupils on roll at the trust in this academic year or the one before."""
    intake, start = Intake(Random(seed)), story.start  # noqa: S311 (nothing here is secret)
    by_cohort = {
        (school.urn, year): [intake.admit(school, start - year, [_make_spell(school, start - year, start)]) for _ in range(size)]
        for school in SCHOOLS
        for year, size in school.cohorts.items()
    }
    for pupil in by_cohort[INFANT.urn, 3][:-2]:  # two went on to another trust's junior school
        pupil.spells.append(DemoSpell(JUNIOR, "C", date(start, 9, 1), None))

    lately = story.find_day_ago(28)
    for school, year, last in (
        (QUILLBROOK, 4, date(start, 3, 27)),
        (HAREBELL, 5, date(start, 2, 13)),
        (WRENLOW, 2, date(start, 3, 27)),
        (QUILLBROOK, 5, lately),
        (JUNIOR, 4, lately),
    ):
        leaver = by_cohort[school.urn, year][0]
        leaver.spells[-1] = leaver.spells[-1]._replace(last=last)

    mover = by_cohort[WRENLOW.urn, 4][1]
    mover.spells = [
        mover.spells[0]._replace(last=story.find_day_ago(42)),
        DemoSpell(HAREBELL, "C", story.find_day_ago(39), None),
    ]
    dual, since = by_cohort[QUILLBROOK.urn, 3][1], story.find_day_ago(80)
    dual.spells = [
        dual.spells[0]._replace(last=since - timedelta(1)),
        DemoSpell(QUILLBROOK, "M", since, None),
        DemoSpell(HAREBELL, "S", since, None),
    ]
    for pupil in by_cohort[QUILLBROOK.urn, 0][:2] + by_cohort[INFANT.urn, 0][:1]:
        pupil.upn = None
    came = story.find_day_ago(25)
    intake.admit(WRENLOW, start - 5, [DemoSpell(WRENLOW, "C", came, None)])
    arrival = intake.admit(HAREBELL, start - 4, [DemoSpell(HAREBELL, "C", came, None)], temporary=True)
    for kind in ("fsm", "ever6Fsm", "pupilPremium"):
        del arrival.characteristics[kind]  # nobody knows yet, which is not the same as no
    return intake.pupils


def _make_spell(school: DemoSchool, entry: int, start: int) -> DemoSpell:
    """Returns the spell of a pupil who stays from the school's first year to the end of its last. `start`: of this academic year."""
    leaves = entry + school.years.stop
    return DemoSpell(school, "C", date(entry + school.years.start, 9, 1), date(leaves, 8, 31) if leaves <= start else None)


def make_rolls(everybody: list[DemoPupil], story: Story) -> list[Body]:
    """Returns bodies of `record_pupils`: each school's roll of last summer, then each school's present roll."""
    bodies = []
    for as_of, start in ((date(story.start, 7, 1), story.start - 1), (story.today, story.start)):
        for school in SCHOOLS:
            entries = [
                {
                    "reference": pupil.reference,
                    "upn": pupil.upn,
                    "surname": pupil.surname,
                    "forename": pupil.forename,
                    "dateOfBirth": pupil.born.isoformat(),
                    "sex": pupil.sex,
                    "yearGroup": _name_year(start - pupil.entry),
                    "enrolments": [_format_spell(spell) for spell in here],
                    "characteristics": [
                        {"kind": kind, "value": value, "from": pupil.spells[0].first.isoformat()}
                        for kind, value in pupil.characteristics.items()
                    ],
                }
                for pupil in everybody
                if (
                    here := [
                        s
                        for s in pupil.spells
                        if s.school is school and s.first <= as_of and (s.last or as_of) >= date(start, 9, 1)
                    ]
                )
            ]
            bodies.append({"school": school.ref, "asOf": as_of.isoformat(), "entries": entries})
    return bodies


def make_classes(everybody: list[DemoPupil], story: Story) -> list[Body]:
    """Returns bodies of `record_groups`: each school's present classes, one for each year group, or two where it is
    large."""
    begins, bodies = date(story.start, 9, 1), []
    for school in SCHOOLS:
        by_year: dict[int, list[tuple[DemoPupil, DemoSpell]]] = {}
        for pupil in everybody:
            here = next((spell for spell in pupil.spells if spell.school is school and spell.is_on(story.today)), None)
            if here is not None:
                by_year.setdefault(story.start - pupil.entry, []).append((pupil, here))
        entries = []
        for year, members in sorted(by_year.items()):
            trees = ("Ash", "Beech") if len(members) > 33 else ("Ash",)
            for n, tree in enumerate(trees):
                members_of_class = [
                    {"reference": pupil.reference, "from": max(begins, spell.first).isoformat()}
                    for pupil, spell in members[n :: len(trees)]
                ]
                entries.append(
                    {
                        "code": f"{_name_year(year)}{tree[0]}",
                        "name": f"{_name_year(year)} {tree}",
                        "kind": "class",
                        "members": members_of_class,
                    }
                )
        head = {"school": school.ref, "academicYear": story.name_year(), "asOf": story.today.isoformat(), "complete": True}
        bodies.append({**head, "entries": entries})
    return bodies


def _name_year(number: int) -> str:
    return "R" if number == 0 else str(number)


def _format_spell(spell: DemoSpell) -> Body:
    return {"status": spell.status, "from": spell.first.isoformat(), "to": spell.last.isoformat() if spell.last else None}
