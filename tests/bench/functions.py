"""How many functions of the product a request enters: what somebody would have to read who follows it."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from domain.store import embedded
from tests.bench.data import Data
from tests.bench.meter import tree
from tests.bench.servers import NONE_KEPT, Build, Server, Unfit, serve

HOOK = Path(__file__).parent / "hook"
LIST = "/v1/pupils?first=100&fields=id,forename,surname,sex,yearGroup,dateOfBirth&after={}"
NESTED = """query($after: String!) { pupils(first: 50, after: $after) { nodes { id forename surname yearGroup
    judgements(first: 15) { nodes { grade recordedAt subject { name } window { name } } } } } }"""
PATIENCE = 10.0


def _list(server: Server, cursor: str) -> None:
    server.ask("GET", LIST.format(cursor))


def _nested(server: Server, cursor: str) -> None:
    server.ask("POST", "/graphql", json.dumps({"query": NESTED, "variables": {"after": cursor}}))


def _token(server: Server, _: str) -> None:
    server.fetch_token()


KINDS: dict[str, Callable[[Server, str], None]] = {
    "a list by REST": _list,
    "a nested query by GraphQL": _nested,
    "a token": _token,
}
"""Sends a request of each kind; the pages begin at a cursor."""
QUIET, ALIKE = 0.1, 6
"""Seconds for what a server does after its answer, and requests of a kind that are noted."""


def find_entered_functions(build: Build, cluster: embedded.Cluster, database: str, data: Data, log: Path) -> dict[str, list[str]]:
    """By kind of request, the functions of api and domain that the second of its template enters in a server that keeps no answers.

    The server notes them itself (hook/), so that of a build only its command line has to be known. What the clock runs meanwhile falls out: noted
    are the functions that each of the next ALIKE requests enters."""
    with tempfile.TemporaryDirectory() as folder:
        marks, phase, found = Path(folder), 0, {}
        (marks / "phase").write_bytes(bytes([phase]))
        settings = NONE_KEPT | {"BENCH_MARKS": folder, "PYTHONPATH": str(HOOK)}
        with serve(build, cluster, database, data, log, **settings) as server:
            cursor = server.ask("GET", "/v1/pupils?fields=id&first=100")["page"]["endCursor"]
            for name, send in KINDS.items():
                send(server, cursor)
                time.sleep(QUIET)
                entered = []
                for _ in range(ALIKE):
                    _mark(marks, phase + 1)
                    send(server, cursor)
                    time.sleep(QUIET)
                    phase += 2
                    _mark(marks, phase)
                    entered.append(_read_notes(marks, phase, server))
                found[name] = [line.removeprefix(f"{build.root}/") for line in sorted(set.intersection(*entered))]
                if not found[name]:
                    raise Unfit(f"{name}: the server has noted no function that it entered")
    return found


def _mark(marks: Path, phase: int) -> None:
    with open(marks / "phase", "r+b") as file:
        file.write(bytes([phase]))


def _read_notes(marks: Path, phase: int, server: Server) -> set[str]:
    """What the processes of the server have noted, when those have said so that serve: the supervisor and its worker."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        told = {path.name.partition("-")[2]: path for path in marks.glob(f"{phase}-*") if path.suffix != ".part"}
        if {str(pid) for pid in tree(server.process.pid)} <= told.keys():
            break
        time.sleep(0.05)
    else:
        raise Unfit("not all processes of the server have told which functions they entered")
    return {line for path in told.values() for line in path.read_text().splitlines()}


def show(found: dict[str, list[str]], console: Console) -> None:
    for name, lines in found.items():
        console.rule(f"{name}: {len(lines)}")
        for line in lines:
            console.out(f"  {line}", highlight=False)
