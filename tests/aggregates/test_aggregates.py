"""Aggregates against pupils counted by hand: percentages, RWM, averages, what is null and why, who may see what, dated membership, paging."""

from dataclasses import replace
from datetime import timedelta
from itertools import groupby
from typing import Any

import msgspec
import pytest

from domain.aggregates.aggregate_rows import AggregateRow
from domain.aggregates.groups import compute_average, compute_percent
from domain.aggregates.query import read_query
from domain.clients.clients import read_client_status
from domain.declare.errors import BadRequest, Forbidden, Invalid
from domain.declare.ids import new_id
from tests.aggregates.conftest import INTERNAL, KS2, READ, SPRING, URNS, Count, CountedData

HEDGEROW, MEADOW = ("Oak", "Elm", "Ash"), ("Fern", "Moss", "Reed")
EVERYTHING = tuple((name, INTERNAL) for name in ("Hedgerow", "Meadow", "Quay", "Pond"))
PUBLIC = tuple((name, READ) for name, _ in EVERYTHING)


def says(row: AggregateRow, count: Count) -> bool:
    """A row that is neither hidden nor empty nor unjudged says what was counted by hand."""
    assert row.status is None
    counts = (row.eligible, row.valid, row.expected, row.higher) == (count.eligible, count.valid, count.expected, count.higher)
    percentages = (row.expected_percent, row.higher_percent) == tuple(
        half_up(100 * n, count.eligible) for n in (count.expected, count.higher)
    )
    mean = None if count.mean is None else half_up(10 * count.mean.numerator, count.mean.denominator) / 10
    return counts and percentages and row.average == mean


def half_up(number: int, of: int) -> int:
    whole, rest = divmod(number, of)
    return whole + (2 * rest >= of)


def is_hidden(row: AggregateRow) -> bool:
    figures = (row.eligible, row.valid, row.expected, row.expected_percent, row.higher, row.higher_percent, row.average)
    assert row.coverage_percent == (half_up(100 * row.valid, row.eligible) if row.eligible and row.valid is not None else None)
    assert row.reason is None
    assert (row.status == "c") == all(figure is None for figure in figures)
    return row.status == "c"


# --- what is asked


def test_a_question_is_read_from_texts() -> None:
    question = read_query(
        [
            ("groupBy", "school,subject"),
            ("groupBy", "sex"),
            ("window", KS2),
            ("school", "100001"),
            ("school", "100002"),
            ("first", "7"),
        ]
    )
    assert question.group_by == ("school", "subject", "sex")
    assert (question.window, question.subject, question.trust, question.school, question.first) == (
        KS2,
        None,
        None,
        ("100001", "100002"),
        7,
    )


@pytest.mark.parametrize(
    ("given", "codes"),
    [
        ({"groupBy": "subject,windo"}, {"groupBy dimension-unknown", "window window-required"}),
        ({"groupBy": "sex", "window": "w\0"}, {"subject subject-required", "window parameter-invalid"}),
        ({"groupBy": "subject,window,sex,sen"}, {"groupBy dimensions-count"}),
        ({"groupBy": "subject,window,subject"}, {"groupBy dimension-repeated"}),
        ({"subject": "reading", "window": KS2}, {"groupBy dimensions-count"}),
        ({"groupBy": "subject,window", "first": "1001", "trsut": "1"}, {"first parameter-invalid", "trsut parameter-unknown"}),
        ({"groupBy": "subject", "window": [KS2, SPRING], "first": "-1"}, {"window parameter-repeated", "first parameter-invalid"}),
        ({"groupBy": "subject,window", "school": ["100001"] * 201}, {"school too-many-schools"}),
        ({"groupBy": "subject,window", "view": "theirs"}, {"view parameter-invalid"}),
    ],
)
def test_all_that_is_wrong_with_a_question_is_said_at_once(given: dict[str, Any], codes: set[str]) -> None:
    pairs = [(name, each) for name, value in given.items() for each in (value if isinstance(value, list) else [value])]
    with pytest.raises(BadRequest) as caught:
        read_query(pairs)
    assert {f"{issue.at} {issue.code}" for issue in caught.value.issues} == codes


def test_an_unknown_dimension_is_reported_with_the_nearest_one() -> None:
    with pytest.raises(BadRequest, match="1 parameter") as caught:
        read_query([("groupBy", "subject, yeargruop"), ("window", KS2)])
    assert "Did you mean yearGroup?" in caught.value.issues[0].message


@pytest.mark.parametrize("dimension", ["teacher", "Teachers", "classes", "group", "actor"])
def test_nobody_is_compared_by_teacher(dimension: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_query([("groupBy", f"{dimension},colour"), ("window", KS2)])
    assert caught.value.code == "teacher-comparison-not-supported"
    assert [issue.code for issue in caught.value.issues] == [
        "teacher-comparison-not-supported",
        "dimension-unknown",
        "subject-required",
    ]


# --- figures


@pytest.mark.parametrize(
    ("number", "of", "whole"), [(1, 8, 13), (1, 200, 1), (99, 200, 50), (1, 201, 0), (28, 64, 44), (0, 9, 0), (9, 9, 100)]
)
def test_percentages_are_rounded_half_up(number: int, of: int, whole: int) -> None:
    assert compute_percent(number, of) == whole


@pytest.mark.parametrize(
    ("hundredths", "of", "mean"), [(10025, 1, 100.3), (10024, 1, 100.2), (20010, 2, 100.1), (1, 7, 0.0), (-15, 1, -0.1)]
)
def test_averages_are_rounded_half_up(hundredths: int, of: int, mean: float) -> None:
    assert compute_average(hundredths, of) == mean


async def test_every_school_and_subject_is_as_counted_by_hand(counted_data: CountedData) -> None:
    rows = await counted_data.rows(await counted_data.caller(*EVERYTHING), groupBy="school,subject", window=KS2)
    judged = [row for row in rows if row.status is None]
    assert all(says(row, counted_data.count(row.subject or "", school=row.school_name)) for row in judged)
    assert {(row.school_name, row.subject) for row in rows if row.status == "x"} == {
        ("Oak", "science"),
        ("Reed", "writing"),
        ("Reed", "rwm"),
    }
    assert len(rows) == 4 * len(URNS) + 1
    assert all(
        (row.school_urn, row.academic_year, row.window, row.schools) == (URNS[row.school_name or ""], "2017-18", KS2, 1)
        for row in rows
    )


@pytest.mark.parametrize("kind", ["sex", "disadvantaged", "eal", "sen", "yearGroup"])
async def test_every_kind_of_pupils_is_as_counted_by_hand(counted_data: CountedData, kind: str) -> None:
    rows = await counted_data.rows(await counted_data.caller(*EVERYTHING), groupBy=f"school,subject,{kind}", window=KS2)
    field = {"yearGroup": "year_group"}.get(kind, kind)
    for row in rows:
        count = counted_data.count(row.subject or "", school=row.school_name, **{field: getattr(row, field)})
        assert row.eligible == count.eligible
        assert row.status is not None or says(row, count)
        assert (row.status == "z") == (count.eligible == 0)
    assert len({getattr(row, field) for row in rows}) == {"sex": 2, "disadvantaged": 3, "eal": 3, "sen": 3, "yearGroup": 1}[kind]
    groups = {(row.school_name, row.subject) for row in rows}
    assert len(rows) == len(groups) * len({getattr(row, field) for row in rows})  # every category everywhere


async def test_unknown_is_a_category_only_where_somebody_is_in_it(counted_data: CountedData) -> None:
    for trust, categories in (("Hedgerow", ["true", "false", "unknown"]), ("Meadow", ["true", "false"])):
        caller = await counted_data.caller((trust, INTERNAL))
        rows = await counted_data.rows(caller, groupBy="disadvantaged", subject="reading", window=KS2)
        assert [row.disadvantaged for row in rows] == categories


async def test_a_trust_pools_its_pupils(counted_data: CountedData) -> None:
    rows = await counted_data.rows(await counted_data.caller(("Meadow", INTERNAL)), groupBy="subject", window=KS2)
    assert [row.subject for row in rows] == ["reading", "writing", "maths", "rwm"]
    assert all(says(row, counted_data.count(row.subject or "", school=MEADOW)) for row in rows)
    assert {row.schools for row in rows} == {3}
    assert all(row.school_id is row.school_urn is row.school_name is row.sex is None for row in rows)
    reading = [counted_data.count("reading", school=school) for school in MEADOW]
    mean_of_percentages = half_up(sum(half_up(100 * each.expected, each.eligible) for each in reading), 3)
    assert rows[0].expected_percent != mean_of_percentages


async def test_an_average_over_several_schemes_is_none(counted_data: CountedData) -> None:
    caller = await counted_data.caller(("Meadow", INTERNAL))
    by_school = await counted_data.rows(caller, groupBy="school,yearGroup", subject="reading", window=SPRING)
    assert all(row.average is not None for row in by_school)
    for path in ("subject", "subject,yearGroup"):  # totals, cells
        assert {row.average for row in await counted_data.rows(caller, groupBy=path, window=SPRING)} == {None}


async def test_cells_and_totals_agree(counted_data: CountedData) -> None:
    summed = await counted_data.operator.fetch(
        "SELECT c.school_id, c.window_no, c.subject_no, COALESCE(sum(c.n) FILTER (WHERE COALESCE(g.eligible, true)), 0) AS eligible,"
        " COALESCE(sum(c.n) FILTER (WHERE g.expected), 0) AS expected, COALESCE(sum(c.n * g.value) FILTER (WHERE g.valid), 0) AS value_sum"
        " FROM cells c LEFT JOIN grades g ON g.tenant_id = c.tenant_id AND g.scheme_version_no = c.scheme_version_no AND g.no = c.grade_no"
        " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    )
    totals = await counted_data.operator.fetch(
        "SELECT school_id, window_no, subject_no, eligible, expected, value_sum FROM totals ORDER BY 1, 2, 3"
    )
    assert list(map(tuple, summed)) == list(map(tuple, totals))
    caller = await counted_data.caller(*EVERYTHING)
    from_totals = await counted_data.rows(caller, groupBy="school,subject", window=KS2)
    from_cells = await counted_data.rows(caller, groupBy="school,subject,yearGroup", window=KS2)
    assert [msgspec.structs.replace(row, year_group=None) for row in from_cells] == from_totals


# --- whose


async def test_membership_is_as_on_the_census_date(counted_data: CountedData) -> None:
    caller = await counted_data.caller(("Hedgerow", INTERNAL))
    of_trust = await counted_data.rows(caller, groupBy="school", subject="reading", window=KS2, trust="4128")
    assert [row.school_name for row in of_trust] == ["Oak", "Elm"]  # Ash joined later; of Oak no date is known
    everywhere = await counted_data.rows(caller, groupBy="school", subject="reading", window=KS2)
    assert [row.school_name for row in everywhere] == ["Oak", "Elm", "Ash"]
    (pooled,) = await counted_data.rows(
        caller, groupBy="subject", subject="reading", window=KS2, trust=counted_data.ids["Hedgerow"]
    )
    assert pooled.schools == 2
    assert says(pooled, counted_data.count("reading", school=("Oak", "Elm")))


async def test_a_school_counts_on_its_last_day_in_a_trust(counted_data: CountedData) -> None:
    caller = await counted_data.caller(("Quay", INTERNAL), ("Hedgerow", INTERNAL))
    asked = {"groupBy": "school", "subject": "maths", "window": KS2, "trust": "4128"}
    for last_day, members in ((0, ["Oak", "Elm", "Quay"]), (1, ["Oak", "Elm"])):
        on = (await counted_data.operator.fetchval("SELECT min(census_on) FROM windows WHERE code = $1", KS2)) - timedelta(
            days=last_day
        )
        membership = new_id(2)
        statement = "INSERT INTO memberships (id, trust_id, school_id, left_on) VALUES ($1, $2, $3, $4)"
        await counted_data.operator.execute(statement, membership, counted_data.ids["Hedgerow"], counted_data.ids["Quay"], on)
        rows = await counted_data.rows(caller, **asked)
        await counted_data.operator.execute("DELETE FROM memberships WHERE id = $1", membership)
        assert [row.school_name for row in rows] == members


async def test_another_tenants_caller_gets_nothing_of_it(counted_data: CountedData) -> None:
    caller = await counted_data.caller(("Meadow", INTERNAL))
    rows = await counted_data.rows(caller, groupBy="school,subject,window")
    assert {row.school_name for row in rows} == set(MEADOW)
    nobody = await counted_data.caller()
    with pytest.raises(Invalid):
        await counted_data.rows(nobody, groupBy="subject", window=KS2)
    assert await counted_data.rows(nobody, groupBy="subject,window") == []


async def test_absent_and_out_of_reach_are_refused_in_the_same_words(counted_data: CountedData) -> None:
    caller = await counted_data.caller(("Meadow", INTERNAL))
    told = []
    for given in (
        {
            "school": ["100001", str(counted_data.ids["Oak"]), "100004"],
            "trust": "4128",
            "window": "2016-17/KS2",
            "subject": "alchemy",
        },
        {"school": ["999999", str(new_id(3)), "Fern"], "trust": str(new_id(1)), "window": str(new_id(8)), "subject": "sorcery"},
    ):
        with pytest.raises(Invalid) as caught:
            await counted_data.rows(caller, groupBy="school", **given)
        told.append([(issue.at, issue.code, issue.message) for issue in caught.value.issues])
    assert [at for at, *_ in told[0]] == ["window", "subject", "trust", "school", "school"]
    assert told[1] == [*told[0], told[0][-1]]


async def test_a_window_is_found_by_its_id_too(counted_data: CountedData) -> None:
    caller = await counted_data.caller(*EVERYTHING)
    window_id = await counted_data.operator.fetchval(
        "SELECT id FROM windows WHERE code = $1 AND tenant_id = $2", KS2, counted_data.ids["Quay"]
    )
    (row,) = await counted_data.rows(caller, groupBy="school", subject="reading", window=window_id)
    assert (row.school_name, row.window) == ("Quay", KS2)


async def test_a_scope_is_needed_and_named(counted_data: CountedData) -> None:
    caller = await counted_data.caller(("Meadow", INTERNAL), token=["judgements:read"])
    with pytest.raises(Forbidden, match="aggregates:read or aggregates:internal"):
        await counted_data.rows(caller, groupBy="subject", window=KS2)


async def test_other_scopes_and_grants_out_of_force_count_no_school(counted_data: CountedData) -> None:
    caller = await counted_data.caller(("Fern", READ), ("Reed", "pupils:read"), ("Moss", READ))
    await counted_data.operator.execute(
        "UPDATE reach SET ends_at = now() WHERE client_id = $1 AND school_id = $2", caller.client_id, counted_data.ids["Moss"]
    )
    rows = await counted_data.rows(caller, groupBy="school", subject="reading", window=KS2)
    assert [row.school_name for row in rows] == ["Fern"]


# --- what is hidden


async def test_a_small_group_is_hidden_and_what_would_give_it_away(counted_data: CountedData) -> None:
    rows = await counted_data.rows(await counted_data.caller(*PUBLIC), groupBy="school,subject,sex", window=KS2)
    for (school, _), pair in groupby(rows, lambda row: (row.school_name, row.subject)):
        girls, boys = pair
        small = any(
            0 < counted_data.count(s, school=school, sex=sex).eligible < 6 for s in ("reading", "writing", "rwm") for sex in "FM"
        )
        assert not small or (is_hidden(girls) and is_hidden(boys))
    shown = [row for row in rows if not is_hidden(row)]
    assert shown
    assert all(
        row.status == "x" or says(row, counted_data.count(row.subject or "", school=row.school_name, sex=row.sex)) for row in shown
    )
    for subject in ("reading", "writing", "maths", "rwm"):  # within a trust, at least two schools are hidden or none
        for trust in (("Oak", "Elm"), MEADOW):
            assert (
                len(
                    [
                        row
                        for row in rows
                        if row.subject == subject and row.sex == "F" and row.school_name in trust and is_hidden(row)
                    ]
                )
                != 1
            )


async def test_a_school_is_hidden_among_those_whose_pooled_result_is_published(counted_data: CountedData) -> None:
    """Moss and Pond have fewer than six pupils: a school of the same trust, or authority, is hidden with each, and none of Hedgerow."""
    rows = await counted_data.rows(await counted_data.caller(*PUBLIC), groupBy="school", subject="reading", window=KS2)
    hidden = {row.school_name for row in rows if is_hidden(row)}
    assert hidden == {"Moss", "Fern", "Pond", "Ash"}


async def test_a_filter_changes_no_answer(counted_data: CountedData) -> None:
    """One school's page, one subject's, one trust's: each row says what it says in the whole answer."""
    caller = await counted_data.caller(*PUBLIC)
    whole = await counted_data.rows(caller, groupBy="school,subject,sex", window=KS2)
    for school, urn in URNS.items():
        mine = [row for row in whole if row.school_name == school]
        assert await counted_data.rows(caller, groupBy="school,subject,sex", window=KS2, school=urn) == mine
        assert await counted_data.rows(caller, groupBy="subject,sex", window=KS2, school=[urn, counted_data.ids[school]]) == mine
        assert await counted_data.rows(caller, groupBy="school,sex", window=KS2, subject="maths", school=urn) == [
            row for row in mine if row.subject == "maths"
        ]
    assert await counted_data.rows(caller, groupBy="school,subject,sex", window=KS2, trust="4129") == [
        row for row in whole if row.school_name in MEADOW
    ]


async def test_schools_pooled_by_name_reveal_no_more_than_each_of_them(counted_data: CountedData) -> None:
    caller = await counted_data.caller(*PUBLIC)

    async def pooled(*schools: str) -> AggregateRow:
        (row,) = await counted_data.rows(
            caller, groupBy="subject", subject="reading", window=KS2, school=[URNS[school] for school in schools]
        )
        assert (row.schools, row.school_id) == (len(schools), None)
        return row

    assert says(await pooled("Oak", "Reed"), counted_data.count("reading", school=("Oak", "Reed")))
    (science,) = await counted_data.rows(
        caller, groupBy="subject", subject="science", window=KS2, school=[URNS["Oak"], URNS["Elm"]]
    )
    assert (science.schools, science.school_id, science.school_urn, science.status) == (
        1,
        None,
        None,
        "x",
    )  # Elm does not collect it
    assert is_hidden(await pooled("Oak", "Reed", "Moss"))
    assert is_hidden(await pooled("Quay", "Fern"))


async def test_what_is_reached_internally_is_shown_and_hides_nothing_else(counted_data: CountedData) -> None:
    """The caller knows Fern's pupils. Pooled with Moss's four they would give those away; and Moss must hide behind Reed, not behind Fern."""
    caller = await counted_data.caller(("Fern", INTERNAL), ("Moss", READ), ("Reed", READ))
    rows = {row.school_name: row for row in await counted_data.rows(caller, groupBy="school", subject="reading", window=KS2)}
    assert says(rows["Fern"], counted_data.count("reading", school="Fern"))
    assert is_hidden(rows["Moss"])
    assert is_hidden(rows["Reed"])
    (both,) = await counted_data.rows(
        await counted_data.caller(("Fern", INTERNAL), ("Moss", READ)), groupBy="subject", subject="reading", window=KS2
    )
    assert is_hidden(both)
    (all_three,) = await counted_data.rows(caller, groupBy="subject", subject="reading", window=KS2)
    assert says(all_three, counted_data.count("reading", school=MEADOW))


async def test_internal_needs_the_grant_and_the_token(counted_data: CountedData) -> None:
    grants, asked = (("Moss", INTERNAL),), {"groupBy": "school", "subject": "reading", "window": KS2}
    (shown,) = await counted_data.rows(await counted_data.caller(*grants), **asked)
    assert says(shown, counted_data.count("reading", school="Moss"))
    (hidden,) = await counted_data.rows(await counted_data.caller(*grants, token=[READ]), **asked)
    assert is_hidden(hidden)
    (hidden,) = await counted_data.rows(await counted_data.caller(("Moss", READ), token=[INTERNAL]), **asked)
    assert is_hidden(hidden)


async def test_a_trust_may_raise_the_threshold(counted_data: CountedData) -> None:
    caller, asked = (
        await counted_data.caller(("Fern", READ), ("Quay", READ)),
        {"groupBy": "subject", "subject": "reading", "window": KS2},
    )
    fewest = min(
        counted_data.count(subject, school=("Fern", "Quay")).eligible for subject in ("reading", "writing", "maths", "rwm")
    )
    for threshold, hidden in ((fewest, False), (fewest + 1, True), (6, False)):
        await counted_data.operator.execute(
            "UPDATE tenants SET suppression_threshold = $2 WHERE id = $1", counted_data.ids["Meadow"], threshold
        )
        (row,) = await counted_data.rows(caller, **asked)
        assert is_hidden(row) == hidden


# --- how


@pytest.mark.parametrize("scope", [READ, INTERNAL])
@pytest.mark.parametrize(
    "asked",
    [
        {"groupBy": "subject,window"},
        {"groupBy": "school,subject", "window": KS2, "trust": "4129"},
        {"groupBy": "sex,disadvantaged,subject", "window": KS2, "school": ["100004", "100006"]},
    ],
)
async def test_one_data_statement_answers(counted_data: CountedData, scope: str, asked: dict[str, Any]) -> None:
    """Of a caller that reads everything; whether editions answer a reader is asked before."""
    caller = await counted_data.caller(("Meadow", scope))
    async with counted_data.database.without_caller() as connection:
        stands = await read_client_status(connection, caller.client_id)
    assert stands is not None
    caller, answers = replace(caller, snapshot=stands.snapshot), []
    for _ in range(8):  # PostgreSQL may settle on another plan after the fifth
        with counted_data.statements.counting() as data:
            answers.append(await counted_data.rows(caller, **asked))
        assert len(data) == (1 if scope == INTERNAL else 2)
    assert answers[0]
    assert all(answer == answers[0] for answer in answers)


async def test_rows_are_in_the_order_of_their_dimensions(counted_data: CountedData) -> None:
    caller = await counted_data.caller(*EVERYTHING)
    years = await counted_data.rows(caller, groupBy="yearGroup,school", subject="reading", window=SPRING)
    assert [(row.year_group, row.school_name) for row in years] == [
        (year, school) for year in ("N2", "R", "2", "10", "X") for school in ("Fern", "Reed")
    ]
    kinds = await counted_data.rows(caller, groupBy="subject,window,sex")
    subjects = ("reading", "writing", "maths", "rwm", "science")
    expected = [(subject, window, sex) for subject in subjects for window in (SPRING, KS2)[subject != "reading" :] for sex in "FM"]
    assert [(row.subject, row.window, row.sex) for row in kinds] == expected


async def test_pages_put_together_are_the_whole_answer(counted_data: CountedData) -> None:
    caller, asked = await counted_data.caller(*PUBLIC), {"groupBy": "school,sen,subject", "window": KS2}
    whole = await counted_data.page(caller, **asked, first=1000)
    assert not whole.page.has_more
    assert (len(whole.cursors), whole.cursors[-1]) == (len(whole.data), whole.page.end_cursor)
    read: list[AggregateRow] = []
    after: dict[str, str] = {}
    while True:
        page = await counted_data.page(caller, **asked, first=7, **after)
        read += page.data
        if not page.page.has_more or page.page.end_cursor is None:
            break
        after = {"after": page.page.end_cursor}
    assert read == whole.data
    assert set(msgspec.json.decode(msgspec.json.encode(page))) == {
        *("data", "page", "excluded", "coverage", "basis"),
        *("editions", "unpublished"),
    }
    following = await counted_data.page(caller, **asked, after=whole.cursors[4], first=1)
    assert following.data == whole.data[5:6]


async def test_a_cursor_is_for_one_client_and_question(counted_data: CountedData) -> None:
    caller, other = await counted_data.caller(*PUBLIC), await counted_data.caller(*PUBLIC)
    cursor = (await counted_data.page(caller, groupBy="school", subject="reading", window=KS2)).cursors[0]
    manager = await counted_data.caller(*EVERYTHING)
    own = (await counted_data.page(manager, groupBy="school", subject="reading", window=KS2)).cursors[0]
    for who, subject, view, after in (
        (other, "reading", "own", cursor),
        (caller, "maths", "own", cursor),
        (caller, "reading", "own", cursor[:-2]),
        (caller, "reading", "own", "é"),
        (manager, "reading", "public", own),
    ):
        with pytest.raises(BadRequest) as caught:
            await counted_data.page(who, groupBy="school", subject=subject, window=KS2, view=view, after=after)
        assert caught.value.code == "cursor-invalid"
