"""How pupils are found and sorted by their names, and what preferred names do."""

import json
import random
from typing import Any

import pytest

from tests.fixtures.small_trust import (
    AS_OF,
    TRUST,
    URNS,
    Trust,
    asked,
    batch,
    counted,
    entry,
    issues,
    judged,
    opened,
    roll,
    sent,
    upn,
)

SURNAMES = (
    "Zeta",
    "de Souza",
    "Özil",
    "Łukasz",
    "Ångström",
    "de Vries",
    "Élan",
    "Łuczak",
    "O'Brien",
    "O’Connor",
    "o'brien-Žagar",
    "Dean",
)
IN_ORDER = [
    "Ångström",
    "de Souza",
    "de Vries",
    "Dean",
    "Élan",
    "Łuczak",
    "Łukasz",
    "O'Brien",
    "o'brien-Žagar",
    "O’Connor",
    "Özil",
    "Zeta",
]


async def record(client: Any, *entries: dict[str, Any], at: str = "Oak") -> dict[str, int]:
    return counted(await sent(client, "/v1/pupils", roll(at, entries)))


async def look_up(client: Any, **where: Any) -> list[str]:
    """The surnames that a lookup finds, the same by REST and by GraphQL."""
    found = (await sent(client, "/v1/pupils/lookup", {"where": where, "fields": ["surname"], "sort": ["surname"]}))["data"]
    query = "query ($w: PupilWhere) { pupils(where: $w, orderBy: [{field: surname}]) { nodes { surname } } }"
    assert (await asked(client, query, w=where))["pupils"]["nodes"] == found
    return [row["surname"] for row in found]


async def sort_names(client: Any, path: str, order: str, first: int = 3) -> list[str]:
    """A name of every row of a list, page by page."""
    names: list[str] = []
    after: str | None = None
    while True:
        field = order.removeprefix("-").split(",")[0]
        answer = await client.get(
            path, params={"sort": order, "first": first, "fields": field} | ({"after": after} if after else {})
        )
        assert answer.status_code == 200, answer.text
        body = answer.json()
        names += [row[field] for row in body["data"]]
        if not body["page"]["hasMore"]:
            return names
        after = body["page"]["endCursor"]


@pytest.fixture
async def named(vendor: Any) -> list[str]:
    """Pupils with these surnames, in no order."""
    shuffled = random.Random(4).sample(SURNAMES, len(SURNAMES))
    entries = [entry(n, surname=surname, forename=f"F{n}") for n, surname in enumerate(shuffled, 1)]
    assert await record(vendor, *entries) == {"created": len(SURNAMES)}
    return shuffled


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Ångström", ["Ångström"]),
        ("ÅNGSTRÖM", ["Ångström"]),
        ("A\u030angstro\u0308m", ["Ångström"]),
        ("Angstrom", []),
        ("o’brien", ["O'Brien"]),
        ("O`CONNOR", ["O’Connor"]),
        (" de\u00a0 souza ", ["de Souza"]),
        ("O'BRIEN‑ŽAGAR", ["o'brien-Žagar"]),
        ("de*", ["de Souza", "de Vries", "Dean"]),
        ("DE *", ["de Souza", "de Vries"]),
        ("łu*", ["Łuczak", "Łukasz"]),
        ("O'b*", ["O'Brien", "o'brien-Žagar"]),
        ("o’*", ["O'Brien", "o'brien-Žagar", "O’Connor"]),
        ("Ze_a", []),
        ("Z%", []),
        ("zeta*", ["Zeta"]),
        (["dean", "ze*", "łuczak"], ["Dean", "Łuczak", "Zeta"]),
        (["dean", "de*"], ["de Souza", "de Vries", "Dean"]),
    ],
)
async def test_a_name_is_found_however_it_is_written(named: list[str], vendor: Any, value: Any, found: list[str]) -> None:
    assert await look_up(vendor, surname=value) == found


@pytest.mark.parametrize("value", ["*", " * ", "", " ", "*son", "A*n", "Ain**", "'*'"])
async def test_a_search_that_is_no_beginning_is_refused(named: list[str], vendor: Any, value: str) -> None:
    for name in ("surname", "forename", "preferredSurname", "preferredForename"):
        refused = await sent(vendor, "/v1/pupils/lookup", {"where": {name: ["Zeta", value]}}, 400)
        assert issues(refused) == {name: "filter-value-invalid"} or list(issues(refused).values()) == ["filter-value-invalid"], (
            refused
        )
        answer = await vendor.post(
            "/graphql",
            json={"query": "query ($w: PupilWhere) { pupils(where: $w) { nodes { id } } }", "variables": {"w": {name: value}}},
        )
        (problem,) = answer.json()["errors"]
        assert "filter-value-invalid" in json.dumps(problem)
        assert value.strip(" *'") == "" or value == "Ain**" or value.strip("* ") not in json.dumps(problem)


async def test_a_name_is_found_with_a_birthday(vendor: Any) -> None:
    await record(vendor, *(entry(n, surname="Khan", forename="Ali", dateOfBirth=f"2007-01-0{n}") for n in (1, 2, 3)))
    where = {"surname": "KHAN", "forename": "al*", "dateOfBirth": "2007-01-02"}
    (found,) = (await sent(vendor, "/v1/pupils/lookup", {"where": where}))["data"]
    assert (found["upn"], found["dateOfBirth"]) == (upn(2), "2007-01-02")


async def test_a_former_upn_finds_the_pupil(vendor: Any) -> None:
    temporary = upn(1, temporary=True)
    await record(vendor, entry(1, upn=temporary, surname="Joiner"), entry(2, surname="Other"))
    await record(vendor, entry(1, surname="Joiner"))
    for number in (temporary, f" {temporary.lower()} ", upn(1), [temporary, upn(99)]):
        assert await look_up(vendor, upn=number) == ["Joiner"], number
    assert await look_up(vendor, upn=[temporary, upn(2)]) == ["Joiner", "Other"]
    assert await look_up(vendor, upn=upn(99)) == []


async def test_a_former_upn_finds_nobody_without_the_scope_or_out_of_reach(small_trust: Trust, vendor: Any) -> None:
    temporary = upn(1, temporary=True)
    await record(vendor, entry(1, upn=temporary))
    await record(vendor, entry(1))
    everywhere = "pupils:read,pupils:name"
    at_elm = await small_trust.client("elm", f"school:{URNS['Oak']}={everywhere}", f"school:{URNS['Elm']}={everywhere},pupils:upn")
    for number in (temporary, upn(1)):
        assert (await sent(at_elm, "/v1/pupils/lookup", {"where": {"upn": number}}))["data"] == []
    await sent(
        await small_trust.client("names", f"school:{URNS['Oak']}={everywhere}"),
        "/v1/pupils/lookup",
        {"where": {"upn": temporary}},
        403,
    )


async def test_each_reference_of_the_client_finds_the_pupil_and_none_of_another_clients(small_trust: Trust, vendor: Any) -> None:
    await record(vendor, entry(1, reference="A1", surname="Mover"), entry(2, reference="B2", surname="Other"))
    spells = [{"from": "2018-04-16", "status": "C"}]
    await record(vendor, entry(1, reference="Z9", surname="Mover", enrolments=spells), at="Elm")
    for reference in ("A1", " Z9", ["Z9", "none"]):
        assert await look_up(vendor, reference=reference) == ["Mover"], reference
    assert await look_up(vendor, reference=["Z9", "B2"]) == ["Mover", "Other"]
    assert await look_up(vendor, reference="Z") == []
    other = await small_trust.client("other", f"trust:{TRUST}=pupils:read,pupils:name")
    assert (await sent(other, "/v1/pupils/lookup", {"where": {"reference": "A1"}}))["data"] == []
    at_elm = await small_trust.client("elm", f"school:{URNS['Elm']}=pupils:read,pupils:name")
    assert (await sent(at_elm, "/v1/pupils/lookup", {"where": {"reference": "Z9"}}))["data"] == []


@pytest.mark.parametrize("first", [2, 3, 50])
async def test_surnames_are_sorted_in_the_root_order(named: list[str], vendor: Any, first: int) -> None:
    assert await sort_names(vendor, "/v1/pupils", "surname,forename", first) == IN_ORDER
    assert await sort_names(vendor, "/v1/pupils", "-surname", first) == IN_ORDER[::-1]
    query = (
        "query ($n: Int, $after: String) { pupils(first: $n, after: $after, orderBy: [{field: surname}])"
        " { nodes { surname } pageInfo { endCursor hasNextPage } } }"
    )
    found: list[str] = []
    after = None
    while True:
        page = (await asked(vendor, query, n=first, after=after))["pupils"]
        found += [node["surname"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert found == IN_ORDER


async def test_a_linked_list_is_sorted_and_filtered_by_name(small_trust: Trust, named: list[str], vendor: Any) -> None:
    oak = small_trust.ids["Oak"]
    assert await sort_names(vendor, f"/v1/schools/{oak}/pupils", "surname") == IN_ORDER
    assert await sort_names(vendor, f"/v1/schools/{oak}/onRoll", "surname") == IN_ORDER
    group = {"code": "6A", "name": "6A", "kind": "class", "members": [{"reference": f"P{n}"} for n in range(1, len(SURNAMES) + 1)]}
    body = {"school": {"urn": URNS["Oak"]}, "academicYear": "2017-18", "asOf": str(AS_OF), "entries": [group]}
    await sent(vendor, "/v1/groups", body)
    group_id = await small_trust.value("SELECT id FROM groups")
    assert await sort_names(vendor, f"/v1/groups/{group_id}/pupils", "surname") == IN_ORDER
    query = "query ($w: PupilWhere) { schools { nodes { onRoll(where: $w, orderBy: [{field: surname}]) { nodes { surname } } } } }"
    (school,) = (
        node for node in (await asked(vendor, query, w={"surname": "DE *"}))["schools"]["nodes"] if node["onRoll"]["nodes"]
    )
    assert school["onRoll"]["nodes"] == [{"surname": "de Souza"}, {"surname": "de Vries"}]


async def test_preferred_names_are_written_shown_and_taken_away(small_trust: Trust, vendor: Any) -> None:
    async def names() -> list[Any]:
        (found,) = (await vendor.get("/v1/pupils?fields=surname,forename,preferredSurname,preferredForename,version")).json()[
            "data"
        ]
        return list(found.values())

    assert await record(vendor, entry(1, preferredForename=" Bob ", forename="Robert")) == {"created": 1}
    assert await names() == ["Surname1", "Robert", None, "Bob", 1]
    assert await record(vendor, entry(1, forename="Robert")) == {"unchanged": 1}
    assert await record(vendor, entry(1, forename="Robert", preferredForename="Bob", preferredSurname="Smythe")) == {"updated": 1}
    assert await names() == ["Surname1", "Robert", "Smythe", "Bob", 2]
    assert await record(vendor, entry(1, forename="Robert") | {"preferredForename": None}) == {"updated": 1}
    assert await names() == ["Surname1", "Robert", "Smythe", None, 3]
    id_ = str(await small_trust.value("SELECT id FROM pupils"))
    for change, expected in (
        ({"preferredForename": "Robbie"}, ["Surname1", "Robert", "Smythe", "Robbie", 4]),
        ({"preferredSurname": None}, ["Surname1", "Robert", None, "Robbie", 5]),
        ({"forename": "Bert"}, ["Surname1", "Bert", None, "Robbie", 6]),
    ):
        answer = await vendor.patch(f"/v1/pupils/{id_}", json=change, headers={"If-Match": "*"})
        assert answer.json()["outcome"] == "updated", answer.text
        assert await names() == expected
    mutation = "mutation ($i: PupilChangeInput!) { updatePupil(input: $i) { outcome } }"
    await asked(vendor, mutation, i={"id": id_, "expectedVersion": 6, "preferredForename": None})
    assert await names() == ["Surname1", "Bert", None, None, 7]


async def test_a_judgement_brings_a_joiner_with_a_preferred_name(vendor: Any) -> None:
    await opened(vendor)
    body = batch("Oak", [judged(1)], asOf=str(AS_OF), pupils=[entry(1, preferredForename="Ally")])
    assert counted(await sent(vendor, "/v1/judgements", body)) == {"created": 1}
    assert await look_up(vendor, preferredForename="ALLY") == ["Surname1"]


async def test_pupils_are_found_and_sorted_by_preferred_names(vendor: Any) -> None:
    await record(
        vendor,
        entry(1, surname="Adams", forename="Zoë", preferredForename="Bea"),
        entry(2, surname="Brown", forename="Ann"),
        entry(3, surname="Cole", forename="Amy", preferredForename="Élise", preferredSurname="Aaron"),
    )
    assert await look_up(vendor, preferredForename="b*") == ["Adams"]
    assert await look_up(vendor, preferredForename="E\u0301LISE") == ["Cole"]
    assert await look_up(vendor, preferredForename="Ann") == []
    by_forename = (await vendor.get("/v1/pupils?sort=preferredForename&fields=forename")).json()["data"]
    assert [row["forename"] for row in by_forename] == ["Ann", "Zoë", "Amy"]
    by_surname = (await vendor.get("/v1/pupils?sort=preferredSurname&fields=surname")).json()["data"]
    assert [row["surname"] for row in by_surname] == ["Cole", "Adams", "Brown"]


async def test_preferred_names_need_the_scope_of_names(small_trust: Trust, vendor: Any) -> None:
    await record(vendor, entry(1, preferredForename="Ally"))
    other = await small_trust.client("no names", f"school:{URNS['Oak']}=pupils:read")
    for query in ("fields=preferredForename", "sort=preferredSurname"):
        assert (await other.get(f"/v1/pupils?{query}")).status_code == 403
    await sent(other, "/v1/pupils/lookup", {"where": {"preferredForename": "Ally"}}, 403)
    refused = await vendor.get("/v1/pupils?preferredForename=Ally")
    assert (refused.status_code, issues(refused.json())) == (400, {"preferredForename": "filter-in-body-only"})


@pytest.mark.parametrize(("stored", "again"), [("O'Brien", "O’Brien"), ("O’Brien", "O'Brien"), ("Smith-Jones", "Smith‑Jones")])
async def test_another_kind_of_apostrophe_or_hyphen_is_no_change(vendor: Any, stored: str, again: str) -> None:
    await record(vendor, entry(1, surname=stored, preferredForename=stored))
    assert await record(vendor, entry(1, surname=again, preferredForename=again)) == {"unchanged": 1}
    (found,) = (await vendor.get("/v1/pupils?fields=id,surname")).json()["data"]
    assert found["surname"] == stored
    answer = await vendor.patch(f"/v1/pupils/{found['id']}", json={"surname": again}, headers={"If-Match": "*"})
    assert answer.json()["outcome"] == "updated", "a person who corrects the spelling is obeyed"
    assert await look_up(vendor, surname=stored) == [again]


async def test_a_correction_of_case_is_a_change(vendor: Any) -> None:
    await record(vendor, entry(1, surname="MCDONALD"))
    assert await record(vendor, entry(1, surname="McDonald")) == {"updated": 1}
    assert await look_up(vendor, surname="mcdonald") == ["McDonald"]


async def test_a_roll_with_names_is_a_fixed_number_of_statements(small_trust: Trust, vendor: Any) -> None:
    counts = []
    for first, last in ((1, 3), (11, 13), (21, 71)):
        with small_trust.statements.counting() as found:
            await record(vendor, *(entry(n, preferredForename=f"N{n}") for n in range(first, last)))
        counts.append(len(found))
    assert counts[1] == counts[2] > 0
