"""Asks a server, and tells what was answered alike for REST and GraphQL, and where no answer came."""

import time
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.faults.laboratory.processes import Server
from tests.faults.laboratory.result import Result

NOTHING_WRITTEN = "nothing of this request was written"
NOT_KNOWN = "not known"
TOKEN_SECONDS = 240


@dataclass(frozen=True)
class Answer:
    """`status` is that of the problem, in GraphQL too, and 0 where no answer came; `problems` are those of a GraphQL answer, or the one of REST."""

    status: int
    data: Any = None
    problem: dict[str, Any] = field(default_factory=dict)
    has_retry_after: bool = False
    seconds: float = 0.0

    @property
    def detail(self) -> str:
        return str(self.problem.get("detail", ""))

    def check(self, result: Result, what: str) -> None:
        """Notes what no answer may be: 500, or 503 that does not say when to come back."""
        result.expect(self.status != 500, "no answer is 500", f"{what}: {self.problem}")
        result.expect(self.status != 503 or self.has_retry_after, "a 503 has Retry-After", f"{what}: {self.detail}")


def read(answer: httpx2.Response, seconds: float) -> Answer:
    """The answer as both interfaces mean it."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    has_retry_after = "retry-after" in answer.headers
    if isinstance(body, dict) and body.get("errors"):
        first = body["errors"][0]
        problem = first.get("extensions", {}).get("problem") or {"status": answer.status_code, "detail": str(first)[:300]}
        return Answer(int(problem["status"]), body.get("data"), problem, has_retry_after, seconds)
    problem = body if answer.status_code >= 400 and isinstance(body, dict) else {}
    return Answer(answer.status_code, body, problem, has_retry_after, seconds)


class Asker:
    """Sends requests of one client, with a token that it has asked for in time."""

    def __init__(self, server: Server, client: tuple[str, str], seconds: float = 30) -> None:
        self._client = client
        limits = httpx2.Limits(max_connections=64, max_keepalive_connections=64)
        self._http = httpx2.AsyncClient(base_url=server.base_url, timeout=seconds, limits=limits)
        self._token = ""
        self._until = 0.0

    async def __aenter__(self) -> "Asker":
        await self.log_in()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def log_in(self) -> None:
        """Asks for a token, unless the one that it has is good for minutes. A refusal keeps the one it has."""
        if time.monotonic() < self._until:
            return
        try:
            answer = await self._http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=self._client)
        except httpx2.TransportError:
            return
        if answer.status_code == 200:
            self._token, self._until = answer.json()["access_token"], time.monotonic() + TOKEN_SECONDS

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """What is answered. Underscores in names of headers stand for hyphens."""
        await self.log_in()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Authorization"] = f"Bearer {self._token}"
        begun = time.perf_counter()
        try:
            answer = await self._http.request(method, path, json=body, headers=named)
        except httpx2.TransportError as problem:
            return Answer(0, problem={"detail": repr(problem)}, seconds=time.perf_counter() - begun)
        return read(answer, time.perf_counter() - begun)

    async def query(self, document: str, **variables: Any) -> Answer:
        """What GraphQL answers."""
        return await self.ask("POST", "/graphql", {"query": document, "variables": variables})
