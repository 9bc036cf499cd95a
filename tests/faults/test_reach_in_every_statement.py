"""What is out of reach is out of the query: with a role for which row-level security is off, nothing of another tenant is told or written.

Foreign and absent are the same bytes in both interfaces, for every id and natural key that a request can name.
"""

import re
from typing import Any
from uuid import UUID

import pytest

from domain import COMMANDS, RESOURCES
from domain.declare.ids import get_type_number, new_id
from domain.declare.resource import Filter
from domain.write.command import Command
from tests.fixtures.both_roles import BothRoles
from tests.fixtures.command_requests import DOCUMENTS, ENTRY, EVERY_PLACE, URL, by_graphql, by_rest, comparable, tries
from tests.fixtures.sizes import choose_some
from tests.fixtures.two_trusts import SCHOOLS, TwoTrusts, batch, upn

INTERFACES = {"rest": by_rest, "graphql": by_graphql}


OF_THE_TENANT = {"trust", "window", "subject", "aspect", "scheme"}
"""What all schools of a tenant share, so that nothing of it is a neighbour's."""
BY_UPN = {"record_pupils", "record_judgements pupils", "update_pupil"}
"""Schools of one tenant hear by UPN that a child is or was the other's, and nothing else of them."""


def is_of_a_school(command: Command, place: str) -> bool:
    parts = place.split(".")
    if place == URL:
        return command.name.split("_")[1] in ("pupil", "group", "school")
    if parts[-1] in ("upn", "formerUpns") and BY_UPN & {command.name, f"{command.name} {parts[0]}"}:
        return False
    return not OF_THE_TENANT & set(parts) and parts[0] != "tenant"


def test_every_command_is_tried() -> None:
    assert {command.name for command, _ in EVERY_PLACE} == set(COMMANDS)


OF_BODIES = choose_some([each for each in EVERY_PLACE if each[1] != URL], 4)
SOME_PLACES = [each for each in EVERY_PLACE if each[1] == URL or each in OF_BODIES]
"""In the suite every URL, and half of the places in bodies."""


@pytest.mark.parametrize(("command", "place"), SOME_PLACES, ids=[f"{command.name} {place}" for command, place in SOME_PLACES])
async def test_a_command_that_names_what_is_anothers_answers_as_if_it_were_absent(
    command: Command, place: str, both_roles: BothRoles
) -> None:
    """Of another tenant, and of another school of the same tenant; with and without row-level security."""
    for interface, send in INTERFACES.items():
        kinds = [("North", both_roles.foreign)] + [("Alder", both_roles.neighbour)] * is_of_a_school(command, place)
        for client, others in kinds:
            answers = [
                [await send(both_roles.http[role, client], command, *try_) for try_ in tries(command, place, names, both_roles.own)]
                for role in ("bypassing", "app")
                for names in (others, both_roles.absent)
            ]
            assert all(each == answers[0] for each in answers), (interface, client, answers)
            assert all(answer.status < 500 for answer in answers[0]), answers[0]
        own = [
            await send(both_roles.http["bypassing", "North"], command, *try_)
            for try_ in tries(command, place, both_roles.own, both_roles.own)
        ]
        foreign = [
            await send(both_roles.http["bypassing", "North"], command, *try_)
            for try_ in tries(command, place, both_roles.foreign, both_roles.own)
        ]
        says_nothing = str(place).endswith("formerUpns")  # a former permanent UPN identifies nobody
        assert says_nothing or all(mine != theirs for mine, theirs in zip(own, foreign, strict=True)), "the name says nothing"


async def contents(two_trusts: TwoTrusts) -> list[Any]:
    names = [row["relname"] for row in await two_trusts.as_superuser(_TABLES)]
    hashes = ", ".join(f"(SELECT md5(COALESCE(string_agg(t::text, '' ORDER BY t::text), '')) FROM {name} t)" for name in names)
    return list(await two_trusts.as_superuser(f"SELECT {hashes}"))


_TABLES = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
    " AND relname <> 'receipts'"
)


async def test_what_is_refused_writes_nothing(both_roles: BothRoles) -> None:
    """The same without a dry run, where a name of another tenant's is refused."""
    before, refused = await contents(both_roles.two_trusts), 0
    for command, place in EVERY_PLACE:
        for send in INTERFACES.values():
            for id_, body in tries(command, place, both_roles.foreign, both_roles.own):
                http = both_roles.http["bypassing", "North"]
                if (await send(http, command, id_, body)).status >= 400:
                    assert (await send(http, command, id_, body, dry=False)).status >= 400
                    refused += 1
    assert refused > 60
    assert await contents(both_roles.two_trusts) == before


# Within a tenant


async def test_a_child_who_has_left_for_a_school_out_of_reach_is_neither_judged_nor_aimed_for(both_roles: BothRoles) -> None:
    """Birch had the child, whose main school is Alder now."""
    for name in ("record_targets", "record_judgements"):
        body = {key: value for key, value in DOCUMENTS[name].items() if key != "pupils"} | {"school": {"urn": SCHOOLS["Birch"]}}
        unnamed = {key: value for key, value in body["entries"][0].items() if key != "reference"}
        for entry in ({"upn": upn("Birch", 0)}, {"id": await _moved(both_roles.two_trusts)}):
            answers = [
                await send(both_roles.http[role, "Birch"], COMMANDS[name], "", body | {"entries": [unnamed | entry]})
                for role in ("app", "bypassing")
                for send in INTERFACES.values()
            ]
            assert [answer.status for answer in answers] == [422] * 4, answers
            assert answers[:2] == answers[2:]


async def _moved(two_trusts: TwoTrusts) -> str:
    rows = await two_trusts.rows(two_trusts.database, two_trusts.clients["North"].caller, RESOURCES["pupil"])
    return str(next(row["id"] for row in rows if row["upn"] == upn("Birch", 0)))


async def test_a_roll_answers_the_same_for_children_at_other_schools(both_roles: BothRoles) -> None:
    """A former school's spell, a whole roll, and keys of two children: no version and no id of who is out of reach."""
    rows = await both_roles.two_trusts.rows(
        both_roles.two_trusts.database, both_roles.two_trusts.clients["North"].caller, RESOURCES["pupil"]
    )
    ids = {row["upn"]: row["id"] for row in rows}
    former = ENTRY | {"id": ids[upn("Birch", 0)], "enrolments": [{"from": "2020-09-01", "to": "2025-01-04", "status": "C"}]}
    bodies = [
        batch("Birch", [ENTRY | {"id": ids[upn("Birch", 1)], "upn": upn("Alder", 1)}], asOf="2025-02-01"),
        batch("Birch", [former], asOf="2025-02-01"),
        batch("Birch", [ENTRY | {"id": ids[upn("Birch", 1)], "sameChild": True}], asOf="2024-12-01", complete=True, maxLeavers=100),
    ]
    for body in bodies:
        params, prefer = {"dryRun": "true"}, {"Prefer": "return=representation"}
        answers = [
            comparable(await both_roles.http[role, "Birch"].post("/v1/pupils", json=body, params=params, headers=prefer))
            for role in ("app", "bypassing")
        ]
        assert answers[0] == answers[1], body
    assert answers[0].status == 200


# Reads


def make_absent(text: str) -> str:
    """An id of the same form that no row has."""
    return re.sub(r"\w{8}(-\w{4}){3}-\w{12}", lambda id_: str(new_id(get_type_number(UUID(id_[0])))), text)


async def test_reads_of_what_is_anothers_and_of_what_is_nowhere_are_the_same_bytes(both_roles: BothRoles) -> None:
    """By id, through links, by filters in a URL and in a body, and among the arguments of aggregates."""
    http, two_trusts, seen = both_roles.http["bypassing", "North"], both_roles.two_trusts, set[str]()
    for name, resource in RESOURCES.items():
        rows = await two_trusts.rows(two_trusts.database, two_trusts.clients["South"].caller, resource)
        own = await two_trusts.rows(two_trusts.database, two_trusts.clients["North"].caller, resource)
        naming = [
            name
            for name, field in resource.fields.items()
            if field.filterable and re.search(r"(\b(id|urn|upn|reference)|Id|Urn|Upn|Reference)$", name)
        ]
        known = {field: {row[field] for row in own} - {None} for field in naming}
        row = next((row for row in rows if not any(row[field] in known[field] for field in naming)), None)
        if row is None:
            continue
        seen.add(name)
        nowhere = make_absent(str(row.get("id")))
        if resource.has_id:
            paths = ["", *(f"/{link}" for link, to in resource.links.items() if to.many)]
            for path in paths:
                found = [comparable(await http.get(f"/v1/{resource.path}/{id_}{path}")) for id_ in (row["id"], nowhere)]
                assert found[0] == found[1]
                assert found[0].status == 404
            text = f"query ($id: ID!) {{ {name}(id: $id) {{ id }} node(id: $id) {{ id }} }}"
            asked = [
                comparable(await http.post("/graphql", json={"query": text, "variables": {"id": id_}}))
                for id_ in (row["id"], nowhere)
            ]
            assert asked[0] == asked[1]
        for field in naming:
            declared, value = resource.fields[field], row[field]
            if value is None:
                continue
            absent = make_absent(value) if "-" in value else "199999" if value.isdigit() else "nobody"
            absent = {"id": nowhere, "groupId": absent if "-" in value else "TR999999", "upn": upn("Fir", 99)}.get(field, absent)
            if resource.has_lookup:
                sent = [
                    comparable(await http.post(f"/v1/{resource.path}/lookup", json={"where": {field: v}})) for v in (value, absent)
                ]
                assert sent[0] == sent[1]
                assert b'"data":[]' in sent[0].body
            if declared.filter is Filter.ANYWHERE:
                sent = [comparable(await http.get(f"/v1/{resource.path}", params={field: v})) for v in (value, absent)]
                assert sent[0] == sent[1], (name, field)
                assert b'"data":[]' in sent[0].body
    assert set(RESOURCES) - seen <= {"grade", "code"}, "these have no id"
    question = {"groupBy": "subject", "window": "2024-25/KS2"}
    for key, values in {
        "school": (both_roles.foreign.school["urn"], both_roles.absent.school["urn"]),
        "trust": (both_roles.foreign.trust["id"], both_roles.absent.trust["id"]),
        "window": (both_roles.foreign.window, both_roles.absent.window),
        "subject": ("latin", "nothing"),
    }.items():
        by = {"groupBy": "window"} if key == "subject" else {}
        sent = [comparable(await http.get("/v1/aggregates", params=question | by | {key: v})) for v in values]
        assert sent[0] == sent[1]
        assert sent[0].status == 422
