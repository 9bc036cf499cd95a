"""Planned complete rolls on their day: whom their rejected rows point to, and whom a later plan is about, stay on roll."""

from datetime import timedelta
from typing import Any

import pytest

from tests.fixtures.clock import set_clock
from tests.fixtures.ready_trusts import Filling
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import URNS, Trust, asked, counted, roll, sent, upn
from tests.roster.test_planned_rolls import AFTER, FIRST, JOINS, JUNE, STAYS, new, old, planned, record_roll_of_may, told

DAYS = ("2017-09-01", "2017-09-02", "2017-09-03")
WHOLE = {"complete": True, "maxLeavers": 100}
SPELLS = (
    "SELECT e.from_on::text, e.to_on::text FROM enrolments e JOIN upns u USING (tenant_id, pupil_id) WHERE u.upn = $1 ORDER BY 1"
)


@pytest.fixture
def fill_trust() -> Filling:
    return record_roll_of_may


@pytest.fixture
def oak(small_trust: Trust, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client of Oak, in June 2017: pupils 1 to 3 are on roll."""
    set_clock(monkeypatch, JUNE)
    return small_trust.made[1]


async def spells(here: Trust, number: int) -> list[tuple[str, str | None]]:
    return [tuple(row) for row in await here.operator.fetch(SPELLS, upn(number))]


async def count_of_day(client: Any, as_of: str = FIRST) -> dict[str, Any]:
    """What a complete planned roll tells of its day, the same in both interfaces."""
    fields = ("state", "rowCount", "updated", "rejected", "left", "issueCodes")
    query = f'{{ plannedRolls(where: {{complete: true, asOf: "{as_of}"}}) {{ nodes {{ {" ".join(fields)} }} }} }}'
    (node,) = (await asked(client, query))["plannedRolls"]["nodes"]
    path = f"/v1/planned-rolls?complete=true&asOf={as_of}&fields={','.join(fields)}"
    assert (await client.get(path)).json()["data"] == [node]
    return dict(node)


async def count_shown(client: Any) -> int:
    """How many planned rows are shown, each with its spells."""
    rows = (await client.get("/v1/planned-pupils?include=enrolments")).json()["data"]
    spells = (await client.get("/v1/planned-enrolments")).json()["data"]
    assert sum(len(row["enrolments"]["data"]) for row in rows) == len(spells)
    return len(rows)


async def ids_by_upn(client: Any) -> dict[str, str]:
    return {row["upn"]: row["id"] for row in (await client.get("/v1/pupils?fields=id,upn&roll=all")).json()["data"]}


@pytest.mark.parametrize("by_mutation", [False, True])
async def test_a_rejected_row_of_a_plan_keeps_whom_its_own_keys_point_to(
    small_trust: Trust,
    vendor: Any,
    oak: Any,
    monkeypatch: pytest.MonkeyPatch,
    by_mutation: bool,
) -> None:
    """By id, reference or UPN, whether the row breaks a rule or cannot be decoded; a joiner of the summer too."""
    await sent(oak, "/v1/pupils", roll("Oak", [old(n) for n in range(1, 8)], asOf="2017-05-01"))
    ids = await ids_by_upn(oak)
    without_keys = {name: value for name, value in new(3).items() if name not in ("reference", "upn")}
    rows = [
        new(1),
        new(2, upn=upn(80), dateOfBirth="2006-01-01"),
        without_keys | {"id": ids[upn(3)], "sex": "X"},
        without_keys | {"upn": upn(4), "yearGroup": "99"} if by_mutation else {"upn": upn(4), "unknown": 1},
        new(5, reference=" P5 ", upn=None, yearGroup="99"),
        new(9, reference="late", upn=upn(9), yearGroup="99"),
        new(10, reference="943 476 5919", upn=None, yearGroup="99"),
    ]
    body = roll("Oak", rows, asOf=FIRST, **WHOLE)
    if by_mutation:
        mutation = 'mutation($i: PupilBatchInput!) { recordPupils(input: $i, handling: "lenient") { rejected left } }'
        answer = (await asked(oak, mutation, i=body))["recordPupils"]
    else:
        answer = await sent(oak, "/v1/pupils", body, Prefer="handling=lenient")
    assert (answer["rejected"], answer["left"]) == (6, 2), answer
    stored = await small_trust.value(
        "SELECT regexp_replace(string_agg(s::text, ' '), '[0-9a-f-]{36}', 'id', 'g') FROM planned_stays s"
    )
    assert not any(text in stored for text in ("943", "Surname", "2006"))
    await sent(vendor, "/v1/pupils", roll("Oak", [new(9, reference="v9", yearGroup="5", **STAYS)], asOf="2017-06-01"))
    set_clock(monkeypatch, AFTER)
    assert set(await told(oak)) == {upn(n) for n in (1, 2, 3, 4, 5, 9)}
    told_of_day = await count_of_day(oak)
    assert {name: told_of_day[name] for name in ("state", "rowCount", "updated", "rejected", "left")} == {
        "state": "applied",
        "rowCount": 1,
        "updated": 1,
        "rejected": 6,
        "left": 2,
    }
    assert {"pupil-conflict", "year-group-invalid"} < set(told_of_day["issueCodes"])
    assert await small_trust.value("SELECT count(*) FROM planned_stays") == 0
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_row_that_is_rejected_on_the_day_and_one_before_are_counted_together(
    small_trust: Trust,
    oak: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = roll("Oak", [new(1), new(2, sex="X"), new(3)], asOf=FIRST, **WHOLE)
    await sent(oak, "/v1/pupils", body, Prefer="handling=lenient")
    row = (await sent(oak, "/v1/pupils/lookup", {"where": {"upn": [upn(1)]}}))["data"][0]
    for corrected in ({"dateOfBirth": "2006-02-02"}, {"forename": "Quentin"}):
        patch = await oak.patch(f"/v1/pupils/{row['id']}", json=corrected, headers={"If-Match": "*"})
        assert patch.status_code == 200, patch.text
    set_clock(monkeypatch, AFTER)
    assert set(await told(oak)) == {upn(1), upn(2), upn(3)}
    assert (await count_of_day(oak))["rejected"] == 2


async def test_a_new_identity_takes_what_a_rejected_row_named_it_by(
    small_trust: Trust,
    vendor: Any,
    oak: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = roll("Oak", [new(1, sex="X"), new(2)], asOf=FIRST, **WHOLE)
    await sent(oak, "/v1/pupils", body, Prefer="handling=lenient")
    id_ = (await ids_by_upn(oak))[upn(1)]
    version = (await vendor.get(f"/v1/pupils/{id_}")).json()["version"]
    identity = {"expectedVersion": version, "surname": "Other", "forename": "Ona", "upn": upn(70)}
    await sent(vendor, f"/v1/pupils/{id_}/new-identity", identity)
    stored = await small_trust.value("SELECT string_agg(s::text, ' ') FROM planned_stays s")
    assert not any(text in stored for text in (upn(1), "P1", id_))
    await sent(oak, "/v1/pupils", roll("Oak", [new(1), new(2), new(3, sex="X")], asOf=FIRST, **WHOLE), Prefer="handling=lenient")
    stored = await small_trust.value("SELECT string_agg(s::text, ' ') FROM planned_stays s")
    assert not any(text in stored for text in (upn(1), "P1"))
    assert all(text in stored for text in ("identifier-retired", upn(3)))
    set_clock(monkeypatch, AFTER)
    assert set(await told(oak)) == {upn(70), upn(2), upn(3)}
    assert (await count_of_day(oak))["rejected"] == 2


@pytest.mark.parametrize("lacks_spells", [False, True])
@pytest.mark.parametrize("is_withdrawn", [False, True])
@pytest.mark.parametrize("days", [(0, 0), (0, 2), (2, 0)])
async def test_a_pupil_of_a_later_plan_stays_on_roll_with_one_spell(
    small_trust: Trust,
    oak: Any,
    monkeypatch: pytest.MonkeyPatch,
    days: tuple[int, int],
    is_withdrawn: bool,
    lacks_spells: bool,
) -> None:
    """`days` are those of the complete roll and of the later one, which also brings a pupil who is not in the complete one."""
    said = {} if lacks_spells else STAYS

    def of_year(number: int, **changed: Any) -> dict[str, Any]:
        row = new(number, **said | changed)
        return {name: value for name, value in row.items() if not (lacks_spells and name == "enrolments")}

    whole, later = (DAYS[n] for n in days)
    await planned(oak, of_year(1), of_year(2), asOf=whole, **WHOLE)
    fixed = of_year(1, preferredForename="Fixed")
    (id_,) = (await planned(oak, fixed, new(6, enrolments=[{"from": later, "status": "C"}]), asOf=later))["plannedRollIds"]
    assert await count_shown(oak) == (3 if days != (0, 2) else 4)
    if is_withdrawn:
        await sent(oak, f"/v1/planned-rolls/{id_}/withdraw")
        assert await count_shown(oak) == 2
    for n in range(3):
        set_clock(monkeypatch, AFTER + timedelta(days=n))
        now = await told(oak)
        assert upn(1) in now, n
        if not is_withdrawn:
            assert (upn(6) in now) is (n >= days[1])
    assert set(now) == {upn(1), upn(2)} | (set() if is_withdrawn else {upn(6)})
    assert now[upn(1)][0] == "6"
    assert await spells(small_trust, 1) == [("2014-09-01", None)]
    row = (await sent(oak, "/v1/pupils/lookup", {"where": {"upn": [upn(1)]}}))["data"][0]
    assert row["preferredForename"] == (None if is_withdrawn else "Fixed")
    assert (await count_of_day(oak, whole))["left"] == 1
    assert await small_trust.value("SELECT count(*) FROM planned_pupils") == 0
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_joiner_whom_a_later_plan_lets_begin_later_is_no_ghost(
    small_trust: Trust,
    oak: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor is one refused whose UPN and birthday the later plan corrects."""
    late = {"enrolments": [{"from": DAYS[2], "status": "C"}]}
    rows = [new(n, **STAYS) for n in (1, 2, 3)]
    await planned(oak, *rows, new(4, **JOINS), new(5, **JOINS, upn=upn(95), dateOfBirth="2007-12-12"), **WHOLE)
    await planned(oak, new(4, **late), new(5, **JOINS), asOf=DAYS[2])
    set_clock(monkeypatch, AFTER)
    assert set(await told(oak)) == {upn(n) for n in (1, 2, 3)}
    set_clock(monkeypatch, AFTER + timedelta(days=2))
    assert set(await told(oak)) == {upn(n) for n in (1, 2, 3, 4, 5)}
    assert await spells(small_trust, 4) == [(DAYS[2], None)]
    assert await spells(small_trust, 5) == [(FIRST, None)]


async def test_a_later_plan_of_another_client_that_is_refused_gives_the_row_back(
    small_trust: Trust,
    oak: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = await small_trust.client("other", f"school:{URNS['Oak']}=all")
    await planned(oak, *(new(n, **STAYS) for n in (1, 2, 3)), asOf=DAYS[1], **WHOLE)
    await planned(other, new(1, reference="other-1", **STAYS, surname="Other"))
    await small_trust.operator.execute(
        "UPDATE grants SET revoked_at = now() WHERE client_id = (SELECT id FROM clients WHERE name = 'other')"
    )
    await small_trust.operator.execute("SELECT derive_reach()")
    for n in range(2):
        set_clock(monkeypatch, AFTER + timedelta(days=n))
        assert set(await told(oak)) == {upn(number) for number in (1, 2, 3)}
    assert (await told(oak))[upn(1)] == ("6", "Surname1")


async def test_the_statements_of_a_later_plan_do_not_grow_with_it(small_trust: Trust, oak: Any) -> None:
    whole = [new(n, **JOINS) for n in range(10, 60)]
    body = roll("Oak", [*whole, *(new(n, sex="X") for n in (1, 2, 3))], asOf=FIRST, **WHOLE)
    assert counted(await sent(oak, "/v1/pupils", body, Prefer="handling=lenient"))["rejected"] == 3
    counts = []
    for rows in (whole[:2], whole[:3], whole):
        with small_trust.statements.counting() as seen:
            await planned(oak, *rows)
        counts.append(len(seen))
    assert counts[2] <= counts[1]


async def withdraw(client: Any, id_: str, *, by_mutation: bool = False) -> tuple[int, int]:
    """Returns how many rows stand again, and how many of them were recorded."""
    if by_mutation:
        mutation = "mutation($i: String!) { withdrawPlannedRoll(input: {id: $i}) { id restored recorded } }"
        answer = (await asked(client, mutation, i=id_))["withdrawPlannedRoll"]
    else:
        answer = await sent(client, f"/v1/planned-rolls/{id_}/withdraw")
    return answer["restored"], answer["recorded"]


@pytest.mark.parametrize("by_mutation", [False, True])
async def test_a_row_of_a_recorded_roll_is_recorded_when_the_later_plan_is_withdrawn(
    small_trust: Trust, oak: Any, monkeypatch: pytest.MonkeyPatch, by_mutation: bool
) -> None:
    """Whoever withdraws it: the row is its own client's."""
    other = await small_trust.client("other", f"school:{URNS['Oak']}=all")
    late = {"enrolments": [{"from": DAYS[2], "status": "C"}]}
    await planned(oak, *(new(n, **STAYS) for n in (1, 2, 3)), new(4, **JOINS), **WHOLE)
    (id_,) = (await planned(other, new(4, reference="other-4", **late), asOf=DAYS[2]))["plannedRollIds"]
    set_clock(monkeypatch, AFTER)
    assert set(await told(oak)) == {upn(n) for n in (1, 2, 3)}
    before = (await oak.get("/v1/pupils")).headers["ETag"]
    answer = await other.post(f"/v1/planned-rolls/{id_}/withdraw?dryRun=true")
    assert (answer.json()["restored"], answer.json()["recorded"]) == (1, 1)
    assert upn(4) not in await told(oak)
    assert await withdraw(other, id_, by_mutation=by_mutation) == (1, 1)
    assert (await oak.get("/v1/pupils", headers={"If-None-Match": before})).status_code == 200
    assert set(await told(oak)) == {upn(n) for n in (1, 2, 3, 4)}
    assert await spells(small_trust, 4) == [(FIRST, None)]
    row = (await sent(oak, "/v1/pupils/lookup", {"where": {"reference": ["P4"]}}))["data"]
    assert len(row) == 1, row
    assert await small_trust.value("SELECT count(*) FROM planned_pupils") == 0
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_row_is_recorded_where_the_later_plan_of_the_same_day_is_refused(
    small_trust: Trust, oak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await small_trust.client("other", f"school:{URNS['Oak']}=all")
    await planned(oak, *(new(n, **STAYS) for n in (1, 2, 3)), **WHOLE)
    await planned(other, new(1, reference="other-1", **STAYS, surname="Other"))
    await small_trust.operator.execute(
        "UPDATE grants SET revoked_at = now() WHERE client_id = (SELECT id FROM clients WHERE name = 'other')"
    )
    await small_trust.operator.execute("SELECT derive_reach()")
    set_clock(monkeypatch, AFTER)
    assert (await told(oak))[upn(1)] == ("6", "Surname1")
    assert await small_trust.value("SELECT count(*) FROM planned_pupils") == 0


@pytest.mark.parametrize("is_withdrawn", [False, True])
async def test_a_complete_plan_is_valid_again_when_the_next_one_is_withdrawn(
    small_trust: Trust, oak: Any, monkeypatch: pytest.MonkeyPatch, is_withdrawn: bool
) -> None:
    """So does the plan of a joiner that it had replaced as well. Nothing of either is shown meanwhile."""
    (first,) = (await planned(oak, new(1, **STAYS), new(2, **STAYS), **WHOLE))["plannedRollIds"]
    (joiner,) = (await planned(oak, new(4, **JOINS)))["plannedRollIds"]
    (whole,) = (await planned(oak, new(3, **STAYS), asOf=DAYS[1], **WHOLE))["plannedRollIds"]
    assert [row["id"] for row in (await oak.get("/v1/planned-rolls")).json()["data"]] == [whole]
    assert await count_shown(oak) == 1
    for hidden in (first, joiner):
        assert (await oak.get(f"/v1/planned-rolls/{hidden}")).status_code == 404
        assert (await oak.post(f"/v1/planned-rolls/{hidden}/withdraw")).status_code == 404
    if is_withdrawn:
        assert await withdraw(oak, whole) == (3, 0)
        assert {row["id"] for row in (await oak.get("/v1/planned-rolls")).json()["data"]} == {first, joiner}
        assert await count_shown(oak) == 3
    for n in range(2):
        set_clock(monkeypatch, AFTER + timedelta(days=n))
        now = await told(oak)
    assert set(now) == ({upn(1), upn(2), upn(4)} if is_withdrawn else {upn(3)})
    assert await small_trust.value("SELECT count(*) FROM planned_pupils") == 0
    assert await small_trust.value("SELECT count(*) FROM planned_rolls WHERE replaced_by IS NOT NULL") == 0
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_plan_whose_rows_a_later_one_says_all_is_valid_again(
    small_trust: Trust, oak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planned(oak, new(1, **STAYS, preferredForename="First"))
    (second,) = (await planned(oak, new(1, **STAYS, preferredForename="Second")))["plannedRollIds"]
    (third,) = (await planned(oak, new(1, **STAYS, preferredForename="Third")))["plannedRollIds"]
    assert await count_shown(oak) == 1
    assert await withdraw(oak, third) == (1, 0)
    assert await withdraw(oak, second) == (1, 0)
    set_clock(monkeypatch, AFTER)
    row = (await sent(oak, "/v1/pupils/lookup", {"where": {"upn": [upn(1)]}}))["data"][0]
    assert row["preferredForename"] == "First"
