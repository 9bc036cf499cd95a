"""The demonstration's schemes, common scale and windows: bodies for the commands.

- Three schemes: three schools mark WTS/EXS/GDS; the infant and the junior school Below / Just at / At / Above; Wrenlow
  counts points in a scheme of its own, for which there is no crosswalk, so that no percentage holds it.
- A common scale that is signed, with the crosswalks of the first two schemes; a further one of the second is a draft.
- Two academic years of windows: autumn, spring, summer and the key stage 2 tests. Those whose time is over are closed,
  that of the present season is open, the others are planned. A reading check for Years 3 and 4 is beyond the workload
  budget, and says the three reasons.
"""

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from api.demo.school_data import GROUP_UID, SCHOOLS, WRENLOW, Body
from api.demo.story import Story, Term, make_instant
from domain.assessment.seasons import SEASON

SUBJECTS = ("reading", "writing", "maths")
TENANT: Body = {"trust": {"groupUid": GROUP_UID}}


@dataclass(frozen=True)
class DemoScheme:
    """A scheme, copied from the template with the same code: of the trust, or of one school, `owner`. `cuts` are the boundaries
    between its grades in each subject, in standard deviations; points have none. `bands` are those of the common scale.
    """

    code: str
    name: str
    grades: tuple[str, ...] = ()
    cuts: dict[str, tuple[float, ...]] = field(default_factory=dict)
    bands: tuple[str, ...] = ()
    owner: Body | None = None

    def grade(self, subject: str, form: float, year: int) -> str:
        """Returns the grade of a pupil of a year group who does so well."""
        if not self.cuts:
            return str(max(0, min(60, round(3 * year - 1 + 1.6 * form))))  # three points a year
        return self.grades[bisect_right(self.cuts[subject], form)]


IN_YEAR = {
    scheme.code: scheme
    for scheme in (
        DemoScheme(
            "wts-exs-gds",
            "Working towards, expected, greater depth",
            ("WTS", "EXS", "GDS"),
            {"reading": (-0.55, 0.9), "writing": (-0.5, 1.1), "maths": (-0.55, 0.95)},
            ("towards", "at", "deeper"),
        ),
        DemoScheme(
            "below-at-above",
            "Below, just at, at, above age-related expectation",
            ("Below", "Just at", "At", "Above"),
            {"reading": (-0.6, -0.1, 0.95), "writing": (-0.5, 0.0, 1.15), "maths": (-0.6, -0.1, 1.0)},
            ("towards", "at", "at", "deeper"),
        ),
        DemoScheme("points", "Points, three a year", owner=WRENLOW.ref),
    )
}
WRITING = DemoScheme("ks2-writing-ta", "", ("PK3", "PK4", "WTS", "EXS", "GDS"), {"writing": (-2.6, -2.2, -0.6, 1.1)})
SCORES = "ks2-scaled-score"
SCALE: Body = {
    "tenant": TENANT,
    "name": "Larkfield common scale",
    "bands": [
        {"code": "towards", "label": "Working towards what is expected"},
        {"code": "at", "label": "At what is expected"},
        {"code": "deeper", "label": "Beyond it, in depth"},
    ],
    "expectedFrom": "at",
    "expectedLabel": "on track",
    "higherFrom": "deeper",
    "higherLabel": "in depth",
}
SIGNATURE: Body = {"name": "Imogen Achterberg", "role": "director of education"}
DRAFT = "below-at-above", ("towards", "towards", "at", "deeper")
"""The scheme and the bands of the crosswalk that waits for a signature: just at the expectation would not be enough any more."""


@dataclass(frozen=True)
class DemoWindow:
    """The values of a `create_window` body, beside those that it inherits from the window of its kind."""

    code: str
    name: str
    start: int
    term: Term
    years: range
    subjects: tuple[str, ...] = SUBJECTS
    template: str | None = None
    reasons: Body = field(default_factory=dict)

    @property
    def is_closed(self) -> bool:
        return self.term.stage == "closed"

    def find_closing(self, now: datetime) -> datetime:
        """The last day; for the open window three weeks later, and at least three weeks from now."""
        closing = datetime.combine(self.term.days[1], time(17), UTC)
        return max(closing, now) + timedelta(21) if self.term.stage == "open" else closing


_REASONS: dict[str, Body] = {
    "autumn": {
        "purpose": "Teachers' judgement before the pupil progress meetings of the autumn.",
        "audience": "Teachers and the leaders of each school.",
        "decision": "Which pupils get tutoring in the spring, and in which subject.",
    },
    "spring": {
        "purpose": "Teachers' judgement half-way through the year.",
        "audience": "Teachers and the leaders of each school.",
        "decision": "Whose tutoring goes on in the summer, and whose ends.",
    },
    "summer": {
        "purpose": "Teachers' judgement at the end of the year, for the annual report to parents.",
        "audience": "Parents, and the teachers of next year.",
        "decision": "Who gets support from September, and what next year's teachers start from.",
    },
}
_CHECK: Body = {
    "purpose": "A check of the reading groups half-way through the spring term.",
    "audience": "The teachers of Years 3 and 4 and the reading leads.",
    "decision": "Who leaves the catch-up reading groups, and who joins them.",
    "frequencyReasons": {
        "actions": "The reading groups are made anew at half term, since places in them are few.",
        "timeToSetAndAnalyse": "Twenty minutes a class; the judgement is of reading alone, and nothing is typed twice.",
        "timeToAct": "Six weeks: a group lasts from half term to Easter.",
    },
}


def list_windows(story: Story) -> list[DemoWindow]:
    """Returns the windows of the last academic year and of this one, in the order in which they are made."""
    return [window for start in (story.start - 1, story.start) for window in _list_windows_of_year(story, start)]


def _list_windows_of_year(story: Story, start: int) -> list[DemoWindow]:
    year = story.name_year(story.start - start)
    made = []
    for season in SEASON.words:
        label = f"{season.title()} {start if season == 'autumn' else start + 1}"
        years = range(1, 6) if season == "summer" else range(1, 7)  # Year 6 has the tests
        term = story.plan_season(season, start)
        made.append(DemoWindow(f"{year}/{season.title()}", label, start, term, years, reasons=_REASONS[season]))
    tests = f"Key stage 2 tests and writing {start + 1}"
    made.append(DemoWindow(f"{year}/KS2", tests, start, story.plan_tests(start), range(6, 7), template="KS2"))
    if start == story.start:
        day = date(start + 1, 2, 2)
        term = story.plan_between(day, (day + timedelta(7), day + timedelta(11)))
        made.append(
            DemoWindow(
                f"{year}/Reading check", f"Reading check {start + 1}", start, term, range(3, 5), ("reading",), reasons=_CHECK
            )
        )
    return made


def make_schemes() -> list[Body]:
    """Returns bodies of `create_scheme`."""
    return [
        {**({"tenant": TENANT} if s.owner is None else {"school": s.owner}), "code": s.code, "name": s.name, "template": s.code}
        for s in IN_YEAR.values()
    ]


def make_crosswalk(code: str, bands: tuple[str, ...]) -> Body:
    """Returns a body of `create_crosswalk`."""
    lines = [{"grade": grade, "band": band} for grade, band in zip(IN_YEAR[code].grades, bands, strict=True)]
    return {"tenant": TENANT, "scheme": code, "grades": lines}


def make_windows(story: Story, now: datetime) -> list[Body]:
    """Returns bodies of `create_window`. What was recorded before a window closed is accepted until tomorrow."""
    return [
        {
            "tenant": TENANT,
            "code": window.code,
            "name": window.name,
            "academicYear": story.name_year(story.start - window.start),
            "censusOn": window.term.census_on.isoformat(),
            "opensAt": make_instant(window.term.days[0], 8),
            "closesAt": window.find_closing(now).isoformat(),
            "acceptUntil": (max(window.find_closing(now), now) + timedelta(1)).isoformat() if window.is_closed else None,
            **({"template": window.template} if window.template else window.reasons),
            "yearGroups": [str(year) for year in window.years],
            "collects": _list_collected(window),
        }
        for window in list_windows(story)
    ]


def _list_collected(window: DemoWindow) -> list[Body]:
    if window.template is not None:
        return [{"subject": subject, "scheme": WRITING.code if subject == "writing" else SCORES} for subject in window.subjects]
    common, *others = IN_YEAR
    return [{"subject": subject, "scheme": common} for subject in window.subjects] + [
        {"subject": subject, "scheme": scheme, "schools": [school.ref for school in SCHOOLS if school.scheme == scheme]}
        for subject in window.subjects
        for scheme in others
    ]
