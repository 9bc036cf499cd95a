"""Groups: who is in a class on a day, written in bulk by a vendor and read through both interfaces."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from domain import COMMANDS
from domain.declare.errors import Invalid
from domain.write.run import perform
from tests.fixtures.clock import set_clock
from tests.fixtures.two_trusts import TwoTrusts

AS_OF = "2024-10-01"


def batch(code: str, *members: Any, **head: Any) -> dict[str, Any]:
    entry = {"code": code, "name": code.title(), "kind": "teaching", "members": list(members)}
    return {"school": {"urn": 100001}, "academicYear": "2024-25", "asOf": AS_OF, "entries": [entry], **head}


def by_reference(n: int, **more: Any) -> dict[str, Any]:
    return {"reference": f"Alder-{n}", **more}


async def record(two_trusts: TwoTrusts, document: Any, client: str = "North", **options: Any) -> Any:
    command = COMMANDS["record_groups"]
    done = await perform(
        two_trusts.database, command, two_trusts.clients[client].caller, command.parse(document, with_results=True, **options)
    )
    return json.loads(done.answer)


def outcome(answer: Any) -> tuple[str, int | None]:
    (result,) = answer["results"]
    return result["outcome"], result["version"]


async def spells(two_trusts: TwoTrusts, code: str) -> list[tuple[str, str, str | None]]:
    rows = await two_trusts.as_superuser(
        "SELECT x.value, m.from_on::text, m.to_on::text FROM groups g JOIN group_members m ON m.group_id = g.id"
        f" JOIN external_ids x ON x.id = m.pupil_id AND x.school_id = g.school_id WHERE g.code = '{code}' ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def test_the_same_batch_twice_changes_nothing(two_trusts: TwoTrusts) -> None:
    given = batch("set-1", by_reference(1), by_reference(2, **{"from": "2024-09-03", "to": "2025-07-18"}))
    assert outcome(await record(two_trusts, given)) == ("created", 1)
    before = await two_trusts.as_superuser(
        "SELECT xmin::text FROM group_members UNION ALL SELECT xmin::text FROM groups ORDER BY 1"
    )
    assert outcome(await record(two_trusts, given)) == ("unchanged", 1)
    assert outcome(await record(two_trusts, given | {"asOf": "2024-11-01"})) == ("unchanged", 1)
    assert before == await two_trusts.as_superuser(
        "SELECT xmin::text FROM group_members UNION ALL SELECT xmin::text FROM groups ORDER BY 1"
    )
    assert await spells(two_trusts, "set-1") == [("Alder-1", AS_OF, None), ("Alder-2", "2024-09-03", "2025-07-18")]


async def test_absence_removes_nobody_unless_the_batch_is_complete(two_trusts: TwoTrusts) -> None:
    await record(two_trusts, batch("set-2", by_reference(1), by_reference(2), by_reference(5, **{"from": "2025-01-06"})))
    assert outcome(await record(two_trusts, batch("set-2", by_reference(2), asOf="2024-12-01"))) == ("unchanged", 1)
    assert outcome(await record(two_trusts, batch("set-2", by_reference(2), asOf="2024-12-01", complete=True))) == ("updated", 2)
    later = ("Alder-5", "2025-01-06", None)
    assert await spells(two_trusts, "set-2") == [("Alder-1", AS_OF, "2024-11-30"), ("Alder-2", AS_OF, None), later]
    assert outcome(await record(two_trusts, batch("set-2", asOf="2024-11-15", complete=True))) == ("updated", 3)
    assert await spells(two_trusts, "set-2") == [("Alder-1", AS_OF, "2024-11-14"), ("Alder-2", AS_OF, "2024-11-14"), later]
    assert outcome(await record(two_trusts, batch("set-2", by_reference(2, **{"from": AS_OF, "to": None})))) == ("updated", 4)
    assert outcome(await record(two_trusts, batch("set-2", by_reference(2), asOf="2024-12-01", complete=True))) == ("unchanged", 4)
    await record(two_trusts, batch("set-2", by_reference(1), by_reference(2), asOf="2025-03-01", complete=True))
    assert (await spells(two_trusts, "set-2"))[:2] == [("Alder-1", AS_OF, "2024-11-14"), ("Alder-1", "2025-03-01", None)]


async def test_a_member_who_is_not_found_is_reported_with_a_place(two_trusts: TwoTrusts) -> None:
    given = batch("set-3", by_reference(1), by_reference(77), {"upn": "nonsense"}, complete=True)
    with pytest.raises(Invalid) as refused:
        await record(two_trusts, given)
    assert {(issue.at, issue.code) for issue in refused.value.issues} == {
        ("/entries/0/members/2/upn", "upn-invalid"),
        ("/entries/0/members/1/reference", "pupil-not-found"),
    }
    assert await spells(two_trusts, "set-3") == []
    await record(two_trusts, batch("set-3", by_reference(2)))
    answer = await record(two_trusts, given | {"asOf": "2024-12-01"}, lenient=True)
    assert (answer["received"], answer["updated"], answer["rejected"], len(answer["issues"])) == (1, 1, 0, 2)
    # as with a roll, who was not found keeps nobody in the group
    assert await spells(two_trusts, "set-3") == [("Alder-1", "2024-12-01", None), ("Alder-2", AS_OF, "2024-11-30")]


@pytest.mark.parametrize(
    ("members", "at", "code"),
    [
        ([by_reference(1, to="2024-09-01")], "/entries/0/members/0/to", "membership-inverted"),
        ([by_reference(1, **{"from": "2025-01-01", "to": "2024-09-01"})], "/entries/0/members/0", "wrong-value"),
        ([by_reference(1), by_reference(1, **{"from": "2024-12-01"})], "/entries/0/members/0", "spells-overlap"),
        ([{"reference": "Alder-1", "id": "x"}], "/entries/0/members/0", "wrong-value"),
        ([{"reference": "Birch-1"}], "/entries/0/members/0/reference", "pupil-not-found"),
        ([{"reference": "Alder-1", "school": {"urn": 100001}}], "/entries/0/members/0/school", "unknown-field"),
    ],
)
async def test_what_is_wrong_is_reported_with_its_place(members: list[Any], at: str, code: str, two_trusts: TwoTrusts) -> None:
    with pytest.raises(Invalid) as refused:
        await record(two_trusts, batch("wrong", *members))
    assert (refused.value.issues[0].at, refused.value.issues[0].code) == (at, code)
    assert await two_trusts.as_superuser("SELECT 1 FROM groups WHERE code = 'wrong'") == []


@pytest.mark.parametrize("day", ["0001-01-01", "2024-08-31", "2025-09-01", "9999-12-31"])
async def test_a_day_outside_the_groups_year_is_refused(day: str, two_trusts: TwoTrusts) -> None:
    with pytest.raises(Invalid) as refused:
        await record(two_trusts, batch("early", by_reference(1), asOf=day, complete=True))
    assert [(issue.at, issue.code) for issue in refused.value.issues] == [("/asOf", "outside-academic-year")]


@pytest.mark.parametrize("day", ["1943-09-01", "2010-01-01", "2026-10-07"])
async def test_a_membership_begins_on_a_possible_day(day: str, two_trusts: TwoTrusts, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a spell on roll does: not before 1944 or the pupil's birth, nor more than 400 days ahead of 1 September 2025."""
    set_clock(monkeypatch, datetime(2025, 9, 1, tzinfo=UTC))
    impossible = batch(f"from {day}", by_reference(1), by_reference(2, **{"from": day}))
    with pytest.raises(Invalid) as refused:
        await record(two_trusts, impossible)
    assert [(issue.at, issue.code) for issue in refused.value.issues] == [("/entries/0/members/1/from", "spell-implausible")]
    assert (await record(two_trusts, batch(f"last before {day}", by_reference(1, **{"from": "2026-10-06"}))))["issues"] == []


async def test_classes_are_of_a_day_that_is_not_far_ahead(two_trusts: TwoTrusts, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, datetime(2023, 8, 27, 22, 30, tzinfo=UTC))  # 401 days before
    with pytest.raises(Invalid) as refused:
        await record(two_trusts, batch("far", by_reference(1)))
    assert [(issue.at, issue.code) for issue in refused.value.issues] == [("/asOf", "as-of-implausible")]
    set_clock(monkeypatch, datetime(2023, 8, 27, 23, 30, tzinfo=UTC))  # the next day in England
    assert outcome(await record(two_trusts, batch("far", by_reference(1)))) == ("created", 1)


async def test_another_tenant_has_no_hand_in_it(two_trusts: TwoTrusts) -> None:
    with pytest.raises(Invalid) as refused:
        await record(two_trusts, batch("theirs", by_reference(1)), "South")
    assert [issue.code for issue in refused.value.issues] == ["school-not-found"]
    assert await two_trusts.as_superuser("SELECT 1 FROM groups WHERE code = 'theirs'") == []


async def test_statements_do_not_grow_with_the_batch(two_trusts: TwoTrusts) -> None:
    async def statements(many: int, code: str) -> int:
        groups = [
            {"code": f"{code}-{n}", "name": "x", "kind": "teaching", "members": [by_reference(i) for i in range(8)]}
            for n in range(many)
        ]
        with two_trusts.statements.counting() as seen:
            await record(two_trusts, batch("", entries=groups))
        return len(seen)

    assert await statements(1, "few") == await statements(40, "many") <= 12
