"""Asks everything that a client with `aggregates:read` may, by HTTP: every grouping of one window, through REST as JSON and CSV and through GraphQL."""

import csv
import io
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import httpx2

SUBJECTS = ("reading", "writing", "maths", "rwm")
DIVIDING = ("sex", "disadvantaged", "eal", "sen")
FIGURES = ("eligible", "valid", "expected", "higher")
SHOWN = ("schoolUrn", "subject", "yearGroup", *DIVIDING, "schools", *FIGURES, "average", "status")
MOST_DIMENSIONS = 3
_QUERY = """query ($window: String, $subject: String, $by: [AggregateDimension!]!) {
  aggregates(window: $window, subject: $subject, groupBy: $by, first: 1000) { nodes { %s } pageInfo { hasNextPage } } }"""


class Reading(NamedTuple):
    """A row of an answer. What a row is not grouped by is None; its figures are None where they are hidden.

    `pooled` are the schools that a row of the trust adds up, None for all.
    """

    school: int | None
    year: str | None
    dimension: str | None
    category: str | None
    subject: str
    eligible: int | None
    valid: int | None
    expected: int | None
    higher: int | None
    average: float | None
    status: str | None
    pooled: frozenset[int] | None = None


def list_questions(at_once: int = 1) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Yields what to group by, and the subject to filter by where there is no room to group by it.

    `at_once` is how many characteristics divide pupils at the same time.
    """
    divisions = [names for number in range(at_once + 1) for names in combinations(DIVIDING, number)]
    for of_place in ((), ("school",), ("yearGroup",), ("school", "yearGroup")):
        for division in divisions:
            dimensions = (*of_place, *division)
            if len(dimensions) < MOST_DIMENSIONS:
                yield ("subject", *dimensions), None
            elif len(dimensions) == MOST_DIMENSIONS:
                yield from ((dimensions, subject) for subject in SUBJECTS)


class Reader:
    """A client of one installation, which asks by HTTP and keeps what it was answered."""

    def __init__(self, http: httpx2.AsyncClient, token: dict[str, str], window: str) -> None:
        self._http, self._token, self._window = http, token, window

    async def read_all(self) -> list[Reading]:
        """Everything that can be asked, as JSON."""
        readings: list[Reading] = []
        for dimensions, subject in list_questions():
            readings += [make_reading(row, dimensions) for row in await self.read_json(dimensions, subject)]
        return readings

    async def read_json(self, dimensions: tuple[str, ...], subject: str | None) -> list[dict[str, Any]]:
        answer = await self._http.get("/v1/aggregates", params=self._name(dimensions, subject), headers=self._token)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert not body["page"]["hasMore"]
        return [{name: row.get(name) for name in SHOWN} for row in body["data"]]

    async def read_csv(self, dimensions: tuple[str, ...], subject: str | None) -> list[dict[str, Any]]:
        parameters = self._name(dimensions, subject) | {"format": "csv"}
        answer = await self._http.get("/v1/aggregates", params=parameters, headers=self._token)
        assert answer.status_code == 200, answer.text
        return [
            {name: _read_cell(name, row.get(name, "")) for name in SHOWN}
            for row in csv.DictReader(io.StringIO(answer.content.decode(), newline=""))
        ]

    async def read_graphql(self, dimensions: tuple[str, ...], subject: str | None) -> list[dict[str, Any]]:
        variables = {"window": self._window, "subject": subject, "by": list(dimensions)}
        body = {"query": _QUERY % " ".join(SHOWN), "variables": variables}
        answer = await self._http.post("/graphql", json=body, headers=self._token)
        page = answer.json()["data"]["aggregates"]
        assert not page["pageInfo"]["hasNextPage"]
        return list(page["nodes"])

    def _name(self, dimensions: tuple[str, ...], subject: str | None) -> dict[str, Any]:
        named = {"window": self._window, "groupBy": ",".join(dimensions), "first": 1000}
        return named if subject is None else named | {"subject": subject}


def _read_cell(name: str, text: str) -> Any:
    if text == "":
        return None
    if name in ("schoolUrn", "schools", *FIGURES):
        return int(text)
    return float(text) if name == "average" else text


def make_reading(row: dict[str, Any], dimensions: tuple[str, ...]) -> Reading:
    dimension = next((name for name in DIVIDING if name in dimensions), None)
    counts = [row[name] for name in FIGURES]
    if row["status"] in ("z", "x"):  # nobody is there, or nothing is judged: nobody has reached a standard
        counts = [count or 0 for count in counts]
    return Reading(
        row["schoolUrn"] if "school" in dimensions else None,
        row["yearGroup"] if "yearGroup" in dimensions else None,
        dimension,
        row[dimension] if dimension else None,
        row["subject"],
        *counts,
        row["average"],
        row["status"],
    )
