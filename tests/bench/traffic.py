"""What a workload is: the requests that each contender is sent, with ids drawn from the data, and the values that writes send."""

import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from tests.bench import rows
from tests.bench.data import Data, Trust, describe_window
from tests.bench.servers import Server

REST, GRAPHQL, LIMIT, FASTAPI, STRAWBERRY, CONSTANT = "REST", "GraphQL", "limit", "FastAPI ORM", "Strawberry", "constant"
REST_NONE, GRAPHQL_NONE = "REST, none kept", "GraphQL, none kept"
OURS = (REST, GRAPHQL)
"""Our interfaces with the response cache on, as it is by default."""
NONE_KEPT = (REST_NONE, GRAPHQL_NONE)
"""The same with MARKONCE_CACHE_MB=0."""
ROUTES = 5000
"""Requests in the file of a workload; of one that writes, in each turn."""
PAGES = 250
TURNS = 3
"""Grades that a judgement passes through, one in each turn of the requests."""
BATCH = 1250
"""Pupils of whom a batch judges four subjects."""
AHEAD = 15
"""Batches that nobody writes in a second."""
TURN = "{turn}"
"""Stands in a body for the number of times that all requests of its file have been sent before."""


class Request(NamedTuple):
    """What is sent; with an entity tag, on condition that the answer has changed. `key` is what its Idempotency-Key begins with, if wrk shall send one."""

    method: str
    path: str
    body: str = ""
    if_none_match: str = ""
    key: str = ""


@dataclass(frozen=True)
class Share:
    """The pupils that one workload writes, so that none takes another's change away: those with these numbers within their school,
    in this part of the schools."""

    numbers: range
    begin: float = 0
    end: float = 1


@dataclass(frozen=True)
class Workload:
    """`goals` are the least ratios of ours to a contender's rate; `rows` is what one request writes.

    `asks` makes the requests of a server, by contender; `limit` are the scripts of pgbench with their weights. `client` is who asks ours.
    Where a request takes seconds, more than `most_connections` would only measure a queue.

    What writes has a `share` of the pupils. Its requests are sent in turn, over all measurements, and each answer of ours counts its rows as
    `outcome`, or holds the text `read` where some requests read. `first_values` are batches that are written before.
    """

    name: str
    title: str
    asks: dict[str, Callable[["Bench"], list[Request]]]
    limit: tuple[tuple[str, int], ...] = ()
    goals: dict[str, float] = field(default_factory=dict)
    client: str = "trust"
    schools: int = 100
    rows: int = 0
    most_connections: int = 64
    clients: dict[str, str] = field(default_factory=dict)
    share: Share | None = None
    outcome: str = ""
    read: str = ""
    first_values: Callable[["Bench"], list[dict[str, object]]] | None = None
    makes_windows: bool = False

    @property
    def writes(self) -> bool:
        return bool(self.outcome)

    @property
    def is_bulk(self) -> bool:
        """Whether a request takes so long that those which a measurement's end would cut off are a part of its cost."""
        return self.rows > 1

    def client_of(self, contender: str) -> str:
        return self.clients.get(contender, self.client)

    def expected_text(self, contender: str) -> str:
        """What the answer to a write holds; the ordinary servers tell only how many rows they received."""
        if not self.writes:
            return ""
        return f'"{self.outcome if contender in OURS else "received"}":{self.rows}'


@dataclass
class Bench:
    """What requests are made of: the data, and a server of ours for cursors and entity tags. `routes` and `pages` are how many pupils and pages
    reads ask for."""

    data: Data
    server: Server
    draw: random.Random = field(default_factory=lambda: random.Random(4))
    windows_made: int = 0
    routes: int = ROUTES
    pages: int = PAGES

    @property
    def trust(self) -> Trust:
        """The largest one."""
        return self.data.trusts[0]

    def at(self, server: Server) -> "Bench":
        """The same for another server of ours."""
        return replace(self, server=server)

    def variables(self, workload: Workload) -> dict[str, object]:
        """Those of the scripts in limit/. They write in a trust of their own, where no server takes their changes away."""
        trust = self.data.trust(50 if workload.writes else workload.schools)
        of_trust = {"tenant": trust.id, "first": trust.first, "pupils": trust.pupils, "batches": trust.pupils // BATCH}
        return of_trust | {"window": self.data.window, "client": self.data.clients["trust"][0]}

    def pupils(self, most: int = ROUTES) -> list[str]:
        trust, count = self.trust, min(most, self.routes)
        return [self.data.pupil_id(trust.first + self.draw.randrange(trust.pupils)) for _ in range(count)]

    @cached_property
    def cursors(self) -> list[str]:
        """Of the end of each hundred pupils of the trust; the same order has the same cursors, whatever is asked for, by either interface."""
        found, after = [], ""
        for _ in range(self.pages):
            page = self.server.ask("GET", f"/v1/pupils?fields=id&first=100{after}")["page"]
            found.append(page["endCursor"])
            after = f"&after={page['endCursor']}"
        return found

    @property
    def places(self) -> list[str]:
        """The pupils at which those cursors stand."""
        return [rows.pupil_id(self.trust.first + 100 * (i + 1) - 1) for i in range(self.pages)]

    def urn(self, n: int) -> int:
        return self.trust.urns[(n - self.trust.first) // rows.PUPILS]

    def grades(self, n: int) -> tuple[str, ...]:
        """What the scheme of a pupil's school has, as data.py dealt them out."""
        return ("Below", "Just at", "At") if self.urn(n) % 4 == 0 else ("WTS", "EXS", "GDS")

    def numbers(self, share: Share) -> list[int]:
        """The pupils of a share, school after school."""
        schools = len(self.trust.urns)
        firsts = [
            self.trust.first + i * rows.PUPILS for i in range(int(schools * share.begin + 1e-9), int(schools * share.end + 1e-9))
        ]
        return [first + number for first in firsts for number in share.numbers]

    def entry(self, n: int, subject: str, turn: int) -> dict[str, object]:
        """A judgement whose grade is another one in each of TURNS turns."""
        at = n + rows.SUBJECTS.index(subject) + turn
        grade = self.grades(n)[at % TURNS]
        return {"id": self.data.pupil_id(n), "subject": subject, "grade": grade, "school": {"urn": self.urn(n)}}

    def make_windows(self, stream: "Stream", seconds: float) -> None:
        """Opens those that a stream can reach within so many seconds, through the interface: created-0 and so on, in which nothing is judged yet."""
        assert stream.position, "what creates is sent in turn"
        number = (stream.position.at + round(AHEAD * seconds)) // len(stream.requests) + 1
        for i in range(self.windows_made, number):
            year, term = self.data.window_year, self.data.window.rpartition("/")[2]
            document = describe_window(self.trust, f"created-{i}", year, term)
            made = self.server.ask("POST", "/v1/windows", json.dumps(document))
            self.server.ask("POST", f"/v1/windows/{made['id']}/open")
            self.windows_made = i + 1


@dataclass
class Position:
    """How many requests were sent so far by all who write the same table."""

    at: int = 0


@dataclass
class Stream:
    """The requests that a contender is sent, and the file of them for load.lua. Where they are sent in turn, `position` says where to go on;
    an answer is right that holds `expected` or, where some requests read, `read`."""

    requests: list[Request]
    file: Path
    position: Position | None = None
    expected: str = ""
    read: str = ""

    def write(self) -> None:
        self.file.write_text("".join("\t".join(request) + "\n" for request in self.requests))

    def take(self) -> Request:
        """The next one, or the first where they are not sent in turn."""
        if self.position is None:
            return self.requests[0]
        turn, i = divmod(self.position.at, len(self.requests))
        self.position.at += 1
        return self.requests[i]._replace(body=self.requests[i].body.replace(TURN, str(turn)))

    def is_right(self, body: str) -> bool:
        return self.expected in body or bool(self.read and self.read in body)


def make_stream(workload: Workload, contender: str, bench: Bench, folder: Path, position: Position) -> Stream:
    """Draws the requests and writes their file."""
    bench.draw = random.Random(4)
    requests = workload.asks[contender](bench)
    name = f"{workload.name}-{contender}".replace(" ", "-").replace(":", "").replace(",", "")
    in_turn = position if workload.writes else None
    stream = Stream(requests, folder / name, in_turn, workload.expected_text(contender), workload.read)
    stream.write()
    return stream


def get(paths: Iterable[str]) -> list[Request]:
    return [Request("GET", path) for path in paths]


def post(path: str, bodies: Iterable[object]) -> list[Request]:
    return [Request("POST", path, json.dumps(body)) for body in bodies]


def graphql(query: str, variables: Iterable[object]) -> list[Request]:
    return post("/graphql", ({"query": " ".join(query.split()), "variables": each} for each in variables))


def repeat_in_turns(bodies: Callable[[int], Iterable[dict[str, object]]]) -> Iterator[dict[str, object]]:
    """The bodies of each turn, one after another."""
    for turn in range(TURNS):
        yield from bodies(turn)
