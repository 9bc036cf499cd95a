"""A client that is revoked, or whose grants have ended: it is told so by the first request after, at every URL and in both interfaces."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio

from domain import RESOURCES
from domain.clients.clients import find_client, revoke_client
from domain.clients.grants import approve_grant, list_grants, parse_grant, revoke_grant
from domain.declare.ids import new_id
from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import URNS, WINDOW, Trust, entry, open_trust, opened, roll, sent

ROLL = roll("Oak", [entry(1), entry(2)])
PUPILS = "{ pupils { nodes { id } } }"
AGGREGATES = f'{{ aggregates(groupBy: [school], window: "{WINDOW}", subject: "reading") {{ nodes {{ eligible }} }} }}'
CREATE = "mutation($i: PupilBatchInput!) { recordPupils(input: $i) { received } }"
GIAS = {"asOf": (None, "2022-04-20"), "file": ("groups.csv", b"Group UID\n1\n")}


async def graphql(client: httpx2.AsyncClient, query: str, **variables: Any) -> httpx2.Response:
    headers = {"Accept": "application/graphql-response+json"}
    return await client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)


OF_TRUSTS = {
    "trust",
    "code",
    "subject",
    "conjunctionPart",
    "aspect",
    "scheme",
    "schemeVersion",
    "grade",
    "commonScale",
    "crosswalk",
    "crosswalkGrade",
    "window",
    "windowStateChange",
    "publication",
    "publicationChange",
    "calendarLink",
    "collectionAnswer",
    "client",
    "clientChange",
    "publicKey",
    "grant",
    "grantChange",
}
"""The resources of which a trust without a school has rows, or nobody owns the rows."""


@dataclass(frozen=True)
class AskForRows:
    """A list of a resource, or the rows that it links to, in one of the interfaces."""

    path: str
    query: str | None
    of_trusts: bool

    async def send(self, client: httpx2.AsyncClient) -> httpx2.Response:
        return await client.get(self.path) if self.query is None else await graphql(client, self.query)


def list_all_questions() -> list[AskForRows]:
    """Returns one for every resource and every link, in both interfaces."""
    asks = []
    for resource in RESOURCES.values():
        of_trusts = resource.name in OF_TRUSTS
        asks.append(AskForRows(f"/v1/{resource.path}", None, of_trusts))
        asks.append(AskForRows("", f"{{ {resource.plural} {{ nodes {{ __typename }} }} }}", of_trusts))
        for name, link in resource.links.items():
            reached = of_trusts and link.target in OF_TRUSTS
            field = f"{name} {{ nodes {{ __typename }} }}" if link.many else f"{name} {{ __typename }}"
            asks.append(AskForRows(f"/v1/{resource.path}?include={name}", None, reached))
            asks.append(AskForRows("", f"{{ {resource.plural} {{ nodes {{ {field} }} }} }}", reached))
    return asks


Ask = Callable[[httpx2.AsyncClient, dict[str, str]], Awaitable[httpx2.Response]]
ASKS: dict[str, Ask] = {
    "a list": lambda client, ids: client.get("/v1/pupils"),
    "a spreadsheet": lambda client, ids: client.get("/v1/pupils?format=csv"),
    "a list of the register": lambda client, ids: client.get("/v1/schools"),
    "a list of nothing": lambda client, ids: client.get("/v1/targets"),
    "a row": lambda client, ids: client.get(f"/v1/pupils/{ids['pupil']}"),
    "a list by a code": lambda client, ids: client.get("/v1/judgements?subjectCode=reading"),
    "a list by a code by GraphQL": lambda client, ids: graphql(
        client, '{ judgements(where: {subjectCode: "reading"}) { nodes { id } } }'
    ),
    "a window by its code": lambda client, ids: client.get(f"/v1/windows/{WINDOW.replace('/', '%2F')}"),
    "a window is closed by its code": lambda client, ids: client.post(
        f"/v1/windows/{WINDOW.replace('/', '%2F')}/close?dryRun=true"
    ),
    "a row of no one": lambda client, ids: client.get("/v1/pupils/nobody"),
    "what a row leads to": lambda client, ids: client.get(f"/v1/schools/{ids['school']}/pupils"),
    "a lookup": lambda client, ids: client.post("/v1/pupils/lookup", json={"where": {"surname": "Surname1"}}),
    "aggregates": lambda client, ids: client.get(f"/v1/aggregates?groupBy=school&window={WINDOW}&subject=reading"),
    "a batch": lambda client, ids: client.post("/v1/pupils", json=ROLL),
    "an empty batch": lambda client, ids: client.post("/v1/pupils", json=ROLL | {"entries": []}),
    "a dry run": lambda client, ids: client.post("/v1/pupils?dryRun=true", json=ROLL),
    "a batch again": lambda client, ids: client.post("/v1/pupils", json=ROLL, headers={"Idempotency-Key": "k"}),
    "a change": lambda client, ids: client.patch(
        f"/v1/schools/{ids['school']}", json={"shortName": "O"}, headers={"If-Match": "*"}
    ),
    "a stored answer": lambda client, ids: client.get("/v1/idempotency-keys/k"),
    "rows by GraphQL": lambda client, ids: graphql(client, PUPILS),
    "rows by GraphQL with variables": lambda client, ids: graphql(
        client, "query($n: Int) { pupils(first: $n) { nodes { id } } }", n=7
    ),
    "a node by GraphQL": lambda client, ids: graphql(client, "query($id: ID!) { node(id: $id) { id } }", id=ids["pupil"]),
    "aggregates by GraphQL": lambda client, ids: graphql(client, AGGREGATES),
    "a command by GraphQL": lambda client, ids: graphql(client, CREATE, i=ROLL),
    "a stored answer by GraphQL": lambda client, ids: graphql(client, '{ receipt(key: "k") { operation } }'),
    "the import": lambda client, ids: client.post("/v1/imports/gias", files=GIAS),
}


@dataclass
class Case:
    """The application, a client with two grants of which it has used everything, and ids to ask for."""

    here: Trust
    name: str
    client: httpx2.AsyncClient
    ids: dict[str, str]

    async def client_id(self) -> UUID:
        found = await find_client(self.here.operator, self.name)
        assert found is not None
        return found.id

    async def end_grants(self) -> None:
        for grant in await list_grants(self.here.operator, await self.client_id()):
            await revoke_grant(self.here.operator, grant.id)


@pytest_asyncio.fixture(scope="module")
async def shared_trust(module_databases: Databases) -> AsyncIterator[Trust]:
    """A trust with a window open, in which each case has a client of its own: nothing but that client is refused by what the case does."""
    async with open_trust(module_databases) as made:
        await opened(await made.client("vendor", "trust:4128=all"))
        yield made


@pytest.fixture
async def case(shared_trust: Trust) -> Case:
    name = f"app {len(shared_trust.made)}"
    client = await shared_trust.client(name, f"school:{URNS['Oak']}=all", "installation=imports:write")
    await sent(client, "/v1/pupils", ROLL, idempotency_key="k")
    (pupil, *_) = (await client.get("/v1/pupils?roll=all")).json()["data"]
    return Case(shared_trust, name, client, {"pupil": pupil["id"], "school": str(shared_trust.ids["Oak"])})


def problem_of(answer: httpx2.Response) -> dict[str, Any]:
    body = answer.json()
    return body["errors"][0]["extensions"]["problem"] if "errors" in body else body  # type: ignore[no-any-return]


@pytest.mark.parametrize("what", [*ASKS, "me", "me by GraphQL"])
async def test_the_first_request_of_a_revoked_client_is_refused(case: Case, what: str) -> None:
    """Also where the server has just read that the client may do everything."""
    asks = ASKS | {
        "me": lambda client, ids: client.get("/v1/me"),
        "me by GraphQL": lambda client, ids: graphql(client, "{ me { client { id } } }"),
    }
    before = await asks[what](case.client, case.ids)
    assert before.status_code not in (401, 403)
    await revoke_client(case.here.operator, await case.client_id())
    answer = await asks[what](case.client, case.ids)
    assert (answer.status_code, problem_of(answer)["type"].rsplit("/", 1)[1]) == (401, "unauthorised")
    assert 'error_description="The client is revoked."' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("what", ASKS)
async def test_the_first_request_after_the_last_grant_has_ended_is_refused(case: Case, what: str) -> None:
    assert (await ASKS[what](case.client, case.ids)).status_code not in (401, 403)
    await case.end_grants()
    for _ in range(2):  # once with what the server remembers, and once without
        answer = await ASKS[what](case.client, case.ids)
        assert (answer.status_code, problem_of(answer)["type"].rsplit("/", 1)[1]) == (403, "grant-ended")
        assert {issue["code"] for issue in problem_of(answer)["issues"]} == {"grant-ended"}
        case.here.transport.app.state.authenticator._statuses.discard(await case.client_id())


async def take_new_token(case: Case) -> None:
    case.client.headers["Authorization"] = f"Bearer {await case.here.token(case.name)}"


@pytest.mark.parametrize("what", ASKS)
async def test_a_new_token_is_reported_so_too(case: Case, what: str) -> None:
    """It has no scope, and the server has just read that the client may do everything."""
    assert (await ASKS[what](case.client, case.ids)).status_code not in (401, 403)
    await case.end_grants()
    await take_new_token(case)
    answer = await ASKS[what](case.client, case.ids)
    assert (answer.status_code, problem_of(answer)["type"].rsplit("/", 1)[1]) == (403, "grant-ended")
    assert {issue["code"] for issue in problem_of(answer)["issues"]} == {"grant-ended"}


async def test_with_a_new_token_me_lists_the_grants_that_have_ended(case: Case) -> None:
    await case.end_grants()
    await take_new_token(case)
    me = (await case.client.get("/v1/me")).json()
    assert (me["token"]["scopes"], [grant["state"] for grant in me["grants"]]) == ([], ["revoked", "revoked"])
    answer = await graphql(case.client, "{ me { grants { state } token { scopes } } }")
    assert answer.json()["data"]["me"] == {"grants": [{"state": "revoked"}] * 2, "token": {"scopes": []}}


async def test_a_new_token_is_reported_of_the_one_grant_that_has_ended(small_trust: Trust) -> None:
    """What a grant in force gives is as before, and what none ever gave is missing."""
    client = await small_trust.client("two", f"school:{URNS['Oak']}=pupils:read", f"school:{URNS['Oak']}=groups:read,targets:read")
    found = await find_client(small_trust.operator, "two")
    assert found is not None
    (of_groups,) = [g for g in await list_grants(small_trust.operator, found.id) if "groups:read" in g.scopes]
    await revoke_grant(small_trust.operator, of_groups.id)
    client.headers["Authorization"] = f"Bearer {await small_trust.token('two')}"
    assert (await client.get("/v1/me")).json()["token"]["scopes"] == ["pupils:read"]
    for path, status, code in (
        ("/v1/pupils", 200, None),
        ("/v1/groups", 403, "grant-ended"),
        ("/v1/targets", 403, "grant-ended"),
        ("/v1/judgements", 403, "scope-missing"),
    ):
        answer = await client.get(path)
        assert (answer.status_code, answer.json().get("type", "/").rsplit("/", 1)[1] or None) == (status, code), path


NARROW: dict[str, Ask] = {
    "a list of which its token has no scope": lambda client, ids: client.get("/v1/groups"),
    "a field": lambda client, ids: client.get("/v1/pupils?fields=surname"),
    "a command": lambda client, ids: client.post("/v1/pupils", json=ROLL),
    "a row": lambda client, ids: client.get(f"/v1/groups/{ids['pupil']}"),
    "aggregates": lambda client, ids: client.get(f"/v1/aggregates?groupBy=school&window={WINDOW}&subject=reading"),
    "the import": lambda client, ids: client.post("/v1/imports/gias", files=GIAS),
    "rows by GraphQL": lambda client, ids: graphql(client, "{ groups { nodes { id } } }"),
    "a command by GraphQL": lambda client, ids: graphql(client, CREATE, i=ROLL),
    "an unknown parameter": lambda client, ids: client.get("/v1/pupils?colour=red"),
    "a document that is none": lambda client, ids: graphql(client, "{ colours }"),
}


@pytest.mark.parametrize("what", NARROW)
async def test_a_revoked_client_gets_401_for_what_it_could_not_do_either(case: Case, what: str) -> None:
    name = f"narrow {case.name}"
    client = await case.here.client(name, f"school:{URNS['Oak']}=pupils:read")
    assert (await client.get("/v1/pupils")).status_code == 200
    assert (await NARROW[what](client, case.ids)).status_code in (400, 403)
    found = await find_client(case.here.operator, name)
    assert found is not None
    await revoke_client(case.here.operator, found.id)
    answer = await NARROW[what](client, case.ids)
    assert (answer.status_code, problem_of(answer)["type"].rsplit("/", 1)[1]) == (401, "unauthorised")


async def test_a_grant_that_expires_ends_by_itself(case: Case) -> None:
    expiry = "UPDATE grants SET expires_at = now() + $2 WHERE client_id = $1"
    await case.here.operator.execute(expiry, await case.client_id(), timedelta(seconds=1))
    await case.here.operator.execute("SELECT derive_reach()")
    answer = await case.client.get("/v1/pupils")
    while answer.status_code == 200:
        assert answer.json()["data"] != []
        answer = await case.client.get("/v1/pupils")
    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (403, "grant-ended")


async def test_me_lists_the_grants_that_have_ended(case: Case) -> None:
    await case.end_grants()
    me = (await case.client.get("/v1/me")).json()
    assert ([grant["state"] for grant in me["grants"]], me["schools"]) == (["revoked", "revoked"], [])
    answer = await graphql(case.client, "{ me { grants { state } } }")
    assert answer.json()["data"]["me"]["grants"] == [{"state": "revoked"}] * 2


async def test_a_grant_that_is_approved_again_counts_at_once(case: Case) -> None:
    await case.end_grants()
    assert (await case.client.get("/v1/pupils")).status_code == 403
    request = parse_grant(f"school:{URNS['Oak']}=pupils:read")
    await approve_grant(case.here.operator, await case.client_id(), request, purpose="tests", approved_by="tests")
    assert len((await case.client.get("/v1/pupils?roll=all")).json()["data"]) == 2
    targets = await case.client.get("/v1/targets")
    assert (targets.status_code, targets.json()["type"].rsplit("/", 1)[1]) == (403, "grant-ended")


async def test_what_ends_at_one_school_leaves_the_other(small_trust: Trust, vendor: httpx2.AsyncClient) -> None:
    """Lists lack what is gone, a row of it is 404, and a scope that was held there alone is refused."""
    await sent(vendor, "/v1/pupils", ROLL)
    client = await small_trust.client(
        "two", f"school:{URNS['Oak']}=pupils:read,pupils:name", f"school:{URNS['Elm']}=pupils:read,schools:read"
    )
    (pupil, *_) = (await client.get("/v1/pupils?roll=all")).json()["data"]
    found = await find_client(small_trust.operator, "two")
    assert found is not None
    (of_oak,) = [g for g in await list_grants(small_trust.operator, found.id) if g.target == f"school:{URNS['Oak']}"]
    await revoke_grant(small_trust.operator, of_oak.id)
    empty = await client.get("/v1/pupils?roll=all")
    assert (empty.status_code, empty.json()["data"]) == (200, [])  # Elm has nobody
    small_trust.transport.app.state.authenticator._statuses.discard(found.id)
    refused = await client.get("/v1/pupils?fields=surname")
    assert (refused.status_code, [i["at"] for i in refused.json()["issues"]]) == (403, ["pupil.surname"])
    empty = await client.get("/v1/pupils?roll=all")
    assert (empty.status_code, empty.json()["data"]) == (200, [])  # Elm has nobody
    assert (await client.get(f"/v1/pupils/{pupil['id']}")).status_code == 404
    assert len((await client.get("/v1/schools")).json()["data"]) == 1


async def test_a_scope_on_the_installation_alone_lists_the_register_alone(small_trust: Trust) -> None:
    operator = await small_trust.client("office", "installation=all")
    assert [(await operator.get(path)).status_code for path in ("/v1/schools", "/v1/trusts", "/v1/memberships")] == [200] * 3
    for path in ("/v1/pupils", "/v1/groups", "/v1/codes", f"/v1/aggregates?groupBy=school&window={WINDOW}&subject=reading"):
        answer = await operator.get(path)
        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (403, "scope-missing")
    answer = await graphql(operator, PUPILS)
    assert answer.status_code == 403
    assert "pupils:read" in (await operator.get("/v1/me")).json()["token"]["scopes"]


async def test_a_trust_without_a_school_gives_what_is_the_trusts_alone(small_trust: Trust) -> None:
    """From the first request on after its last school has left, and again once it has one."""
    group, school = new_id(1), small_trust.ids["Quay"]
    insert = "INSERT INTO trusts (id, group_uid, name, kind, status) VALUES ($1, 5000, 'Thicket', 'multi-academy', 'open')"
    await small_trust.operator.execute(insert, group)
    client = await small_trust.client("portal", "trust:5000=all")

    async def move(tenant: UUID) -> None:
        await small_trust.operator.execute("UPDATE schools SET tenant_id = $1 WHERE id = $2", tenant, school)
        await small_trust.operator.execute("SELECT derive_reach()")

    async def refused() -> set[str]:
        told = [await graphql(client, PUPILS), await graphql(client, AGGREGATES), await graphql(client, CREATE, i=ROLL)]
        paths = (
            "pupils",
            "schools",
            "judgements",
            "enrolments",
            "groups",
            "data-issues",
            "returns",
            "memberships",
            "pupils?format=csv",
        )
        told += [await client.get(f"/v1/{path}") for path in paths]
        told.append(await client.post("/v1/pupils", json=ROLL))
        return {f"{answer.status_code} {problem_of(answer)['type'].rsplit('/', 1)[1]}" for answer in told}

    assert await refused() == {"403 no-school-in-reach"}
    for ask in list_all_questions():
        answer = await ask.send(client)
        told = (answer.status_code, problem_of(answer)["type"].rsplit("/", 1)[1] if answer.status_code != 200 else "")
        assert told == ((200, "") if ask.of_trusts else (403, "no-school-in-reach")), ask
    assert (await client.get("/v1/me")).status_code == 200
    await move(group)
    assert len((await client.get("/v1/schools")).json()["data"]) == 1
    assert (await client.get("/v1/pupils")).json()["data"] == []
    await move(school)
    assert (await client.get("/v1/pupils")).status_code == 403
    assert await refused() == {"403 no-school-in-reach"}


async def test_a_scope_that_is_held_at_a_trust_without_a_school_alone_lists_nothing(small_trust: Trust) -> None:
    """The client reaches a school, but with another scope."""
    insert = "INSERT INTO trusts (id, group_uid, name, kind, status) VALUES ($1, 5001, 'Bramble', 'multi-academy', 'open')"
    await small_trust.operator.execute(insert, new_id(1))
    client = await small_trust.client("both", "trust:5001=pupils:read,windows:read", f"school:{URNS['Elm']}=schools:read")
    assert len((await client.get("/v1/schools")).json()["data"]) == 1
    assert (await client.get("/v1/windows")).json()["data"] == []
    for path in ("pupils", "window-subjects"):
        answer = await client.get(f"/v1/{path}")
        assert (answer.status_code, problem_of(answer)["type"].rsplit("/", 1)[1]) == (403, "no-school-in-reach"), path


async def test_a_list_that_needs_two_scopes_names_the_one_that_is_missing(small_trust: Trust) -> None:
    client = await small_trust.client("half", "trust:4128=windows:read,judgements:read")
    returns = await small_trust.client("other half", "trust:4128=judgements:read,pupils:read")
    for answer, scope in (
        (await client.get("/v1/discounts"), "pupils:read"),
        (await graphql(client, "{ discounts { nodes { id } } }"), "pupils:read"),
        (await returns.get("/v1/returns"), "windows:read"),
        (await graphql(returns, "{ returns { nodes { windowCode } } }"), "windows:read"),
    ):
        problem = problem_of(answer)
        assert (answer.status_code, problem["type"].rsplit("/", 1)[1]) == (403, "scope-missing")
        assert scope in problem["issues"][0]["message"]


async def test_a_list_of_a_reach_that_holds_nobody_is_empty(small_trust: Trust, vendor: httpx2.AsyncClient) -> None:
    assert (await vendor.get("/v1/pupils")).json()["data"] == []


async def test_standing_costs_no_statement(case: Case) -> None:
    with case.here.statements.counting() as statements:
        await case.client.get("/v1/pupils?fields=id")
    assert len(statements) == 1
