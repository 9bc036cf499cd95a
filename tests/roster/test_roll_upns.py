"""What becomes of a pupil whose UPN changes, and of two children for whom one UPN was sent."""

from typing import Any

import pytest

from tests.fixtures.small_trust import Trust, batch, counted, entry, issues, opened, roll, sent, upn


async def upns(here: Trust, pupil_id: str) -> dict[str, bool]:
    """By UPN, whether it is the current one."""
    rows = await here.operator.fetch("SELECT upn, current FROM upns WHERE pupil_id::text = $1", pupil_id)
    return {row["upn"]: row["current"] for row in rows}


async def pupil(client: Any, **where: Any) -> dict[str, Any]:
    """The one pupil that a look-up finds."""
    (found,) = (await sent(client, "/v1/pupils/lookup", {"where": where}))["data"]
    return dict(found)


async def put(client: Any, *entries: dict[str, Any]) -> dict[str, int]:
    return counted(await sent(client, "/v1/pupils", roll("Oak", entries)))


async def finds(client: Any, here: Trust, number: str) -> str:
    """The pupil whom a judgement named by this UPN is about."""
    await sent(client, "/v1/judgements", batch("Oak", [{"upn": number, "subject": "maths", "grade": 100}]))
    (found,) = await here.operator.fetch("SELECT pupil_id::text FROM judgements")
    return str(found["pupil_id"])


async def test_a_temporary_upn_becomes_permanent(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    temporary = upn(1, temporary=True)
    assert await put(vendor, entry(1, upn=temporary)) == {"created": 1}
    id_ = (await pupil(vendor, upn=temporary))["id"]
    assert await put(vendor, entry(1)) == {"updated": 1}
    assert await upns(small_trust, id_) == {temporary: False, upn(1): True}
    assert (await pupil(vendor, upn=upn(1)))["id"] == id_
    assert await finds(vendor, small_trust, temporary) == id_


async def test_a_temporary_upn_does_not_replace_a_permanent_one(small_trust: Trust, vendor: Any) -> None:
    """A vendor that has not heard of the permanent one, or a new school that has not, finds the pupil and changes nothing."""
    temporary, late = upn(10, temporary=True), upn(20, temporary=True)
    await put(vendor, entry(1, upn=temporary))
    await put(vendor, entry(1))
    before = await small_trust.everything()
    assert await put(vendor, entry(1, upn=temporary, reference=None)) == {"unchanged": 1}
    assert await small_trust.everything() == before
    assert await put(vendor, entry(1, upn=late)) == {"updated": 1}
    assert await put(vendor, entry(1, upn=late)) == {"unchanged": 1}
    found = await pupil(vendor, surname="Surname1")
    assert (found["upn"], await upns(small_trust, found["id"])) == (upn(1), {temporary: False, late: False, upn(1): True})


@pytest.mark.parametrize("known", [True, False])
async def test_an_older_permanent_upn_is_current_again(small_trust: Trust, vendor: Any, known: bool) -> None:
    """The newer one becomes a former one, and either finds the child; the older one may never have been heard of."""
    older, newer = upn(1), upn(2)
    if known:
        await put(vendor, entry(1, upn=older))
    await put(vendor, entry(1, upn=newer))
    id_ = (await pupil(vendor, upn=newer))["id"]
    assert await put(vendor, entry(1, upn=older, formerUpns=[newer])) == {"updated": 1}
    assert await put(vendor, entry(1, upn=older, formerUpns=[newer])) == {"unchanged": 1}
    assert await upns(small_trust, id_) == {newer: False, older: True}
    assert (await pupil(vendor, upn=older))["id"] == id_
    assert await put(vendor, entry(1, upn=older, reference=None)) == {"unchanged": 1}
    unnamed = roll("Oak", [entry(1, upn=newer, reference=None)])
    assert issues(await sent(vendor, "/v1/pupils", unnamed, 422)) == {"/entries/0": "upn-replaced"}
    assert await put(vendor, entry(1, upn=newer)) == {"updated": 1}  # of two permanent ones the school says which
    assert await small_trust.value("SELECT count(*) FROM pupils") == 1
    await opened(vendor)
    assert await finds(vendor, small_trust, newer) == id_


async def test_a_pupil_without_a_upn_gets_one_later(small_trust: Trust, vendor: Any) -> None:
    assert await put(vendor, entry(1, upn=None)) == {"created": 1}
    assert await put(vendor, entry(1, upn=None)) == {"unchanged": 1}
    before = await pupil(vendor, surname="Surname1")
    assert before["upn"] is None
    assert await put(vendor, entry(1)) == {"updated": 1}
    assert await put(vendor, entry(1, upn=None)) == {"unchanged": 1}
    after = await pupil(vendor, upn=upn(1))
    assert (after["id"], after["version"]) == (before["id"], 2)
    assert await upns(small_trust, after["id"]) == {upn(1): True}


async def test_a_upn_of_another_child_is_not_taken(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, entry(1), entry(2))
    ids = {(await pupil(vendor, upn=upn(n)))["id"] for n in (1, 2)}
    before = await small_trust.everything()
    for entries in ([entry(1, upn=upn(2))], [entry(1, formerUpns=[upn(2)])], [entry(1, upn=upn(2)), entry(2)]):
        refused = await sent(vendor, "/v1/pupils", roll("Oak", entries), 422)
        assert issues(refused) == {"/entries/0": "pupil-merge-needed"}
        assert all(id_ in issue["message"] for issue in refused["issues"] for id_ in ids)
        assert not any(upn(n) in str(refused) for n in (1, 2))
    assert await small_trust.everything() == before


@pytest.mark.parametrize(
    "other", [{"forename": "Alex"}, {"dateOfBirth": "2007-01-02"}, {"forename": "Alex", "surname": "Surname1"}]
)
async def test_a_upn_that_two_children_share_by_mistake_merges_nothing(
    small_trust: Trust, vendor: Any, other: dict[str, Any]
) -> None:
    """A twin typed in with the other's UPN comes with a reference of their own; a child who is known already has one."""
    await put(vendor, entry(1), entry(3))
    id_ = (await pupil(vendor, upn=upn(1)))["id"]
    twin = entry(2, upn=upn(1)) | other
    before = await small_trust.everything()
    refused = await sent(vendor, "/v1/pupils", roll("Oak", [twin]), 422)
    assert issues(refused) == {"/entries/0": "pupil-conflict"}
    assert id_ in refused["issues"][0]["message"]
    assert issues(await sent(vendor, "/v1/pupils", roll("Oak", [twin, entry(1)]), 422)) == {"/entries/0": "pupil-conflict"}
    taken = roll("Oak", [entry(3, upn=upn(1))])
    assert issues(await sent(vendor, "/v1/pupils", taken, 422)) == {"/entries/0": "pupil-merge-needed"}
    assert await small_trust.everything() == before
    assert await put(vendor, twin | {"id": id_}) == {"updated": 1}  # said to be the same child after all


async def test_new_references_after_a_change_of_mis_find_the_same_children(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, *(entry(n) for n in range(5)))
    renumbered = [entry(n, reference=f"new-{n}", forename="Sam Lee") for n in range(5)]
    assert await put(vendor, *renumbered) == {"updated": 5}
    assert await small_trust.value("SELECT count(*) FROM pupils") == 5


async def test_a_upn_sent_twice_in_a_row_is_one(small_trust: Trust, vendor: Any) -> None:
    told = entry(1, formerUpns=[upn(1), upn(2), upn(2).lower()])
    assert await put(vendor, told) == {"created": 1}
    assert await put(vendor, told) == {"unchanged": 1}
    assert await upns(small_trust, (await pupil(vendor, upn=upn(1)))["id"]) == {upn(1): True, upn(2): False}
