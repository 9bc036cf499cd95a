"""The quota of a client: how large it is, what is told of it, and what comes when it is used up."""

import base64
import re
from collections.abc import Iterator

import asyncpg
import httpx2
import pytest

from api.http import rate_limit
from api.http.context import RequestContext
from api.http.rate_limit import Buckets, QuotaExceeded
from domain.clients import clients, grants
from domain.declare.ids import new_id
from domain.store import embedded
from domain.store.database import Database, DatabaseUse
from tests.fixtures.databases import Databases, fresh_database
from tests.fixtures.server import Server, serving

RATE, BURST = 1, 6


@pytest.fixture(scope="module")
def tight(cluster: embedded.Cluster) -> Iterator[Server]:
    """A server that allows next to nothing."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MARKONCE_RATE", str(RATE))
        environment.setenv("MARKONCE_BURST", str(BURST))
        with serving(fresh_database(cluster)) as server:
            yield server


def remaining(answer: httpx2.Response) -> int:
    (left,) = re.findall(r'^"default";r=(\d+);t=\d+;pk=:[A-Za-z0-9+/=]+:$', answer.headers["ratelimit"])
    return int(left)


def test_the_rate_limit_is_in_every_answer_and_ends_in_429(tight: Server) -> None:
    tight.register("busy", "installation=trusts:read,schools:read")
    with tight.client("busy") as busy:
        answers = [busy.get("/v1/schools" if i % 2 else "/v1/schools?nonsense=1") for i in range(20 * BURST)]
        first, refused = answers[0], next(answer for answer in answers if answer.status_code == 429)
        key = base64.b64encode(tight.secrets["busy"][0].encode()).decode()
        assert first.headers["ratelimit-policy"] == f'"default";q={BURST};w={BURST // RATE};qu="cost";pk=:{key}:'
        assert remaining(first) == BURST - 1
        assert {answer.status_code for answer in answers} == {200, 400, 429}  # the register is empty, and is in reach
        wait = int(refused.headers["retry-after"])
        assert wait >= 1
        assert refused.headers["ratelimit"] == f'"default";r=0;t={wait};pk=:{key}:'
        problem = refused.json()
        assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
        assert (problem["status"], problem["violated-policies"]) == (429, ["default"])
        asked = [busy.post("/graphql", json={"query": "{ __typename }"}) for _ in range(20 * BURST)]
        (told, *_) = [answer for answer in asked if answer.status_code == 429]
        assert (told.json(), told.headers["content-type"]) == (problem, refused.headers["content-type"])
        assert int(told.headers["retry-after"]) >= 1
    with tight.client("operator") as other:
        assert other.get("/v1/schools").status_code != 429  # each client has its own


def test_guessing_a_secret_ends_in_429(tight: Server) -> None:
    tight.register("guessed", "installation=schools:read")
    client_id, _ = tight.secrets["guessed"]
    form = {"grant_type": "client_credentials"}
    with httpx2.Client(base_url=tight.base_url) as http:
        answers = [http.post("/oauth/token", data=form, auth=(client_id, f"guess {i}")) for i in range(20 * BURST)]
    assert {answer.status_code for answer in answers} == {401, 429}
    (refused, *_) = [answer for answer in answers if answer.status_code == 429]
    assert refused.json()["error"] == "temporarily_unavailable"
    assert int(refused.headers["retry-after"]) >= 1
    assert httpx2.post(f"{tight.base_url}/oauth/token", data=form, auth=tight.secrets["operator"]).status_code == 200


async def test_it_grows_with_the_tenants_within_reach(databases: Databases, database: Database) -> None:
    """A vendor that reaches two tenants has two shares; who reaches none has one. Read behind row-level security, as the app's role."""
    operator = await asyncpg.connect(databases.operator_url)
    trust, alone = new_id(1), new_id(2)
    for urn, school, tenant in ((1, new_id(2), trust), (2, new_id(2), trust), (3, alone, alone)):
        await operator.execute(
            "INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, status)"
            " VALUES ($1, $2, $3, 'A school', '1', 'Here', 'open')",
            *(school, tenant, urn),
        )
    for target, tenants in (("schools", 2), ("school:2", 1), ("installation", 0)):
        client_id, _ = await clients.create_client(operator, target, "client_secret")
        grant = grants.parse_grant(f"{target}=schools:read")
        await grants.approve_grant(operator, client_id, grant, purpose="test", approved_by="test")
        async with database.without_caller() as connection:
            stands = await clients.read_client_status(connection, client_id)
        assert stands is not None
        assert stands.tenants == tenants
        assert Buckets(10, 100).find("x", stands.tenants).size == 100 * max(tenants, 1)
    await operator.close()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(rate_limit, "time", made)
    return made


def taken(bucket: rate_limit.Bucket) -> int:
    """How many can be taken now."""
    for count in range(20_000):
        try:
            bucket.take()
        except QuotaExceeded:
            return count
    raise AssertionError("endless")


def fresh(rate: int, size: int) -> rate_limit.Bucket:
    return rate_limit.Bucket("x", rate, size, size, rate_limit.time.monotonic())


def test_a_bucket_empties_and_fills(clock: Clock) -> None:
    bucket = fresh(rate=2, size=10)
    assert (taken(bucket), bucket.wait) == (10, 1)
    clock.now += 0.5
    assert taken(bucket) == 1
    clock.now += 2
    assert taken(bucket) == 4
    clock.now += 1000
    assert bucket.wait == 0
    assert taken(bucket) == 10


def test_a_costly_request_is_waited_for_afterwards(clock: Clock) -> None:
    bucket = fresh(rate=2, size=10)
    bucket.take()
    assert taken(bucket) == 9
    clock.now += 5
    bucket.take()
    bucket.charge(15)
    assert bucket.wait == 4  # 15 more than the 9 it held are owed: 6, and one is wanted
    assert dict(bucket.make_headers())[b"ratelimit"].decode().startswith('"default";r=0;t=4;')
    bucket.charge(10**4)
    clock.now += 6
    assert taken(bucket) == 2  # never is more owed than a full bucket
    bucket.charge(-100)
    assert bucket.read_left() == 1  # and never is more there


@pytest.mark.parametrize(
    ("values", "body", "cost"),
    [(0, 0, 1), (999, 0, 1), (1000, 0, 2), (0, 99_999, 1), (600, 60_000, 2), (400, 60_000, 2), (399, 60_000, 1)],
)
def test_the_shares_of_values_and_bytes_are_added_and_rounded_down(clock: Clock, values: int, body: int, cost: int) -> None:
    """In whichever order they become known. Values that are charged again replace those before, and a 304 asks for none."""
    for steps in ((("values", values), ("body", body)), (("body", body), ("values", 10**6), ("values", values))):
        context = RequestContext("id", DatabaseUse(), quota=fresh(rate=1, size=10**4))
        assert context.quota is not None
        context.quota.take()
        for name, number in steps:
            context.charge(**{name: number})  # type: ignore[arg-type]
        assert (context.cost, taken(context.quota)) == (cost, 10**4 - cost)  # type: ignore[arg-type]


def test_memory_is_bounded_and_the_busy_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "MAX_BUCKETS", 3)
    buckets = Buckets(1, 5)
    busy = buckets.find("busy")
    for i in range(10):
        buckets.find(str(i))
        assert buckets.find("busy") is busy
    assert buckets._buckets.size == 3


def test_a_bucket_follows_the_reach_of_its_client() -> None:
    buckets = Buckets(1, 5)
    assert buckets.find("x", 400).size == 2000
    assert buckets.find("x", 1).take() is None
    assert dict(buckets.find("x", 1).make_headers())[b"ratelimit-policy"].decode().startswith('"default";q=5;w=5;')
    assert buckets.find("x", 1).tokens <= 5
