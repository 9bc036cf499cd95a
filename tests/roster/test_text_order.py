"""Texts that are not names of people are sorted in the same order, by a function of the database that makes the same keys."""

import random
import unicodedata
from typing import Any

import asyncpg

from domain.roster import text_order
from domain.roster.names import list_weights, make_sort_key
from domain.store.schema import MIGRATIONS
from domain.support.texts import clean_text, find_invisible
from tests.fixtures.migrations import migrated
from tests.fixtures.small_trust import URNS, Trust, asked, roll, sent

NAMES = [
    "Zeta",
    "6b",
    "de Souza",
    "Özil",
    "6A",
    "Łukasz",
    "Ångström",
    "O'Brien",
    "10 Élan",
    "o’brien Žagar",
    "Dean",
    "St Mary's",
    "St. Mary",
]
IN_ORDER = sorted(NAMES, key=lambda name: make_sort_key(name).encode())


def list_texts() -> list[str]:
    """Every letter of the table and some that are not in it, alone, and at random in texts as they are stored."""
    generator = random.Random(5)
    characters = [*list_weights(), *map(chr, range(0x20, 0x2100)), *"王日金한글🙂ጸሐይעברית"]
    characters = [c for c in characters if find_invisible(f"a{c}b") is None and unicodedata.category(c) != "Cn"]
    texts = [clean_text(c) for c in characters]
    for pool in (characters, characters, [chr(n) for n in range(0x20, 0x250)]):
        texts += [clean_text("".join(generator.choices(pool, k=generator.randrange(1, 15)))) for _ in range(1_000)]
    return [text for text in texts if find_invisible(text) is None] + ["", "a  b", " a", "St  Mary's "]


async def test_the_database_makes_the_same_keys(small_trust: Trust) -> None:
    texts = list_texts()
    rows = await small_trust.operator.fetch("SELECT t, make_sort_key(t) AS key FROM unnest($1::text[]) AS t", texts)
    assert [ascii((t, key, make_sort_key(t))) for t, key in rows if key != make_sort_key(t)] == []
    assert len(rows) == len(texts) > 5_000


async def sort(client: Any, plural: str, field: str, **query: Any) -> list[Any]:
    """The values of a field in its order: page by page in REST (each longer than the last), forwards and backwards, and in GraphQL."""
    values: list[Any] = []
    page = {"endCursor": None, "hasMore": True}
    while page["hasMore"]:
        after = {"after": page["endCursor"]} if values else {}
        answer = (
            await client.get(f"/v1/{plural}", params={"sort": field, "first": 2 + len(values), "fields": field, **after, **query})
        ).json()
        values += [row[field] for row in answer["data"]]
        page = answer["page"]
    backwards = (await client.get(f"/v1/{plural}", params={"sort": f"-{field}", "first": 1000, "fields": field, **query})).json()
    assert [row[field] for row in backwards["data"] if row[field] is not None] == [v for v in reversed(values) if v is not None]
    document = f"{{ {plural}(first: 1000, orderBy: [{{field: {field}}}]) {{ nodes {{ {field} }} }} }}"
    assert [node[field] for node in (await asked(client, document))[plural]["nodes"]] == values
    return values


async def test_schools_and_groups_are_sorted_in_the_root_order(small_trust: Trust, vendor: Any) -> None:
    groups = [{"code": name, "name": name[::-1], "kind": "class", "members": []} for name in NAMES]
    await sent(vendor, "/v1/groups", roll("Oak", groups, academicYear="2017-18"))
    assert await sort(vendor, "groups", "code") == IN_ORDER
    assert await sort(vendor, "groups", "name") == sorted((n[::-1] for n in NAMES), key=lambda n: make_sort_key(n).encode())
    for urn, name in ((100001, "Élan"), (100002, "de Vries"), (100003, "Zoë")):
        await small_trust.operator.execute("UPDATE schools SET name = $2 WHERE urn = $1", urn, name)
    assert await sort(vendor, "schools", "name") == ["de Vries", "Élan", "Zoë"]
    towns = {100001: "Élan", 100002: "de Vries", 100003: "Zoë"}
    for field, column in (("town", "town"), ("localAuthority", "local_authority")):
        for urn, name in towns.items():
            await small_trust.operator.execute(f"UPDATE schools SET {column} = $2 WHERE urn = $1", urn, name)
        assert await sort(vendor, "schools", field) == ["de Vries", "Élan", "Zoë"]
    nested = "{ schools(first: 1) { nodes { groups(first: 3, orderBy: [{field: code}]) { nodes { code } } } } }"
    (school,) = (await asked(vendor, nested.replace("first: 1", f"where: {{urn: [{URNS['Oak']}]}}")))["schools"]["nodes"]
    assert [node["code"] for node in school["groups"]["nodes"]] == IN_ORDER[:3]


async def test_every_text_of_every_list_can_be_sorted_by(small_trust: Trust, vendor: Any) -> None:
    """The keyset of a page is compared in the order of the list, whatever the field."""
    for plural, field in (("trusts", "name"), ("subjects", "name"), ("schemes", "code"), ("codes", "meaning"), ("aspects", "code")):
        values = await sort(vendor, plural, field)
        assert values == sorted(values, key=lambda value: make_sort_key(value).encode())
        assert values, plural


async def test_other_rules_are_written_by_migrate_and_end_the_answers_of_before(
    small_trust: Trust, vendor: Any, monkeypatch: Any
) -> None:
    url = "/v1/schools?sort=name&fields=name"
    etag = (await vendor.get(url)).headers["ETag"]
    assert await migrated(small_trust.databases, MIGRATIONS) == [
        f"Nothing to do: the schema is {await small_trust.value('SELECT version_num FROM alembic_version')}, the newest."
    ]
    assert (await vendor.get(url, headers={"If-None-Match": etag})).status_code == 304
    monkeypatch.setattr(text_order, "_COMMENT", "Rules of another version")
    monkeypatch.setattr(text_order, "weigh", lambda character: (chr(0x200 - ord(character)), "!", "!"))
    owner = await asyncpg.connect(small_trust.databases.owner_url)
    told: list[str] = []
    await text_order.write_text_order(owner, told.append)
    await text_order.write_text_order(owner, told.append)
    await owner.close()
    assert told == ["Wrote the order of names and codes."]
    after = await vendor.get(url, headers={"If-None-Match": etag})
    assert [row["name"] for row in after.json()["data"]] == ["Oak", "Elm", "Ash"]
