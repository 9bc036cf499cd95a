"""changedAt says when a row last changed for whoever reads a school; receivedAt when it first arrived, for ever."""

import asyncio
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from api.settings import NUMBERS, Settings
from domain.roster.pupils import CHANGED_AT, POLLING_OVERLAP
from tests.fixtures.small_trust import URNS, Trust, asked, at, batch, counted, entry, judged, roll, sent, upn

STAYED = {"from": "2014-09-01", "status": "C"}
TIMES = "receivedAt,changedAt"
HORIZON = {"academicYear": "2017-18", "point": "KS2"}


def target(grade: Any) -> dict[str, Any]:
    row = {
        "upn": upn(1),
        "subject": "reading",
        "horizon": HORIZON,
        "grade": grade,
        "basis": "teacher",
        "scheme": "ks2-scaled-score",
    }
    return {"school": {"urn": URNS["Oak"]}, "entries": [row]}


async def read_times(client: Any, plural: str) -> dict[str, datetime]:
    """receivedAt and changedAt of the only row, which both interfaces show alike."""
    (row,) = (await client.get(f"/v1/{plural}", params={"fields": TIMES})).json()["data"]
    assert (await asked(client, f"{{ {plural} {{ nodes {{ receivedAt changedAt }} }} }}"))[plural]["nodes"] == [row]
    return {name: datetime.fromisoformat(value) for name, value in row.items()}


async def read_now(here: Trust) -> str:
    return str((await here.value("SELECT clock_timestamp()")).isoformat())


async def test_a_correction_and_a_withdrawal_move_changed_at_alone(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    await sent(vendor, "/v1/targets", target(100))
    first = {plural: await read_times(vendor, plural) for plural in ("judgements", "targets")}
    assert all(times["receivedAt"] == times["changedAt"] for times in first.values())
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    await sent(vendor, "/v1/targets", target(100))
    assert {plural: await read_times(vendor, plural) for plural in first} == first
    since = await read_now(small_trust)
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=None, withdrawn=True)]))
    await sent(vendor, "/v1/targets", target(105))
    for plural, before in first.items():
        after = await read_times(vendor, plural)
        assert (after["receivedAt"], after["changedAt"] > before["changedAt"]) == (before["receivedAt"], True)
        assert len((await vendor.get(f"/v1/{plural}", params={"changedAt.gte": since})).json()["data"]) == 1
        assert (await vendor.get(f"/v1/{plural}", params={"receivedAt.gte": since})).json()["data"] == []
    for table in ("judgement_history", "target_history"):
        assert await small_trust.value(f"SELECT count(*) FROM {table} WHERE until >= GREATEST(received_at, changed_at)") == 1
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=90)]))
    assert (
        await small_trust.value("SELECT count(*) FROM judgement_history WHERE until < changed_at OR changed_at < received_at") == 0
    )


@pytest.mark.parametrize(
    "spell", [{"from": "2018-05-11", "status": "C"}, {"from": "2018-05-11", "status": "S"}], ids=["moves", "is shared"]
)
async def test_a_pupil_who_comes_into_reach_brings_what_was_judged(small_trust: Trust, vendor: Any, spell: dict[str, Any]) -> None:
    """A mirror of the second school that asks for what has changed gets it, and each row says when it first arrived."""
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    await sent(vendor, "/v1/targets", target(100))
    before = {plural: await read_times(vendor, plural) for plural in ("judgements", "targets")}
    since = {"changedAt.gte": await read_now(small_trust)}
    for plural in ("pupils", "judgements", "targets"):
        assert (await elm.get(f"/v1/{plural}", params=since)).json()["data"] == []
    assert counted(await sent(vendor, "/v1/pupils", at("Elm", spell)))
    for plural in ("pupils", "judgements", "targets"):
        assert len((await elm.get(f"/v1/{plural}", params=since)).json()["data"]) == 1, plural
    for plural, times in before.items():
        after = await read_times(elm, plural)
        assert (after["receivedAt"], after["changedAt"] > times["changedAt"]) == (times["receivedAt"], True)


WAITING = (
    "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND a.datname = current_database()"
)


async def test_times_are_taken_after_the_locks(small_trust: Trust, vendor: Any) -> None:
    """A write that waits for another has the time after that one: a poll between the two misses nothing."""
    holder = await asyncpg.connect(small_trust.databases.operator_url)
    members = {"school": {"urn": URNS["Oak"]}, "academicYear": "2017-18", "asOf": "2018-05-01"}
    classes = members | {"entries": [{"code": "6W", "kind": "class", "name": "6W", "members": [{"reference": "P1"}]}]}
    writes = {
        "judgements": ("/v1/judgements", batch("Oak", [judged(1)])),
        "targets": ("/v1/targets", target(100)),
        "pupils": ("/v1/pupils", roll("Oak", [entry(1, surname="Corrected")])),
        "groups": ("/v1/groups", classes),
    }
    try:
        for plural, (path, body) in writes.items():
            transaction = holder.transaction()
            await transaction.start()
            await holder.execute("SELECT 1 FROM school_versions WHERE school_id = $1 FOR UPDATE", small_trust.ids["Oak"])
            write = asyncio.create_task(sent(vendor, path, body))
            while not await small_trust.value(WAITING):
                assert not write.done()
                await asyncio.sleep(0.01)
            released = await read_now(small_trust)
            await transaction.commit()
            await write
            assert len((await vendor.get(f"/v1/{plural}", params={"changedAt.gte": released})).json()["data"]) == 1, plural
        received = (await vendor.get("/v1/receipts?first=1&fields=receivedAt")).json()["data"][0]["receivedAt"]
        assert datetime.fromisoformat(received) >= datetime.fromisoformat(released)
    finally:
        await holder.close()


def test_the_documented_overlap_covers_the_longest_write() -> None:
    """However an operator sets the limit of a request."""
    assert POLLING_OVERLAP.total_seconds() > NUMBERS["request_seconds"][2] >= Settings("postgresql://x", b"").request_seconds
    assert f"{POLLING_OVERLAP.seconds // 60} minutes earlier" in CHANGED_AT
