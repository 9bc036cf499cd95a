"""A discounted pupil leaves the published figures of a window; internal readers see both."""

from typing import Any

import pytest_asyncio

from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import TRUST, URNS, WINDOW, Trust, asked, at, batch, counted, issues, judged, sent

REASON = {"reason": "Admitted from abroad", "author": "Head"}
SUBJECTS = ("reading", "writing", "maths", "rwm")


async def find_window(client: Any) -> str:
    return str((await client.get("/v1/windows", params={"code": WINDOW, "fields": "id"})).json()["data"][0]["id"])


async def discount(client: Any, number: int, status: int = 201, school: str = "Oak", **more: Any) -> Any:
    body = {"school": {"urn": URNS[school]}, "pupil": {"reference": f"P{number}"}} | REASON | more
    return await sent(client, f"/v1/windows/{await find_window(client)}/discounts", body, status)


async def read_rows(client: Any, by: str = "subject", **more: str) -> dict[str, dict[str, Any]]:
    """The rows of main subjects, by subject."""
    answer = (await client.get("/v1/aggregates", params={"window": WINDOW, "groupBy": by, **more})).json()
    return {row["subject"]: row for row in answer["data"] if row["subject"] in SUBJECTS}


@pytest_asyncio.fixture
async def judge(vendor: Any) -> Any:
    """All of Oak judged: pupil 0 higher in everything, the others at the expected standard."""
    rows = [judged(n, subject, 115 if n == 0 else 100) for n in range(10) for subject in ("reading", "maths")]
    rows += [judged(n, "writing", "GDS" if n == 0 else "EXS") for n in range(10)]
    await sent(vendor, "/v1/judgements", batch("Oak", rows))
    return vendor


async def test_internal_readers_see_both_figures_and_others_the_published(small_trust: Trust, judge: Any) -> None:
    portal = await small_trust.client("portal", f"trust:{TRUST}=aggregates:read")
    before = await read_rows(judge, school=str(URNS["Oak"]))
    made = await discount(judge, 0)
    assert (made["inForce"], made["version"]) == (True, 1)
    assert await miscounted(small_trust) == (0, 0, 0)
    after = await read_rows(judge, school=str(URNS["Oak"]))
    for subject in SUBJECTS:
        was, row = before[subject], after[subject]
        assert (was["eligible"], was["valid"], was["expected"], was["higher"], was["discounted"]) == (10, 10, 10, 1, None)
        assert (row["eligible"], row["valid"], row["expected"], row["higher"], row["discounted"]) == (9, 9, 9, 0, 1)
        figures = ("eligible", "valid", "expected", "expectedPercent", "higher", "higherPercent", "average")
        assert {name: row[f"{name}WithDiscounted"] for name in figures} == {name: was[name] for name in figures}
        assert row["average"] == (None if subject in ("writing", "rwm") else 100.0)
    for by in ("subject,sex", "subject,school", "subject,yearGroup,disadvantaged"):
        rows = (await judge.get("/v1/aggregates", params={"window": WINDOW, "groupBy": by, "first": "1000"})).json()["data"]
        of_reading = [row for row in rows if row["subject"] == "reading"]
        assert (sum(row["discounted"] or 0 for row in of_reading), sum(row["eligible"] for row in of_reading)) == (1, 12), by
    public = (await read_rows(portal))["reading"]
    assert (public["eligible"], public["discounted"], public["eligibleWithDiscounted"]) == (12, None, None)
    assert (await read_rows(judge, view="public"))["reading"]["discounted"] is None
    shown = "edges { node { discounted eligibleWithDiscounted } }"
    query = f'query ($w: String) {{ aggregates(window: $w, groupBy: [subject], subject: "reading") {{ {shown} }} }}'
    (edge,) = (await asked(judge, query, w=WINDOW))["aggregates"]["edges"]
    assert edge["node"] == {"discounted": 1, "eligibleWithDiscounted": 13}


async def test_a_discount_follows_corrections_of_the_roll_and_of_judgements(small_trust: Trust, judge: Any) -> None:
    await discount(judge, 0)
    await sent(judge, "/v1/judgements", batch("Oak", [judged(0, grade=90), judged(0, "maths", None, status="left")]))
    assert await miscounted(small_trust) == (0, 0, 0)
    row = await read_rows(judge, school=str(URNS["Oak"]))
    assert (row["reading"]["eligible"], row["reading"]["expectedWithDiscounted"], row["reading"]["discounted"]) == (9, 9, 1)
    assert (row["maths"]["eligible"], row["maths"]["discounted"]) == (9, None)
    apart = "SELECT t::text FROM discounted_cells t WHERE n <> 0 ORDER BY 1"
    before = await small_trust.operator.fetch(apart)
    tenant, no = small_trust.ids["trust"], await small_trust.value("SELECT no FROM windows WHERE code = $1", WINDOW)
    schools = [small_trust.ids[name] for name in ("Oak", "Elm", "Ash")]
    await small_trust.operator.execute("SELECT rebuild_cells($1, $2, $3)", tenant, schools, [no])
    assert await small_trust.operator.fetch(apart) == before
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_it_is_read_back_and_withdrawn(small_trust: Trust, judge: Any) -> None:
    made, before = await discount(judge, 1, author="Deputy"), await read_rows(judge)
    listed = (await judge.get(f"/v1/windows/{await find_window(judge)}/discounts")).json()["data"]
    (row,) = listed
    assert {name: row[name] for name in ("id", "windowCode", "reason", "author", "withdrawnAt", "withdrawnBy", "version")} == {
        "id": made["id"], "windowCode": WINDOW, "reason": "Admitted from abroad", "author": "Deputy",
        "withdrawnAt": None, "withdrawnBy": None, "version": 1,
    }  # fmt: skip
    assert (await judge.get(f"/v1/discounts/{made['id']}")).json() == row
    assert issues(await discount(judge, 1, 409)) == {"/pupil": "discount-exists"}
    path = f"/v1/discounts/{made['id']}/withdraw"
    assert issues(await sent(judge, path, {}, 422)) == {"/author": "required"}
    assert await sent(judge, path, {"author": "Head"}) == {"id": made["id"], "inForce": False, "version": 2}
    assert (await sent(judge, path, {"author": "Head"}, 409))["type"].endswith("/discount-withdrawn")
    row = (await judge.get(f"/v1/discounts/{made['id']}")).json()
    assert (row["withdrawnBy"], row["withdrawnAt"] > row["createdAt"], row["version"]) == ("Head", True, 2)
    after = await read_rows(judge)
    assert (before["rwm"]["eligible"], after["rwm"]["eligible"], after["rwm"]["discounted"]) == (12, 13, None)
    assert await miscounted(small_trust) == (0, 0, 0)
    await discount(judge, 1)


async def test_who_may_discount_and_read_it(small_trust: Trust, judge: Any) -> None:
    made = await discount(judge, 1)
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=windows:write,windows:read,pupils:read")
    await discount(elm, 1, 404, school="Elm")  # windows are the trust's
    await sent(elm, f"/v1/discounts/{made['id']}/withdraw", {"author": "x"}, 404)
    assert (await elm.get("/v1/discounts")).json()["data"] == []
    trust = await small_trust.client("trust", f"trust:{TRUST}=windows:write,windows:read", f"school:{URNS['Elm']}=pupils:read")
    assert issues(await discount(trust, 99, 422)) == {"/pupil/reference": "pupil-not-found"}
    assert (await trust.get("/v1/discounts?fields=id")).json()["data"] == []
    staff = await small_trust.client("staff", f"trust:{TRUST}=windows:read,pupils:read")
    (row,) = (await staff.get("/v1/discounts")).json()["data"]
    assert {"author", "withdrawnBy", "reason"}.isdisjoint(row)
    for name in ("reason", "author", "withdrawnBy"):
        assert (await staff.get(f"/v1/discounts?fields={name}")).status_code == 403
    portal = await small_trust.client("portal", f"trust:{TRUST}=windows:read")
    assert (await portal.get("/v1/discounts?fields=id")).status_code == 403
    await sent(portal, f"/v1/windows/{await find_window(portal)}/discounts", {"pupil": {"reference": "P2"}} | REASON, 403)


async def test_who_decided_is_reported_at_the_school_that_recorded_it(small_trust: Trust, judge: Any) -> None:
    """With audit:read, wherever it stands; the school that the pupil comes to does not learn it. It is no filter and no order."""
    made = await discount(judge, 1, author="Deputy of Oak")
    assert counted(await sent(judge, "/v1/pupils", at("Elm", {"from": "2018-05-20", "status": "C"}, day="2018-05-25")))
    oak, elm = [
        await small_trust.client(name, f"school:{URNS[name]}=all", f"trust:{TRUST}=windows:read") for name in ("Oak", "Elm")
    ]
    both = await small_trust.client("both", f"trust:{TRUST}=all")
    window = await find_window(judge)
    paths = ("/v1/discounts", f"/v1/windows/{window}/discounts")
    query = "query ($id: ID!) { discounts { nodes { author withdrawnBy } } node(id: $id) { ... on Discount { author } } discount(id: $id) { author } }"

    async def read_all(client: Any) -> set[Any]:
        rows = [row for path in paths for row in (await client.get(path)).json()["data"]]
        rows.append((await client.get(f"/v1/discounts/{made['id']}")).json())
        found = await asked(client, query, id=made["id"])
        rows += [*found["discounts"]["nodes"], found["node"], found["discount"]]
        assert len(rows) == 6
        return {row["author"] for row in rows}

    assert await read_all(elm) == {None}
    assert await read_all(both) == {"Deputy of Oak"}
    assert (await oak.get("/v1/discounts")).json()["data"] == []  # the pupil is another school's now
    await sent(judge, f"/v1/discounts/{made['id']}/withdraw", {"author": "Head of Elm"})
    row = (await elm.get(f"/v1/discounts/{made['id']}")).json()
    assert (row["author"], row["withdrawnBy"]) == (None, "Head of Elm")
    assert (await both.get(f"/v1/discounts/{made['id']}")).json() | {"version": 2} == row | {"author": "Deputy of Oak"}
    for name in ("author", "withdrawnBy"):
        assert (
            (await both.get(f"/v1/discounts?{name}=x")).status_code
            == (await both.get(f"/v1/discounts?sort={name}")).status_code
            == 400
        )
    older = await discount(judge, 2)
    await small_trust.operator.execute("UPDATE discounts SET recorded_at_school_id = NULL WHERE id = $1", older["id"])
    assert (await both.get(f"/v1/discounts/{older['id']}?fields=author,id")).json()[
        "author"
    ] is None  # nobody knows where an older program recorded it


async def test_it_moves_with_the_pupil_and_a_locked_window_takes_none(small_trust: Trust, judge: Any) -> None:
    await discount(judge, 1)
    assert counted(await sent(judge, "/v1/pupils", at("Elm", {"from": "2018-05-20", "status": "C"}, day="2018-05-25")))
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    assert [row["reason"] for row in (await elm.get("/v1/discounts")).json()["data"]] == ["Admitted from abroad"]
    assert await miscounted(small_trust) == (0, 0, 0)
    await small_trust.operator.execute("UPDATE windows SET state = 'locked'")
    await discount(judge, 2, 409)
