"""The calendar of a trust and of a school, as JSON and as iCalendar, and the secret links by which calendar programs read it."""

from datetime import date, datetime, timedelta
from typing import Any

import httpx2
import icalendar

from domain.clients.grants import list_grants, revoke_grant
from tests.fixtures.small_trust import BASE, URNS, Trust, asked, opened, sent, window

READS = "windows:read,schools:read"


async def _plan(vendor: Any) -> None:
    """A window of every school, and one of Oak alone whose name needs escapes and folds."""
    await opened(vendor, "all", censusOn="2018-05-14")
    at_oak = [{"subject": "reading", "scheme": "ks2-scaled-score", "schools": [{"urn": URNS["Oak"]}]}]
    name = "Reading; maths, and \\ more: " + "Schüler " * 12 + "end"
    await sent(vendor, "/v1/windows", window("oak", name=name, collects=at_oak, yearGroups=["5"]), 201)


def _read(content: bytes) -> dict[str, Any]:
    """The events of a calendar by their UIDs, as a library of its own reads them."""
    assert all(len(line) <= 75 for line in content.split(b"\r\n"))
    calendar = icalendar.Calendar.from_ical(content)
    assert str(calendar["version"]) == "2.0"
    return {str(event["uid"]): event for event in calendar.walk("VEVENT")}


async def test_the_windows_of_a_trust_and_of_a_school(vendor: Any, small_trust: Trust) -> None:
    await _plan(vendor)
    reader = await small_trust.client("reader", f"school:{URNS['Elm']}={READS}")
    trust, oak, elm = (
        f"/v1/trusts/{small_trust.ids['trust']}",
        *(f"/v1/schools/{small_trust.ids[name]}" for name in ("Oak", "Elm")),
    )
    for url, codes in ((trust, ["oak", "all"]), (oak, ["oak", "all"]), (elm, ["all"])):
        rows = (await vendor.get(f"{url}/calendar")).json()["data"]
        assert {row["code"] for row in rows} >= {*codes}
        assert {"oak"} & {row["code"] for row in rows} == {*codes} & {"oak"}
        answer = await vendor.get(f"{url}/calendar", headers={"Accept": "text/calendar"})
        assert answer.headers["content-type"].startswith("text/calendar")
        events = _read(answer.content)
        assert set(events) == {f"{row['id']}{part}@markonce" for row in rows for part in ("", "-census")}
        for row in rows:
            event, census = events[f"{row['id']}@markonce"], events[f"{row['id']}-census@markonce"]
            assert event.decoded("dtstart") == datetime.fromisoformat(row["opensAt"]).replace(microsecond=0)
            assert event.decoded("dtend") == datetime.fromisoformat(row["closesAt"]).replace(microsecond=0)
            assert str(event["summary"]) == f"{row['name']} ({row['code']})"
            assert census.decoded("dtstart") == date.fromisoformat(row["censusOn"])
        again = await vendor.get(f"{url}/calendar?format=ics")
        assert again.content == answer.content, "the same text until a window changes, since programs compare it"
        for accepted in ("application/json", "text/calendar"):
            tag = (await vendor.get(f"{url}/calendar", headers={"Accept": accepted})).headers["etag"]
            known = {"Accept": accepted, "If-None-Match": tag}
            assert (await vendor.get(f"{url}/calendar", headers=known)).status_code == 304
        assert (await vendor.head(f"{url}/calendar")).status_code == 200
    assert (await reader.get(f"{elm}/calendar")).status_code == 200
    assert (await reader.get(f"{oak}/calendar")).status_code == 404
    other = await small_trust.client("other", f"school:{URNS['Quay']}={READS}")
    assert [(await other.get(f"{url}/calendar")).status_code for url in (trust, oak)] == [404, 404]
    plain = await small_trust.client("plain", "trust:4128=schools:read")
    assert (await plain.get(f"{trust}/calendar")).status_code == 403
    assert (await vendor.get(f"{oak}/calendar?format=xml")).status_code == 400


async def test_a_changed_window_has_another_stamp_and_ends_when_it_closed(vendor: Any, small_trust: Trust) -> None:
    id_, url = await opened(vendor, "early"), f"/v1/trusts/{small_trust.ids['trust']}/calendar"
    accept = {"Accept": "text/calendar"}
    first = await vendor.get(url, headers=accept)
    before = _read(first.content)[f"{id_}@markonce"]
    await sent(vendor, f"/v1/windows/{id_}/close")
    second = await vendor.get(url, headers=accept | {"If-None-Match": first.headers["etag"]})
    after = _read(second.content)[f"{id_}@markonce"]
    assert (before.decoded("dtend").year, str(before["uid"])) == (2099, str(after["uid"]))
    row = next(row for row in (await vendor.get(url)).json()["data"] if row["id"] == id_)
    assert after.decoded("dtstart") < after.decoded("dtend") < datetime.fromisoformat(row["closesAt"])
    assert abs(after.decoded("dtend") - datetime.fromisoformat(row["closedAt"])) <= timedelta(seconds=1)
    assert int(after["sequence"]) == int(before["sequence"]) + 1
    assert after.decoded("dtstamp") == after.decoded("last-modified") >= before.decoded("last-modified")


async def test_a_secret_link_is_read_without_a_token_until_it_or_its_makers_grant_ends(
    vendor: Any, small_trust: Trust, capsys: Any
) -> None:
    await _plan(vendor)
    maker = await small_trust.client("maker", f"school:{URNS['Oak']}={READS}")
    url = f"/v1/schools/{small_trust.ids['Oak']}/calendar-links"
    first = await sent(maker, url, {}, 201, Idempotency_Key="link")
    again = await sent(maker, url, {}, 201, Idempotency_Key="link")
    assert (again["id"], "path" in again) == (first["id"], False), "what is stored of the answer has no secret"
    mutation = "mutation ($i: LinkRequestInput!) { createSchoolCalendarLink(input: $i) { id path } }"
    second = (await asked(maker, mutation, i={"id": str(small_trust.ids["Oak"])}))["createSchoolCalendarLink"]
    secret = first["path"].rpartition("/")[2]
    assert len(secret) >= 43
    tables = [row["t"] for row in await small_trust.operator.fetch("SELECT t::text AS t FROM calendar_links t")]
    kept = [row["answer"] for row in await small_trust.operator.fetch("SELECT answer FROM idempotency")]
    assert not any(secret in text for text in (*tables, *kept))
    async with httpx2.AsyncClient(transport=small_trust.transport, base_url=BASE) as program:
        answer = await program.get(first["path"])
        assert len(_read(answer.content)) >= 4
        assert (await program.get(first["path"], headers={"If-None-Match": answer.headers["etag"]})).status_code == 304
        assert (await program.head(first["path"])).status_code == 200
        assert (await program.get(first["path"] + "x")).status_code == 404
        revoked = await sent(maker, f"/v1/calendar-links/{first['id']}/revoke", {})
        assert revoked == {"id": first["id"], "revoked": True}
        assert (await sent(maker, f"/v1/calendar-links/{first['id']}/revoke", {}, 409))["type"].endswith("link-revoked")
        assert [(await program.get(link["path"])).status_code for link in (first, second)] == [404, 200]
        assert (await vendor.post(f"/v1/calendar-links/{second['id']}/revoke", json={})).status_code == 404, "its maker's alone"
        rows = (await maker.get("/v1/calendar-links")).json()["data"]
        assert [(row["id"], row["revokedAt"] is None) for row in rows] == [(first["id"], False), (second["id"], True)]
        assert (await vendor.get("/v1/calendar-links")).json()["data"] == []
        client_id = await small_trust.value("SELECT id FROM clients WHERE name = 'maker'")
        (grant,) = await list_grants(small_trust.operator, client_id)
        await revoke_grant(small_trust.operator, grant.id)
        assert (await program.get(second["path"])).status_code == 404
    assert secret not in capsys.readouterr().out
