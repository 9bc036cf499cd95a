"""Generates the demonstration's judgements and targets: bodies for the commands, the same for the same seed and day.

In the open window recording is in progress: one value in twenty-five is missing. Whoever left after the census day is
marked `left`, whoever came after it `new`. Targets are for the end of the year and, in Year 6, for key stage 2. Of the
pupils who are judged some are above, on and below their target, one in eight has none, and at Wrenlow those of Year 3
are set in another scheme than the school judges in. Families, schools, the trust and staff see those of different years.

Attainment depends on a pupil's ability, the lean towards each subject and the day's form. Disadvantage and special
educational needs lower it about as much as in the published national results (Department for Education, "Key stage 2
attainment").
"""

from datetime import UTC, date, datetime, time, timedelta
from random import Random

from api.demo.school_data import SCHOOLS, SEED, WRENLOW, Body, DemoPupil, DemoSchool
from api.demo.story import Story
from api.demo.window_data import IN_YEAR, SCORES, SUBJECTS, WRITING, DemoWindow, list_windows


def _make_score(form: float) -> str:
    """Returns a key stage 2 scaled score, 80 to 120 with a mean of 105, or B for a pupil working below the level of the
    test."""
    return "B" if form < -2.4 else str(max(80, min(120, round(105 + 7.5 * form))))


def make_judgements(everybody: list[DemoPupil], story: Story, now: datetime, seed: int = SEED) -> list[Body]:
    """Returns bodies of `record_judgements`, one for each window and school. No entry is recorded after `now`."""
    random = Random(seed)  # noqa: S311
    bodies = []
    for window in list_windows(story):
        if window.term.stage == "planned":
            continue
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
    at_census, at_end = pupil.find_main_spell(window.term.census_on), pupil.find_main_spell(window.term.days[1])
    if window.start - pupil.entry not in window.years or (at_census is None and at_end is None):
        return None, None
    if at_end is None:
        assert at_census is not None
        return at_census.school, None if window.template else "left"
    return at_end.school, "new" if at_census is None else None


def _make_entries(
    pupil: DemoPupil, school: DemoSchool, status: str | None, window: DemoWindow, now: datetime, random: Random
) -> list[Body]:
    """Returns a pupil's entries: one for each subject, except those not recorded yet while the window is open."""
    first, last = window.term.days
    year = window.start - pupil.entry
    day = first + timedelta(random.randrange((last - first).days + 1))
    absent = random.random() < 0.008
    exempt = pupil.characteristics["sen"] == "E" and random.random() < 0.2
    entries = []
    for subject in window.subjects:
        form, missing = pupil.draw_form(subject, random), not window.is_closed and random.random() < 0.04
        entry: Body = {
            "reference": pupil.reference,
            "subject": subject,
            "recordedAt": min(datetime.combine(day, time(15, 30), UTC), now).isoformat(),
            "actor": f"staff-{school.urn % 10}{year:02}",
            "source": "mis",
            "method": "test" if window.template and subject != "writing" else "teacher-assessment",
        }
        if window.template:
            score = WRITING.grade(subject, form, year) if subject == "writing" else _make_score(form)
            entry["grade"] = "A" if absent else score
        elif status_code := status or ("exempt" if exempt else "absent" if absent else None):
            entry["status"] = status_code
        else:
            entry["grade"] = IN_YEAR[school.scheme].grade(subject, form, year)
        if not missing or status is not None:
            entries.append(entry)
    return entries


def make_targets(everybody: list[DemoPupil], story: Story, now: datetime, seed: int = SEED) -> list[Body]:
    """Returns bodies of `record_targets`, one for each school: targets of both Year 6s for key stage 2, and of all others for
    the end of this year."""
    random = Random(seed)  # noqa: S311
    by_school: dict[int, list[Body]] = {school.urn: [] for school in SCHOOLS}
    windows = {window.code: window for window in list_windows(story)}
    former, present = windows[f"{story.name_year(1)}/KS2"], windows[f"{story.name_year()}/Autumn"]
    for pupil in everybody:
        for window in (former, present):
            spell, year = pupil.find_main_spell(window.term.census_on), window.start - pupil.entry
            if spell is None or year not in window.years or random.random() < 1 / 8:
                continue
            set_at = min(datetime.combine(date(window.start, 9, 25), time(16), UTC), now)
            common: Body = {
                "reference": pupil.reference,
                "recordedAt": set_at.isoformat(),
                "actor": f"staff-{spell.school.urn % 10}00",
            }
            for subject in SUBJECTS:
                form = pupil.ability + pupil.lean[subject] + random.uniform(0.0, 0.35)
                by_school[spell.school.urn] += [
                    {
                        **common,
                        "subject": subject,
                        "horizon": {"academicYear": story.name_year(story.start - window.start), "point": point},
                        **target,
                    }
                    for point, target in _list_targets(spell.school, subject, form, year, window is present)
                ]
    return [{"school": {"urn": urn}, "entries": entries} for urn, entries in by_school.items()]


def _list_targets(school: DemoSchool, subject: str, form: float, year: int, is_present: bool) -> list[tuple[str, Body]]:
    """Returns a pupil's targets in a subject, each with its point of the year; those of the last year are for the tests alone."""
    targets: list[tuple[str, Body]] = []
    if is_present:
        scheme = "wts-exs-gds" if school is WRENLOW and year == 3 else school.scheme
        basis, visibility = {4: ("aspiration", "staff"), 5: ("benchmark", "trust")}.get(year, ("teacher", "family"))
        grade = IN_YEAR[scheme].grade(subject, form, year)
        targets.append(("end-of-year", {"grade": grade, "scheme": scheme, "basis": basis, "visibility": visibility}))
    if year == 6:
        scheme, grade = _make_ks2_target(subject, form)
        targets.append(("KS2", {"grade": grade, "scheme": scheme, "basis": "prior-attainment", "visibility": "school"}))
    return targets


def _make_ks2_target(subject: str, form: float) -> tuple[str, str]:
    """Returns the scheme and the target grade, which is never a low score."""
    if subject == "writing":
        return WRITING.code, WRITING.grade(subject, max(form, -1.0), 6)
    return SCORES, _make_score(max(form, -1.6))
