"""Every statement of a run is read again by the planner: each scan of a table that a tenant owns is bound to a tenant.

The run is every read and every command, by a role for which row-level security is off, so that no plan holds a condition of a policy.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx2

from domain import COMMANDS, RESOURCES
from domain.aggregates import editions
from domain.publishing import bases, publisher, release_publication
from domain.roster.record_pupils import planned_stays
from domain.store.embedded import SUPERUSER
from tests.fixtures.both_roles import BothRoles
from tests.fixtures.clock import PLANNED_DAY, PLANNING, freeze_clock
from tests.fixtures.command_requests import DOCUMENTS, ENTRY, EVERY_PLACE, by_rest, tries
from tests.fixtures.two_trusts import STARTER, batch, upn

NEW = ENTRY | {"reference": "new"}


async def _read_everything(http: httpx2.AsyncClient) -> None:
    """Every list and row with all it links to, spreadsheets, lookups, aggregates and what is told of the client, in both interfaces."""
    for name, resource in RESOURCES.items():
        answer = await http.get(f"/v1/{resource.path}", params={"include": ",".join(resource.links), "first": "3"})
        assert answer.status_code == 200, answer.text
        if resource.has_id:
            id_ = answer.json()["data"][0]["id"]
            await http.get(f"/v1/{resource.path}/{id_}", params={"include": ",".join(resource.links)})
            for link in (link for link, to in resource.links.items() if to.many):
                assert (await http.get(f"/v1/{resource.path}/{id_}/{link}")).status_code == 200
            shown = " ".join(
                f"{field} {{ {' '.join(of.members)} }}" if of.members else field for field, of in resource.fields.items()
            )
            text = f'{{ node(id: "{id_}") {{ id ... on {resource.type_name} {{ {shown} }} }} {name}(id: "{id_}") {{ id }} }}'
            assert "errors" not in (await http.post("/graphql", json={"query": text})).json()
        if resource.has_lookup:
            assert (await http.post(f"/v1/{resource.path}/lookup", json={"where": {}})).status_code == 200
    for by in ("subject,window", "school,subject,window", "subject,window,disadvantaged", "window,subject,yearGroup"):
        for view in ("own", "public"):
            assert (await http.get("/v1/aggregates", params={"groupBy": by, "view": view})).status_code == 200
    assert (await http.get("/v1/me")).status_code == 200
    assert (await http.get("/v1/idempotency-keys/none")).status_code == 404


async def _write_everything(both_roles: BothRoles, http: httpx2.AsyncClient) -> None:
    """Every command with what it takes, and the ways through it that have statements of their own. All is undone."""
    own, send = both_roles.own, by_rest
    for command, place in EVERY_PLACE:
        for id_, body in tries(command, place, own, own):
            await send(http, command, id_, body)
    planned = next(
        row["id"] for row in (await http.get("/v1/windows?fields=id,code")).json()["data"] if row["code"] == "2024-25/summer"
    )
    assert (await send(http, COMMANDS["open_window"], planned, {})).status == 200
    assert (await send(http, COMMANDS["delete_window"], planned, {})).status == 200
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("record_pupils", batch("Alder", [NEW], asOf="2025-02-01", complete=True, maxLeavers=100)),
        ("record_pupils", batch("Alder", [{**NEW, "upn": upn("Birch", 1)}], asOf="2025-02-01")),
        ("record_pupils", batch("Alder", [{**NEW, "upn": upn("Alder", 1), "reference": "Alder-1"}], asOf="2025-02-01")),
        (
            "record_judgements",
            DOCUMENTS["record_judgements"] | {"entries": [DOCUMENTS["record_judgements"]["entries"][0] | {"expectedVersion": 77}]},
        ),
        (
            "record_targets",
            DOCUMENTS["record_targets"] | {"entries": [DOCUMENTS["record_targets"]["entries"][0] | {"expectedVersion": 77}]},
        ),
    ]
    for name, body in bodies:
        await send(http, COMMANDS[name], "", body)
    with freeze_clock(PLANNING):
        assert (await send(http, COMMANDS["record_pupils"], "", batch("Alder", [STARTER], asOf=PLANNED_DAY))).status == 200
    await http.patch(
        f"/v1/pupils/{own.pupil['id']}", json={"upn": None, "yearGroup": "6"}, params={"dryRun": "true"}, headers={"If-Match": "*"}
    )


async def test_every_scan_of_what_a_tenant_owns_is_bound_to_a_tenant(both_roles: BothRoles) -> None:
    http = both_roles.http["bypassing", "North"]
    both_roles.statements.seen.clear()
    await _read_everything(http)
    await _write_everything(both_roles, http)
    of_a_day = [text for text in vars(planned_stays).values() if isinstance(text, str) and " planned_" in text and "$1" in text]
    assert len(of_a_day) > 5
    of_editions = [
        text.replace("{table}", table)
        for module in (publisher, bases, release_publication)
        for text in vars(module).values()
        if isinstance(text, str) and "$1" in text
        for table in ("publications", "publication_previews")
    ]
    assert len(of_editions) > 5
    ran = sorted({*both_roles.statements.seen, *of_a_day, *of_editions, editions.ROWS_SQL})
    loose: list[tuple[str, str]] = []
    scanned: set[str] = set()
    url = both_roles.two_trusts.databases.cluster.url(both_roles.two_trusts.databases.name, SUPERUSER)
    connection = await asyncpg.connect(url, statement_cache_size=0)
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    owned = {row["relname"]: row["of"] for row in await connection.fetch(_OWNED)}
    for statement in ran:
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)", statement):
            for table, is_bound in await _scans(connection, statement, owned):
                scanned.add(table)
                if not is_bound:
                    loose.append((table, " ".join(statement.split())))
    assert loose == []
    assert len(ran) > 100
    assert set(owned.values()) - scanned <= WITHIN_FUNCTIONS | OF_CLIENTS
    for unbound in (
        "groups g",
        "groups g JOIN group_members m USING (tenant_id)",
        "groups g, reach r WHERE r.tenant_id = g.tenant_id",
        "groups g, reach r WHERE r.tenant_id = g.tenant_id AND r.client_id = (SELECT max(id::text)::uuid FROM clients)",
        "judgements j WHERE j.client_id = $1",
    ):
        assert not any(bound for _, bound in await _scans(connection, f"SELECT 1 FROM {unbound}", owned))
    await connection.close()


WITHIN_FUNCTIONS = {
    *("judgement_history", "target_history", "enrolment_history", "characteristic_history", "record_changes"),
    *("tenant_versions", "retired_identifiers", "identifier_keys", "new_identities", "different_children"),
    *("conjunction_parts", "conjunction_cells", "scale_signatures"),
    *("read_counts", "unknown_reads"),
}
"""What statements only add to, or leave to the database's functions, each of which is told the tenant."""
OF_CLIENTS = {"jobs", "job_parts", "job_schools", "job_issues", "staged_rows"}
"""What belongs to a client, whichever tenants its rows are of (tests/api/rest/test_jobs.py)."""
_OWNED = """
SELECT c.relname, COALESCE(p.relname, c.relname) AS of FROM pg_class c
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND COALESCE(p.relrowsecurity, c.relrowsecurity)
"""
"""Tables behind row-level security and their partitions."""
CONDITIONS = ("Index Cond", "Recheck Cond", "Filter", "Join Filter", "Hash Cond", "Merge Cond", "One-Time Filter", "TID Cond")


async def _scans(connection: Any, statement: str, owned: dict[str, str]) -> list[tuple[str, bool]]:
    """By scan of a tenant's table in a statement's plan, whether conditions of the plan say whose the rows are: through any number of equalities,
    a parameter's or those of the caller's reach."""
    await connection.execute(f"PREPARE probe AS {statement}")
    most = max((int(n) for n in re.findall(r"\$(\d+)", statement)), default=0)
    values = f"({', '.join(['NULL'] * most)})" if most else ""
    nodes = list(_nodes(json.loads(await connection.fetchval(f"EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE probe{values}"))[0]["Plan"]))
    await connection.execute("DEALLOCATE probe")
    conditions = " AND ".join(str(node[kind]) for node in nodes for kind in CONDITIONS if kind in node)
    equal: dict[str, set[str]] = {}
    pairs = re.findall(r"([\w.]+) = (ANY \(\$\d+|\(hashed SubPlan|[\w.$]+)", conditions)
    callers = {node["Subplan Name"] for node in nodes if "Subplan Name" in node and "'markonce.caller'" in str(node.get("Output"))}
    compared = re.findall(r"(\w+\.client_id) = \((InitPlan \d+)\)", conditions)
    of_setting = [(column, plan) for column, plan in compared if plan in callers]  # a view reads the caller from the setting
    for left, right in [*pairs, *of_setting, *_renamed(nodes)]:
        equal.setdefault(left, set()).add(right)
        equal.setdefault(right, set()).add(left)
    scans = [
        (node, owned[node["Relation Name"]]) for node in nodes if node.get("Relation Name") in owned and "Scan" in node["Node Type"]
    ]
    given = {name for name in equal if "$" in name or "SubPlan" in name or "InitPlan" in name}
    within = {node["Alias"] for node, table in scans if table == "reach" and equal.get(f"{node['Alias']}.client_id", set()) & given}
    bound = _joined(equal, given | {f"{alias}.{column}" for alias in within for column in ("tenant_id", "school_id")})
    schools = {node["Alias"] for node in nodes if node.get("Relation Name") == "schools"}  # a school is of one tenant
    bound = _joined(equal, bound | {f"{alias}.tenant_id" for alias in schools if f"{alias}.id" in bound})
    return [
        (
            table,
            node["Alias"] in within
            if table == "reach"
            else f"{node['Alias']}.{'id' if table == 'tenants' else 'tenant_id'}" in bound,
        )
        for node, table in scans
    ]


def _renamed(nodes: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Columns of subqueries and what they are of: a scan of a subquery's rows has an alias of its own."""
    ctes = {node["Subplan Name"]: node for node in nodes if node.get("Subplan Name", "").startswith("CTE ")}
    for node in nodes:
        below = node["Plans"][0] if node["Node Type"] == "Subquery Scan" else ctes.get(f"CTE {node.get('CTE Name')}", {})
        for column in below.get("Output", ()):
            if re.fullmatch(r"\w+\.(tenant_id|school_id|id)", column):
                yield f"{node['Alias']}.{column.rpartition('.')[2]}", column


def _joined(equal: dict[str, set[str]], anchors: set[str]) -> set[str]:
    """All that equals an anchor."""
    found, waiting = set(anchors), list(anchors)
    while waiting:
        new = equal.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
