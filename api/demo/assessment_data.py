"""Generates the demonstration's schemes, windows, judgements and targets: bodies for the commands, the same for the
same seed.

- 2025-26/KS2, statutory and closed: scaled scores in reading and maths and the teachers' judgement of writing, for last
  summer's Year 6.
- 2025-26/Summer, closed: Years 1 to 5, each school in its own scheme. Four mark WTS/EXS/GDS; the infant and the junior
  school mark Below / Just at / At / Above.
- 2026-27/Autumn, open: Years 1 to 6, in the schools' schemes. Recording is in progress: one value in twenty-five is
  missing.

Census days are the school census's: the third Thursday in May and the first in October. Whoever left after it is marked
`left`, whoever came after it `new`. Targets are for the end of the year and, in Year 6, for key stage 2.

Attainment depends on a pupil's ability, the lean towards each subject and the day's form. Disadvantage and special
educational needs lower it about as much as in the published national results (Department for Education, "Key stage 2
attainment").
"""

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random

from api.demo.school_data import GROUP_UID, SCHOOLS, SEED, Body, DemoPupil, DemoSchool

SUBJECTS = ("reading", "writing", "maths")


@dataclass(frozen=True)
class DemoScheme:
    """A scheme of the trust, copied from the template with the same code. `cuts` are the boundaries between its grades
    in each subject, in standard deviations."""

    code: str
    name: str
    grades: tuple[str, ...]
    cuts: dict[str, tuple[float, ...]]

    def grade(self, subject: str, form: float) -> str:
        return self.grades[bisect_right(self.cuts[subject], form)]


IN_YEAR = {
    scheme.code: scheme
    for scheme in (
        DemoScheme(
            "wts-exs-gds",
            "Working towards, expected, greater depth",
            ("WTS", "EXS", "GDS"),
            {"reading": (-0.55, 0.9), "writing": (-0.5, 1.1), "maths": (-0.55, 0.95)},
        ),
        DemoScheme(
            "below-at-above",
            "Below, just at, at, above age-related expectation",
            ("Below", "Just at", "At", "Above"),
            {"reading": (-0.6, -0.1, 0.95), "writing": (-0.5, 0.0, 1.15), "maths": (-0.6, -0.1, 1.0)},
        ),
    )
}
WRITING = DemoScheme("ks2-writing-ta", "", ("PK3", "PK4", "WTS", "EXS", "GDS"), {"writing": (-2.6, -2.2, -0.6, 1.1)})
SCORES = "ks2-scaled-score"


def _make_score(form: float) -> str:
    """Returns a key stage 2 scaled score, 80 to 120 with a mean of 105, or B for a pupil working below the level of the
    test."""
    return "B" if form < -2.4 else str(max(80, min(120, round(105 + 7.5 * form))))


@dataclass(frozen=True)
class DemoWindow:
    """The values of a `create_window` body. `days` are the first and last day on which teachers judged."""

    code: str
    name: str
    start: int
    census_on: date
    days: tuple[date, date]
    years: range
    purpose: str
    audience: str
    decision: str
    statutory: bool = False
    closed: bool = True

    def find_closing(self, now: datetime) -> datetime:
        """The last day for a closed window; for the open one three weeks later, and at least three weeks from now."""
        closing = datetime.combine(self.days[1], time(17), UTC)
        return closing if self.closed else max(closing, now) + timedelta(21)


KS2 = DemoWindow(
    "2025-26/KS2",
    "Key stage 2 tests and writing 2026",
    2025,
    date(2026, 5, 11),
    (date(2026, 5, 11), date(2026, 6, 26)),
    range(6, 7),
    "The statutory end of key stage 2 assessment.",
    "Parents, secondary schools and the Department for Education.",
    "What secondary schools are told about each pupil, and what the trust reports to its governors.",
    statutory=True,
)
SUMMER = DemoWindow(
    "2025-26/Summer",
    "Summer 2026",
    2025,
    date(2026, 5, 21),
    (date(2026, 6, 15), date(2026, 7, 3)),
    range(1, 6),
    "Teachers' judgement at the end of the year, for the annual report to parents.",
    "Parents, and the teachers of next year.",
    "Who gets support from September, and what next year's teachers start from.",
)
AUTUMN = DemoWindow(
    "2026-27/Autumn",
    "Autumn 2026",
    2026,
    date(2026, 10, 1),
    (date(2026, 11, 9), date(2026, 11, 20)),
    range(1, 7),
    "Teachers' judgement before the pupil progress meetings in December.",
    "Teachers and the leaders of each school.",
    "Which pupils get tutoring in the spring, and in which subject.",
    closed=False,
)
WINDOWS = (KS2, SUMMER, AUTUMN)

_TENANT: Body = {"trust": {"groupUid": GROUP_UID}}


def make_schemes() -> list[Body]:
    """Returns bodies of `create_scheme`."""
    return [{"tenant": _TENANT, "code": s.code, "name": s.name, "template": s.code} for s in IN_YEAR.values()]


def make_windows(now: datetime) -> list[Body]:
    """Returns bodies of `create_window`. What was recorded before a window closed is accepted until tomorrow."""
    return [
        {
            "tenant": _TENANT,
            "code": window.code,
            "name": window.name,
            "academicYear": _name_year(window.start),
            "censusOn": window.census_on.isoformat(),
            "opensAt": _make_instant(window.days[0], 8),
            "closesAt": window.find_closing(now).isoformat(),
            "acceptUntil": (max(window.find_closing(now), now) + timedelta(1)).isoformat() if window.closed else None,
            **({"template": "KS2"} if window.statutory else {}),
            "audience": window.audience,
            "purpose": window.purpose,
            "decision": window.decision,
            "yearGroups": [str(year) for year in window.years],
            "collects": _list_collected(window),
        }
        for window in WINDOWS
    ]


def _list_collected(window: DemoWindow) -> list[Body]:
    if window is KS2:
        return [{"subject": subject, "scheme": WRITING.code if subject == "writing" else SCORES} for subject in SUBJECTS]
    common, *others = IN_YEAR
    return [{"subject": subject, "scheme": common} for subject in SUBJECTS] + [
        {"subject": subject, "scheme": scheme, "schools": [school.ref for school in SCHOOLS if school.scheme == scheme]}
        for subject in SUBJECTS
        for scheme in others
    ]


def _name_year(start: int) -> str:
    return f"{start}-{(start + 1) % 100:02}"


def _make_instant(day: date, hour: int) -> str:
    return datetime.combine(day, time(hour), UTC).isoformat()


def make_judgements(everybody: list[DemoPupil], now: datetime, seed: int = SEED) -> list[Body]:
    """Returns bodies of `record_judgements`, one for each window and school. No entry is recorded after `now`."""
    random = Random(seed)  # noqa: S311
    bodies = []
    for window in WINDOWS:
        by_school: dict[int, list[Body]] = {school.urn: [] for school in SCHOOLS}
        for pupil in everybody:
            school, status = _find_school(pupil, window)
            if school is not None:
                by_school[school.urn] += _make_entries(pupil, school, status, window, now, random)
        bodies += [
            {"school": {"urn": urn}, "window": window.code, "entries": entries} for urn, entries in by_school.items() if entries
        ]
    return bodies


def _find_school(pupil: DemoPupil, window: DemoWindow) -> tuple[DemoSchool | None, str | None]:
    """Returns the school that records a pupil's entries in a window, and the status that it records in place of grades."""
    at_census, at_end = pupil.find_main_spell(window.census_on), pupil.find_main_spell(window.days[1])
    if window.start - pupil.entry not in window.years or (at_census is None and at_end is None):
        return None, None
    if at_end is None:
        assert at_census is not None
        return at_census.school, None if window is KS2 else "left"
    return at_end.school, "new" if at_census is None else None


def _make_entries(
    pupil: DemoPupil, school: DemoSchool, status: str | None, window: DemoWindow, now: datetime, random: Random
) -> list[Body]:
    """Returns a pupil's entries: one for each subject, except those not recorded yet while the window is open."""
    first, last = window.days
    day = first + timedelta(random.randrange((last - first).days + 1))
    absent = random.random() < 0.008
    exempt = pupil.characteristics["sen"] == "E" and random.random() < 0.2
    entries = []
    for subject in SUBJECTS:
        form, missing = pupil.draw_form(subject, random), not window.closed and random.random() < 0.04
        entry: Body = {
            "reference": pupil.reference,
            "subject": subject,
            "recordedAt": min(datetime.combine(day, time(15, 30), UTC), now).isoformat(),
            "actor": f"staff-{school.urn % 10}{window.start - pupil.entry:02}",
            "source": "mis",
            "method": "test" if window is KS2 and subject != "writing" else "teacher-assessment",
        }
        if window is KS2:
            entry["grade"] = "A" if absent else WRITING.grade(subject, form) if subject == "writing" else _make_score(form)
        elif status_code := status or ("exempt" if exempt else "absent" if absent else None):
            entry["status"] = status_code
        else:
            entry["grade"] = IN_YEAR[school.scheme].grade(subject, form)
        if not missing or status is not None:
            entries.append(entry)
    return entries


def make_targets(everybody: list[DemoPupil], seed: int = SEED) -> list[Body]:
    """Returns bodies of `record_targets`, one for each school: targets of both Year 6s for key stage 2, and of all
    others for the end of this year, which families may see."""
    random = Random(seed)  # noqa: S311
    by_school: dict[int, list[Body]] = {school.urn: [] for school in SCHOOLS}
    for pupil in everybody:
        for window, set_on in ((KS2, date(2025, 9, 26)), (AUTUMN, date(2026, 9, 25))):
            spell, year = pupil.find_main_spell(window.census_on), window.start - pupil.entry
            if spell is None or year not in window.years:
                continue
            common: Body = {
                "reference": pupil.reference,
                "recordedAt": _make_instant(set_on, 16),
                "actor": f"staff-{spell.school.urn % 10}00",
            }
            for subject in SUBJECTS:
                target_form = pupil.ability + pupil.lean[subject] + random.uniform(0.0, 0.35)
                targets = [
                    ("end-of-year", "teacher", spell.school.scheme, IN_YEAR[spell.school.scheme].grade(subject, target_form))
                ]
                if year == 6:
                    targets = targets if window is AUTUMN else []
                    targets.append(("KS2", "prior-attainment", *_make_ks2_target(subject, target_form)))
                by_school[spell.school.urn] += [
                    {
                        **common,
                        "subject": subject,
                        "horizon": {"academicYear": _name_year(window.start), "point": point},
                        "grade": grade,
                        "scheme": scheme,
                        "basis": basis,
                        "visibility": "family" if basis == "teacher" else "school",
                    }
                    for point, basis, scheme, grade in targets
                ]
    return [{"school": {"urn": urn}, "entries": entries} for urn, entries in by_school.items()]


def _make_ks2_target(subject: str, form: float) -> tuple[str, str]:
    """Returns the scheme and the target grade, which is never a low score."""
    if subject == "writing":
        return WRITING.code, WRITING.grade(subject, max(form, -1.0))
    return SCORES, _make_score(max(form, -1.6))
