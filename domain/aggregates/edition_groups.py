"""The rows of editions as groups of pupils, which then become rows of an answer as those of any other do."""

from collections.abc import Iterable, Iterator, Mapping

from domain.aggregates.aggregate_rows import AggregateEdition, UnpublishedWindow
from domain.aggregates.disclosure import Reason
from domain.aggregates.edition_figures import EditionFigures
from domain.aggregates.editions import Covered, CoveredWindow, EditionRow, find_dividing
from domain.aggregates.groups import PupilGroup
from domain.aggregates.query import AggregateQuery
from domain.aggregates.results import Categories, GroupFacts, GroupKey, PupilCounts
from domain.roster.years import format_academic_year


def make_stored_groups(
    query: AggregateQuery, covered: Covered, rows: Iterable[EditionRow], numbers: Mapping[tuple[str, str], int]
) -> Iterator[PupilGroup]:
    """Yields a group for each subject of each row. `numbers` are those of subjects, by tenant and code, in whose order they are shown."""
    windows = {window.publication_id: window for window in covered.windows}
    schools = {school.id: school for school in covered.schools}
    dimension = find_dividing(query)
    for row in rows:
        window = windows[row.publication_id]
        school = schools.get(row.school_id or "") if query.school or "school" in query.group_by else None
        year = format_academic_year(window.academic_year)
        for subject in window.subjects or ():
            if query.subject not in (None, subject) or (row.figures is not None and subject not in row.figures):
                continue
            key = GroupKey(school.id if school else None, subject, window.code, year, row.year_group or None, None)
            facts = GroupFacts(
                row.schools, False, 0, numbers.get((window.tenant_id, subject), 0), window.census_on, window.tenant_id
            )
            if school is not None:
                facts.urn, facts.name = school.urn, school.name
            categories = Categories(**({dimension: row.category} if dimension else {}))
            hidden: Reason | None = "complement" if row.figures is None else None
            counts = PupilCounts() if row.figures is None else make_counts(row.figures[subject])
            yield PupilGroup(key, categories, facts, counts, hidden, edition=row.edition or window.no)


def make_counts(figures: EditionFigures) -> PupilCounts:
    """Returns the counts that a stored row has: a standard that the schemes of its schools do not have is of nobody."""
    eligible, valid = figures.eligible, figures.valid
    counts = PupilCounts(eligible, eligible, valid, figures.expected or 0, figures.higher or 0)
    counts.expected_of = 0 if figures.expected is None else eligible
    counts.higher_of = 0 if figures.higher is None else eligible
    if figures.hundredths is not None:
        counts.valued, counts.hundredths = valid, figures.hundredths
    counts.judged = valid > 0
    return counts


def list_editions(covered: Covered) -> list[AggregateEdition]:
    """The editions that rows are of."""
    return [
        AggregateEdition(
            publication_id=window.publication_id,
            window=window.code,
            academic_year=format_academic_year(window.academic_year),
            edition=window.no,
            kind=window.kind,
            frozen_at=window.frozen_at,
            published_at=window.published_at,
        )
        for window in _order(covered.windows)
        if window.publication_id and window.no and window.kind and window.frozen_at and window.published_at
    ]


def list_unpublished(covered: Covered) -> list[UnpublishedWindow]:
    """The windows that are left out."""
    return [
        UnpublishedWindow(
            window=window.code,
            academic_year=format_academic_year(window.academic_year),
            reason="withdrawn" if window.state == "withdrawn" else "not-published",
            due_at=window.due,
        )
        for window in _order(covered.windows)
        if not window.publication_id
    ]


def _order(windows: Iterable[CoveredWindow]) -> list[CoveredWindow]:
    return sorted(windows, key=lambda window: (window.census_on, window.code))
