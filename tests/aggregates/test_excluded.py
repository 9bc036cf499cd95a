"""Which schools an answer leaves out and why, and the public view: against the data of conftest, and against readers who look for what is hidden."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from domain.aggregates.aggregate_rows import AggregatePage
from domain.declare.errors import Forbidden
from tests.aggregates.conftest import INTERNAL, KS2, READ, SPRING, URNS, CountedData
from tests.fixtures.sizes import choose_size

EVERYTHING = tuple((name, INTERNAL) for name in ("Hedgerow", "Meadow", "Quay", "Pond"))
PUBLIC = tuple((name, READ) for name, _ in EVERYTHING)
GROUPINGS = ("subject", "school,subject", "subject,window", "school,subject,disadvantaged", "subject,sex", "subject,yearGroup")[
    : choose_size(3, 6)
]
"""From totals and from cells, with the school and without; all of them in `make attack`."""


def reasons(page: AggregatePage) -> dict[str, str]:
    assert page.coverage.schools - page.coverage.contributing == len(page.excluded)
    assert [school.school_urn for school in page.excluded] == [URNS[school.school_name] for school in page.excluded]
    return {school.school_name: school.reason for school in page.excluded}


async def everywhere(counted_data: CountedData, caller: Any, **asked: Any) -> dict[str, str]:
    """What is excluded, the same by whatever it is grouped."""
    told = [reasons(await counted_data.page(caller, groupBy=by, **asked)) for by in GROUPINGS]
    assert all(each == told[0] for each in told)
    return told[0]


@asynccontextmanager
async def changed(counted_data: CountedData, tenant: str, *statements: str) -> AsyncIterator[None]:
    """With other judgements or pins in a tenant ($1) and its cells counted again; put back afterwards."""
    tables = ("judgements", "pins")
    kept = {
        table: await counted_data.operator.fetch(f"SELECT t FROM {table} t WHERE tenant_id = $1", counted_data.ids[tenant])
        for table in tables
    }
    schools = [
        row["id"]
        for row in await counted_data.operator.fetch("SELECT id FROM schools WHERE tenant_id = $1", counted_data.ids[tenant])
    ]

    async def count() -> None:
        await counted_data.operator.execute("SELECT rebuild_cells($1, $2, $3)", counted_data.ids[tenant], schools, [1, 2])

    try:
        for statement in statements:
            await counted_data.operator.execute(statement, counted_data.ids[tenant])
        await count()
        yield
    finally:
        for table, rows in kept.items():
            await counted_data.operator.execute(f"DELETE FROM {table} WHERE tenant_id = $1", counted_data.ids[tenant])
            columns = list(rows[0]["t"].keys())
            places = ", ".join(f"${i + 1}" for i in range(len(columns)))
            await counted_data.operator.executemany(
                f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", [tuple(row["t"]) for row in rows]
            )
        await count()


def of_school(counted_data: CountedData, name: str) -> str:
    return f"tenant_id = $1 AND school_id = '{counted_data.ids[name]}'"


# --- reasons


async def test_each_school_left_out_has_its_reason(counted_data: CountedData) -> None:
    manager = await counted_data.caller(*EVERYTHING)
    science = await everywhere(counted_data, manager, subject="science", window=KS2)
    assert science == {name: "nothing-judged" if name == "Oak" else "not-collected" for name in URNS}
    assert await everywhere(counted_data, manager, subject="writing", window=KS2) == {"Reed": "nothing-judged"}
    assert await everywhere(counted_data, manager, subject="rwm", window=KS2) == {"Reed": "nothing-judged"}
    assert await everywhere(counted_data, manager, window=KS2) == {}
    pin = (
        f"INSERT INTO pins SELECT $1, 2, '{counted_data.ids['Moss']}', subject_no, 0, scheme_version_no FROM pins"
        f" WHERE {of_school(counted_data, 'Fern')} AND window_no = 2"
    )
    assert await everywhere(counted_data, manager, subject="reading", window=SPRING) == {"Moss": "not-collected"}
    async with changed(counted_data, "Meadow", pin):
        assert await everywhere(counted_data, manager, subject="reading", window=SPRING) == {"Moss": "nobody-eligible"}
        assert await everywhere(counted_data, manager, window=SPRING) == {"Moss": "nobody-eligible"}
        assert await everywhere(counted_data, manager, subject="rwm", window=SPRING) == dict.fromkeys(
            ("Fern", "Moss", "Reed"), "not-collected"
        )


async def test_schools_with_no_such_window_are_asked_about_only_by_name(counted_data: CountedData) -> None:
    manager = await counted_data.caller(*EVERYTHING)
    asked = {"groupBy": "subject", "subject": "reading", "window": SPRING}
    assert "Quay" not in reasons(await counted_data.page(manager, **asked))
    page = await counted_data.page(manager, **asked, school=[URNS["Quay"], URNS["Fern"]])
    assert reasons(page) == {"Quay": "not-collected"}
    assert (page.coverage.schools, page.coverage.contributing) == (2, 1)


async def test_a_school_that_was_not_in_the_trust_has_that_reason(counted_data: CountedData) -> None:
    manager = await counted_data.caller(*EVERYTHING)
    assert await everywhere(counted_data, manager, window=KS2, trust="4128") == {"Ash": "not-a-member"}
    named = await counted_data.page(manager, groupBy="subject", window=KS2, trust="4128", school=[URNS["Oak"], URNS["Quay"]])
    assert reasons(named) == {"Quay": "not-a-member"}
    assert await everywhere(counted_data, manager, window=SPRING, trust="4129") == {"Moss": "not-collected"}


async def test_a_school_that_contributes_in_one_window_is_not_left_out(counted_data: CountedData) -> None:
    manager = await counted_data.caller(("Meadow", INTERNAL))
    assert reasons(await counted_data.page(manager, groupBy="subject,window")) == {}
    writing = await counted_data.page(manager, groupBy="window", subject="writing")
    assert reasons(writing) == {"Reed": "nothing-judged"}


async def test_only_what_is_within_reach_is_reported(counted_data: CountedData) -> None:
    page = await counted_data.page(await counted_data.caller(("Fern", INTERNAL)), groupBy="subject", subject="science", window=KS2)
    assert reasons(page) == {"Fern": "not-collected"}


# --- readers who look for what is hidden


async def test_a_small_school_is_never_reported_to_be_unjudged_or_empty(counted_data: CountedData) -> None:
    """Moss (four pupils) and Fern, among whom it hides: judged, not judged, or out of the count, the portal hears the same."""
    portal, manager = await counted_data.caller(*PUBLIC), await counted_data.caller(*EVERYTHING)
    of_moss = f"{of_school(counted_data, 'Moss')} AND window_no = 1"
    of_either = f"school_id IN ('{counted_data.ids['Moss']}', '{counted_data.ids['Fern']}') AND tenant_id = $1 AND window_no = 1"
    reading = "(SELECT no FROM subjects WHERE tenant_id = $1 AND code = 'reading')"
    out = f"""UPDATE judgements j SET grade_no = g.no FROM grades g WHERE g.tenant_id = $1 AND g.scheme_version_no = j.scheme_version_no
        AND NOT g.eligible AND j.{of_moss.replace(" AND ", " AND j.")} AND j.subject_no = {reading}"""
    unjudged = {
        f"DELETE FROM judgements WHERE {of_moss}": ("Moss", "nothing-judged"),
        f"DELETE FROM judgements WHERE {of_either}": ("Fern", "nothing-judged"),
        out.replace("NOT g.eligible", "g.code = 'M'"): ("Moss", "nobody-eligible"),
    }
    questions = [{"groupBy": by, "window": KS2, "subject": "reading"} for by in GROUPINGS if by != "subject,window"]
    questions += [{**asked, **more} for asked in questions for more in ({"trust": "4129"}, {"school": [URNS["Moss"], URNS["Oak"]]})]

    async def heard(caller: Any) -> list[tuple[dict[str, str], Any]]:
        pages = [await counted_data.page(caller, **asked) for asked in questions]
        return [(reasons(page), page.coverage) for page in pages]

    before = await heard(portal)
    for statement, (school, reason) in unjudged.items():
        async with changed(counted_data, "Meadow", statement):
            assert await heard(portal) == before
            assert reasons(await counted_data.page(manager, groupBy="subject", window=KS2, subject="reading"))[school] == reason
    assert await heard(portal) == before


@pytest.mark.parametrize("grants", [PUBLIC, PUBLIC[:1], PUBLIC[1:2], (("Moss", READ),), (("Fern", INTERNAL), ("Meadow", READ))])
async def test_no_more_is_reported_of_a_school_than_by_its_rows(
    counted_data: CountedData, grants: tuple[tuple[str, str], ...]
) -> None:
    portal = await counted_data.caller(*grants)
    for window in (KS2, SPRING):
        rows = [row for row in await counted_data.rows(portal, groupBy="school,subject,window") if row.window == window]
        for subject in ("reading", "writing", "maths", "rwm", "science"):
            told = {row.school_name: row.status for row in rows if row.subject == subject}
            if window == SPRING and "Meadow" not in dict(grants) and "Moss" not in dict(grants):
                continue
            for name, reason in (await everywhere(counted_data, portal, subject=subject, window=window)).items():
                expected = {"nothing-judged": "x", "nobody-eligible": "z"}.get(reason)
                assert told.get(name) in (expected, None)
                assert reason != "nothing-judged" or told[name] == "x"


# --- the public view


@pytest.mark.parametrize("by", ["school", "school,sex", "sex", "disadvantaged,sen", "school,sex,disadvantaged"])
async def test_the_public_view_is_the_portals_answer_and_the_reasons(counted_data: CountedData, by: str) -> None:
    manager, portal = await counted_data.caller(*EVERYTHING), await counted_data.caller(*PUBLIC)
    for more in ({}, {"trust": "4129"}, {"school": [URNS["Moss"], URNS["Oak"]]}, {"school": URNS["Fern"]}):
        asked = {"groupBy": by, "subject": "reading", "window": KS2, "first": 1000, **more}
        seen, view, own = [
            await counted_data.page(who, **asked, view=as_) for who, as_ in ((portal, "own"), (manager, "public"), (manager, "own"))
        ]
        assert [msgspec.structs.replace(row, reason=None) for row in view.data] == seen.data
        assert (view.excluded, view.coverage) == (seen.excluded, seen.coverage)
        assert all(row.reason is None for row in (*seen.data, *own.data))
        for row, whole in zip(view.data, own.data, strict=True):
            assert (row.reason is not None) == (row.status == "c")
            assert row.reason != "primary" or 0 < (whole.eligible or 0) < 6
            assert row.reason is None or row.reason == "primary" or not 0 < (whole.eligible or 0) < 6 or more.get("school")


async def test_the_public_view_needs_every_school_that_hides_or_is_hidden(counted_data: CountedData) -> None:
    """Fern's own staff may not ask why Fern is hidden: the reason would say that Moss is small."""
    asked = {"groupBy": "school", "subject": "reading", "window": KS2, "view": "public"}
    for grants, token in (
        (PUBLIC, [READ, INTERNAL]),
        (EVERYTHING, [READ]),
        ((("Fern", INTERNAL), ("Moss", READ), ("Reed", INTERNAL)), [READ, INTERNAL]),
    ):
        caller = await counted_data.caller(*grants, token=token)
        for more in ({}, {"school": URNS["Fern"]}):
            with pytest.raises(Forbidden, match="aggregates:internal"):
                await counted_data.page(caller, **asked, **more)
    alone = await counted_data.page(await counted_data.caller(("Fern", INTERNAL)), **asked)
    assert [row.status for row in alone.data] == [None]
