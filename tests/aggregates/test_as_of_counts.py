"""Figures as of a day, and of one school by class: as of today they are those of now in every grouping; of a day before they are what a hand counts."""

import json
from collections import Counter
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import msgspec
import pytest

from domain.aggregates.dimensions import DIMENSIONS
from domain.support import clock
from tests.aggregates.conftest import INTERNAL, KS2, READ, SPRING, CountedData
from tests.fixtures.clock import freeze_clock
from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.sizes import choose_size
from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, batch, entry, issues, judged, opened, roll, sent

OWN = {"trust": {"groupUid": TRUST}}
DAY, LATER = datetime(2026, 10, 20, 9, tzinfo=UTC), datetime(2026, 11, 20, 9, tzinfo=UTC)
BEFORE, ARRIVED, CORRECTED = "2026-10-25", "2026-10-25T23:30:00Z", "2026-11-05T00:00:00Z"
TERM = {"academicYear": "2026-27", "censusOn": "2026-10-01", "opensAt": "2027-01-05T08:00:00Z"}
CODE, AUTUMN = "2026-27/Autumn", "2026-27/Other"
SUBJECTS, PUPILS = ("reading", "writing", "maths"), 14
GRADES = [{"code": str(n), "label": str(n), "rank": n, "expected": n > 2, "higher": n > 4, "value": n} for n in range(1, 6)]
FIRST: dict[tuple[int, str], int | None] = {
    (n, subject): 1 + (n * 7 + at * 3) % 5 for n in range(PUPILS) for at, subject in enumerate(SUBJECTS)
}
"""The grade of each pupil as it arrived first."""
CHANGED: dict[tuple[int, str], int | None] = {
    (0, "reading"): 5,
    (1, "reading"): 1,
    (2, "maths"): 5,
    (3, "writing"): None,
    (9, "reading"): 4,
}
"""What the grades of some are corrected to; None: withdrawn."""
MOVED, DISCOUNTED = 12, 13
SINCE = [{"from": "2022-09-01", "status": "C"}]
CLASSES = {"6A": range(5), "6B": range(5, 10), "Choir": range(3), "F1": (4, 5)}
KINDS = {"6A": "class", "6B": "class", "Choir": "adhoc", "F1": "registration"}
OTHERS = [name for name in DIMENSIONS if name not in ("subject", "window", "class")]


async def test_as_of_today_is_now_in_every_grouping(counted_data: CountedData) -> None:
    """Of three tenants without a scale: small schools, characteristics, conjunctions, several schemes and windows."""
    caller = await counted_data.caller(*((tenant, INTERNAL) for tenant in ("Hedgerow", "Meadow", "Quay")))
    by_two = [("school", "sex"), ("disadvantaged", "sen"), *combinations(OTHERS, 2)]
    for names in [(), *((name,) for name in OTHERS), *by_two[: choose_size(2, len(by_two))]]:
        more = {"window": SPRING if names == ("yearGroup",) else KS2} if names else {}
        group_by = ",".join((*names, "subject", *(() if more else ("window",))))
        now, then = [
            await counted_data.page(caller, groupBy=group_by, first=1000, **more, **on) for on in ({}, {"asOf": clock.read_today()})
        ]
        assert now.data
        assert (then.data, then.excluded, then.coverage) == (now.data, now.excluded, now.coverage), (names, more)
    assert (then.basis.judgements, then.basis.as_of, now.basis.as_of) == ("as-of", str(clock.read_today()), None)


async def test_it_covers_the_schools_of_which_each_child_may_be_counted(counted_data: CountedData) -> None:
    caller = await counted_data.caller(("Fern", INTERNAL), ("Reed", READ), ("Moss", INTERNAL), ("Moss", READ))
    page = await counted_data.page(caller, groupBy="school,subject", window=KS2, asOf=clock.read_today())
    assert {row.school_name for row in page.data} == {"Fern", "Moss"}
    assert page.coverage.schools == 2
    text = msgspec.json.encode(page).decode()
    assert "Reed" not in text


@pytest.fixture
def fill_trust() -> Filling:
    return fill_two_schools


async def fill_two_schools(trust: Trust) -> None:
    """Oak with classes and Elm, judged in schemes of their own; of Oak's pupils one was judged at Elm, and one is discounted."""
    client = await register_vendor(trust)
    for scheme in ("ours", "theirs"):
        await sent(client, "/v1/schemes", {"tenant": OWN, "code": scheme, "name": scheme, "grades": GRADES}, 201)
    with freeze_clock(DAY):
        pupils = [entry(n, dateOfBirth="2016-01-01", enrolments=SINCE) for n in range(PUPILS)]
        at_elm = {"from": "2022-09-01", "to": "2026-10-08", "status": "C", "leavingReason": "Moved"}
        early = entry(MOVED, dateOfBirth="2016-01-01", enrolments=[at_elm])
        await sent(
            client,
            "/v1/pupils",
            roll("Elm", [early, *(entry(n, dateOfBirth="2016-01-01", enrolments=SINCE) for n in range(20, 23))], asOf="2026-09-30"),
        )
        late = entry(MOVED, dateOfBirth="2016-01-01", enrolments=[{"from": "2026-10-09", "status": "C"}])
        in_order = [pupil for pupil in pupils if pupil["reference"] != f"P{MOVED}"]
        await sent(client, "/v1/pupils", roll("Oak", [*in_order, late], asOf="2026-10-12"))
        groups = [
            {
                "code": code,
                "name": code,
                "kind": KINDS[code],
                "members": [{"reference": f"P{n}", "from": "2026-09-02"} for n in members],
            }
            for code, members in CLASSES.items()
        ]
        body = {"school": {"urn": URNS["Oak"]}, "academicYear": "2026-27", "asOf": "2026-10-12", "entries": groups}
        await sent(client, "/v1/groups", body)
        ids = {}
        for code, day in ((AUTUMN, "2026-10-01"), (CODE, "2026-10-14")):
            collects = [
                {"subject": subject, "scheme": scheme, "schools": [{"urn": URNS[school]}]}
                for subject in SUBJECTS
                for school, scheme in (("Oak", "ours"), ("Elm", "theirs"))
            ]
            ids[code] = await opened(client, code, collects=collects, closesAt="2027-07-31T17:00:00Z", **TERM | {"censusOn": day})
        rows = [judged(n, subject, str(grade)) for (n, subject), grade in FIRST.items() if n != MOVED]
        await sent(client, "/v1/judgements", batch("Oak", rows, window=CODE))
        await sent(client, "/v1/judgements", batch("Elm", [judged(n, grade="4") for n in (20, 21)], window=CODE))
        # entered at Oak in the scheme of Elm, which the pupil brought along
        brought = [judged(MOVED, subject, str(FIRST[MOVED, subject])) for subject in SUBJECTS]
        await sent(client, "/v1/judgements", batch("Oak", brought, window=CODE))
        theirs = "SELECT v.no FROM scheme_versions v JOIN schemes m ON m.id = v.scheme_id AND m.code = 'theirs'"
        mine = f"SELECT id FROM pupils WHERE surname = 'Surname{MOVED}'"
        await trust.operator.execute(f"UPDATE judgements SET scheme_version_no = ({theirs}) WHERE pupil_id = ({mine})")
        numbers = await trust.operator.fetchrow("SELECT tenant_id, array_agg(DISTINCT no) AS nos FROM windows GROUP BY tenant_id")
        school_ids = [trust.ids[name] for name in ("Oak", "Elm")]
        await trust.operator.execute("SELECT rebuild_cells($1, $2, $3)", numbers["tenant_id"], school_ids, numbers["nos"])
        why = {"pupil": {"reference": f"P{DISCOUNTED}"}, "reason": "Admitted from abroad", "author": "Head"}
        await sent(client, f"/v1/windows/{ids[CODE]}/discounts", {"school": {"urn": URNS["Oak"]}} | why, 201)


async def correct(trust: Trust, client: Any) -> dict[tuple[int, str], int | None]:
    """Corrects some grades, weeks after all arrived; returns what stands."""
    await trust.operator.execute(f"UPDATE judgements SET received_at = '{ARRIVED}'")
    rows = [
        {"reference": f"P{n}", "subject": subject} | ({"grade": str(grade)} if grade else {"grade": None, "withdrawn": True})
        for (n, subject), grade in CHANGED.items()
    ]
    await sent(client, "/v1/judgements", batch("Oak", rows, window=CODE))
    await trust.operator.execute(f"UPDATE judgement_history SET until = '{CORRECTED}'")
    return FIRST | CHANGED


def count(stands: dict[tuple[int, str], int | None], subject: str, pupils: Any) -> tuple[int, ...]:
    """By hand: how many are eligible, have a grade, and are at least 3 and at least 5; of rwm in all three."""
    parts = SUBJECTS if subject == "rwm" else (subject,)
    grades = [[stands[n, part] for part in parts] for n in pupils if n != DISCOUNTED]
    whole = [[grade for grade in each if grade is not None] for each in grades if None not in each]
    return (len(grades), len(whole), *(sum(all(grade >= least for grade in each) for each in whole) for least in (3, 5)))


FIGURES = ("eligible", "valid", "expected", "higher")
ROW = "subject schoolName classId classCode eligible valid expected higher expectedOf higherOf average coveragePercent discounted status"


async def read(client: Any, **params: Any) -> Any:
    """A page, the same in both interfaces."""
    response = await client.get("/v1/aggregates", params={"first": 1000} | params)
    assert response.status_code == 200, response.text
    page = response.json()
    words = {name: str(value).split(",") if name == "groupBy" else value for name, value in params.items()}
    arguments = ", ".join(
        f"{name}: " + (f"[{', '.join(value)}]" if name == "groupBy" else json.dumps(value)) for name, value in words.items()
    )
    query = f"{{ aggregates(first: 1000, {arguments}) {{ nodes {{ {ROW} }} basis {{ judgements asOf crosswalksOn }} }} }}"
    told = (await asked(client, query))["aggregates"]
    assert told["nodes"] == [{name: row[name] for name in ROW.split()} for row in page["data"]]
    assert told["basis"] == {name: page["basis"][name] for name in ("judgements", "asOf", "crosswalksOn")}
    return page


async def check_every_grouping(client: Any) -> None:
    for names in ((), ("school",), ("sex",), ("school", "yearGroup")):
        params = {"groupBy": ",".join((*names, "subject")), "window": CODE}
        now, then = await read(client, **params), await read(client, **params, asOf="2026-11-20")
        assert all(then[name] == now[name] for name in ("data", "excluded", "coverage")), names
        assert any(row["discounted"] for row in now["data"])


async def test_a_day_before_is_what_a_hand_counts_after_corrections(small_trust: Trust, vendor: Any) -> None:
    with freeze_clock(LATER):
        stands = await correct(small_trust, vendor)
        table = {"window": CODE, "school": URNS["Oak"], "groupBy": "subject"}
        for scaled in (False, True):
            for day, right in (("2026-11-20", stands), (BEFORE, FIRST), ("2026-11-04", FIRST)):
                rows = {row["subject"]: row for row in (await read(vendor, **table, asOf=day))["data"]}
                for subject in (*SUBJECTS, "rwm"):
                    figures = tuple(rows[subject][name] for name in FIGURES)
                    assert figures == count(right, subject, range(PUPILS)), (scaled, day, subject)
            nothing = {row["subject"]: row for row in (await read(vendor, **table, asOf="2026-10-24"))["data"]}
            assert all((row["eligible"], row["valid"], row["status"]) == (PUPILS - 1, 0, "x") for row in nothing.values())
            await check_every_grouping(vendor)
            if not scaled:
                await sign_scale(vendor)


async def sign_scale(vendor: Any) -> None:
    """A scale that places the grades as they place themselves; the days before have it by `crosswalksOn` alone."""
    signed = {"name": "Ada Okafor", "role": "director of education"}
    bands = [{"code": code, "label": code} for code in ("below", "at", "above")]
    scale = {"tenant": OWN, "name": "Ours", "bands": bands, "expectedFrom": "at", "higherFrom": "above"}
    scale_id = (await sent(vendor, "/v1/common-scales", scale, 201))["id"]
    await sent(vendor, f"/v1/common-scales/{scale_id}/sign", signed)
    lines = [{"grade": str(n), "band": "below" if n < 3 else "at" if n < 5 else "above"} for n in range(1, 6)]
    for scheme in ("ours", "theirs"):
        walk = await sent(vendor, "/v1/crosswalks", {"tenant": OWN, "scheme": scheme, "grades": lines}, 201)
        await sent(vendor, f"/v1/crosswalks/{walk['id']}/sign", signed)


async def test_senseless_days_are_refused_with_the_place(small_trust: Trust, vendor: Any) -> None:
    with freeze_clock(LATER):
        good = {"window": CODE, "subject": "reading", "groupBy": "school"}
        portal = await small_trust.client("portal", "trust:4128=aggregates:read")
        for client, more, status, right in (
            (vendor, {"asOf": "2026-11-21"}, 400, {"asOf": "parameter-invalid"}),
            (vendor, {"asOf": "2026-11-31", "first": "0"}, 400, {"asOf": "parameter-invalid", "first": "parameter-invalid"}),
            (vendor, {"asOf": "2026-10-24", "view": "public"}, 400, {"asOf": "parameter-invalid"}),
            (vendor, {"asOf": "2026-10-19"}, 422, {"asOf": "window-not-open"}),
            (vendor, {"asOf": "0001-01-01"}, 422, {"asOf": "window-not-open"}),
            (portal, {"asOf": "2026-10-24"}, 403, {"asOf": "scope-missing"}),
        ):
            response = await client.get("/v1/aggregates", params=good | more)
            assert (response.status_code, issues(response.json())) == (status, right), more
        query = '{ aggregates(window: "%s", groupBy: [school, subject], asOf: "%s") { nodes { eligible } } }'
        for day in ("2026-11-21", "2026-10-19"):
            answer = (await vendor.post("/graphql", json={"query": query % (CODE, day)})).json()
            assert answer["errors"][0]["extensions"]["problem"]["issues"][0]["at"] == "asOf"
        first = await vendor.get("/v1/aggregates", params=good | {"asOf": "2026-10-26", "format": "csv"})
        assert first.status_code == 200
        assert "Oak" in first.text


async def test_a_school_divides_its_own_figures_by_class(small_trust: Trust, vendor: Any) -> None:
    head = await small_trust.client("head", f"school:{URNS['Oak']}=aggregates:internal,aggregates:read", "trust:4128=windows:read")
    with freeze_clock(LATER):
        stands = await correct(small_trust, vendor)
        for day, right in ((None, stands), (BEFORE, FIRST)):
            page = await read(head, window=CODE, groupBy="class,subject", **({"asOf": day} if day else {}))
            found = {(row["classCode"], row["subject"]): tuple(row[name] for name in FIGURES) for row in page["data"]}
            in_none = [n for n in range(PUPILS) if not any(n in CLASSES[code] for code in ("6A", "6B", "F1"))]
            members = {code: CLASSES[code] for code in ("6A", "6B", "F1")} | {None: in_none}
            assert found == {
                (code, subject): count(right, subject, pupils) for code, pupils in members.items() for subject in (*SUBJECTS, "rwm")
            }
            assert [row["classCode"] for row in page["data"][::4]] == ["6A", "6B", "F1", None], "in their order, those in none last"
            assert page["coverage"] == {"schools": 1, "contributing": 1}
        by_sex = await read(head, window=CODE, subject="reading", groupBy="class,sex")
        assert Counter(row["classCode"] for row in by_sex["data"]) == dict.fromkeys(("6A", "6B", "F1", None), 2)
        part = {"window": CODE, "groupBy": "subject,class"}
        first = (await head.get("/v1/aggregates", params=part | {"first": 5})).json()
        rest = await head.get("/v1/aggregates", params=part | {"after": first["page"]["endCursor"]})
        assert len(first["data"]) + len(rest.json()["data"]) == 16


async def test_nobody_else_and_no_file_divides_by_class(small_trust: Trust, vendor: Any) -> None:
    oak, elm, scope = f"school:{URNS['Oak']}", f"school:{URNS['Elm']}", "aggregates:internal"
    question: dict[str, Any] = {"window": CODE, "subject": "reading", "groupBy": "class"}
    allowed = await small_trust.client("allowed", f"{oak}={scope}")
    refused: list[tuple[Any, dict[str, Any]]] = [
        (vendor, {}),
        (vendor, {"school": URNS["Oak"]}),
        (await small_trust.client("two", f"{oak}={scope}", f"{elm}={scope}"), {"school": URNS["Oak"]}),
        (await small_trust.client("wide", f"{oak}={scope}", "trust:4128=aggregates:read"), {}),
        (await small_trust.client("reader", f"{oak}=aggregates:read"), {}),
        (await small_trust.client("trust", f"trust:4128={scope}"), {"school": URNS["Oak"]}),
        (await small_trust.client("schools", f"schools={scope}"), {"school": URNS["Oak"]}),
        (allowed, {"view": "public"}),
        (allowed, {"format": "csv"}),
        (allowed, {"format": "csv", "shape": "wide", "groupBy": "school,Class"}),
    ]
    for client, more in refused:
        response = await client.get("/v1/aggregates", params=question | more)
        assert response.status_code == 422, (more, response.text)
        assert issues(response.json()) == {"groupBy": "teacher-comparison-not-supported"}, more
    in_file = await allowed.get("/v1/aggregates", params=question, headers={"Accept": "text/csv"})
    assert in_file.status_code == 422
    assert (await allowed.get("/v1/aggregates", params=question)).status_code == 200
    moves = {"from": AUTUMN, "to": CODE, "subject": "reading", "groupBy": "class"}
    assert (await allowed.get("/v1/aggregates/transitions", params=moves)).status_code == 422
    query = f'{{ aggregates(window: "{CODE}", subject: "reading", groupBy: [class]) {{ nodes {{ classCode eligible }} }} }}'
    assert len((await asked(allowed, query))["aggregates"]["nodes"]) == 4
    answer = (await vendor.post("/graphql", json={"query": query})).json()
    assert answer["errors"][0]["extensions"]["problem"]["issues"][0]["code"] == "teacher-comparison-not-supported"
    # the function of the database refuses by itself
    async with small_trust.database.without_caller() as connection:
        caller = await small_trust.value("SELECT id FROM clients WHERE name LIKE 'trust%' LIMIT 1")
        numbers = await small_trust.operator.fetchrow("SELECT tenant_id, array_agg(no) AS nos FROM windows GROUP BY 1")
        async with connection.transaction():
            await connection.execute("SELECT set_config('markonce.caller', $1, true)", str(caller))
            arguments = (numbers["tenant_id"], numbers["nos"], [small_trust.ids["Oak"]])
            found = [
                await connection.fetchval("SELECT count(*) FROM count_rows($1, $2, $3, NULL, $4)", *arguments, by_class)
                for by_class in (False, True)
            ]
    assert found[0] > 0 == found[1]
