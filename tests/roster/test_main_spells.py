"""The spell that a pupil's own row says is that of its spells, whatever writes them."""

from typing import Any

import asyncpg

from domain.roster.main_spells import fill_main_spells
from tests.fixtures.small_trust import URNS, Trust, at, entry, roll, sent

TRUTH = """
SELECT count(*) FROM pupils p WHERE p.main_spell IS DISTINCT FROM (
    SELECT daterange(e.from_on, e.to_on, '[]') FROM enrolments e
    WHERE e.tenant_id = p.tenant_id AND e.pupil_id = p.id AND e.school_id = p.school_id ORDER BY e.from_on DESC LIMIT 1
)
"""


async def _check(trust: Trust, spells: int) -> None:
    assert await trust.value(TRUTH) == 0
    assert await trust.value("SELECT count(*) FROM pupils WHERE main_spell IS NOT NULL") == spells


async def test_the_row_of_a_pupil_follows_its_spells(small_trust: Trust) -> None:
    vendor = await small_trust.client("vendor", "trust:4128=all")
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(5)]))
    await _check(small_trust, 5)
    # one leaves, one is taken back, one moves to another school and back
    left = entry(2, enrolments=[{"from": "2017-09-01", "to": "2018-03-01", "status": "C"}])
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(0), entry(1), left, entry(3), entry(4)]))
    await _check(small_trust, 5)
    oak = {"from": "2017-09-01", "to": "2018-02-28", "status": "C"}
    await sent(vendor, "/v1/pupils", at("Oak", oak))
    await sent(vendor, "/v1/pupils", at("Elm", {"from": "2018-03-01", "status": "C"}))
    await _check(small_trust, 5)
    listed = (await vendor.get("/v1/pupils", params={"fields": "onRoll,school.urn", "include": "school"})).json()["data"]
    assert sorted((row["school"]["urn"], row["onRoll"]) for row in listed) == [(URNS["Oak"], True)] * 3 + [(URNS["Elm"], True)]
    # what an older program left is filled, once
    await small_trust.operator.execute("UPDATE pupils SET main_spell = NULL")
    of_spells = (await vendor.get("/v1/pupils", params={"fields": "onRoll,school.urn", "include": "school", "roll": "all"})).json()[
        "data"
    ]
    assert [row for row in of_spells if row["onRoll"]] == listed
    assert [row["onRoll"] for row in of_spells].count(False) == 1
    reports: list[Any] = []
    owner = await asyncpg.connect(small_trust.databases.owner_url)
    for _ in range(2):
        await fill_main_spells(owner, reports.append)
    await owner.close()
    assert reports == ["Noted the spells at the main school of 5 pupils."]
    await _check(small_trust, 5)
