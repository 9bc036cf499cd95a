"""The proof: published key stage 2 figures against what the API answers, over HTTP with real tokens, through both interfaces.

In the suite it runs on the slice in `data/`. By hand it takes any file of the DfE's:
`python -m tests.published.results KS2-2018.csv ESTABLISHMENTS.csv GROUPS.csv GROUP_LINKS.csv`; it prints how many figures matched.
The file is named by the year in which its academic year starts.
"""

import csv
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from rich.progress import track

from domain.store import embedded
from domain.store.migrate import migrate
from tests.fixtures.databases import fresh_database
from tests.fixtures.server import Server, serving
from tests.published import whole_pupils
from tests.published.whole_pupils import Pupil, School, Year

SHOWN_BY = {
    "all": (),
    "disadvantaged": ("disadvantaged", "true"),
    "other": ("disadvantaged", "false"),
    "boys": ("sex", "M"),
    "girls": ("sex", "F"),
}
VENDOR = "schools:read,pupils:read,pupils:write,pupils:upn,windows:read,judgements:read,judgements:write"
MANAGER = "schools:read,trusts:read,windows:read,windows:write,aggregates:internal"
PORTAL = "schools:read,trusts:read,windows:read,aggregates:read"
QUERY = """
query ($window: String!, $by: [AggregateDimension!]!, $trust: ID, $after: String) {
  aggregates(window: $window, groupBy: $by, trust: $trust, first: 1000, after: $after) {
    nodes { schoolUrn subject sex disadvantaged schools eligible valid expected expectedPercent higher higherPercent average status }
    pageInfo { hasNextPage endCursor }
  }
}
"""


@dataclass
class Loaded:
    """A server that holds the schools of a file, and the pupils made for each."""

    server: Server
    year: Year
    pupils: dict[School, list[Pupil]]
    windows: dict[str, str] = field(default_factory=dict)


def controllers(establishments: Path, links: Path, urns: Iterable[str]) -> dict[str, str]:
    """By URN, who controls a school's data today, as the command line and the API name them: trust:UID or school:URN."""
    with links.open(encoding="utf-8-sig", newline="") as file:
        trusts = {
            row["URN"]: row["Group UID"]
            for row in csv.DictReader(file)
            if row["Group Type (code)"] in ("6", "10") and row["Group Status"] == "Open"
        }
    return {urn: f"trust:{trusts[urn]}" if urn in trusts else f"school:{urn}" for urn in urns}


def load(server: Server, ks2: Path, gias: Sequence[Path], *, show: bool = False) -> Loaded:
    """Imports the register, registers clients, then posts pupils, windows and judgements as a vendor does."""
    server.command("import", "gias", *map(str, gias), "--as-of", "2022-04-20", check=False)
    year = Year.of_file(ks2)
    made = {school: pupils for school in whole_pupils.read(ks2) if (pupils := whole_pupils.pupils(school)) is not None}
    control = controllers(gias[0], gias[2], [school.urn for school in made])
    for name, scopes in (("vendor", VENDOR), ("manager", MANAGER), ("portal", PORTAL)):
        server.register(name, *(f"{target}={scopes}" for target in dict.fromkeys(control.values())))
    loaded = Loaded(server, year, made)
    with server.client("vendor") as vendor, server.client("manager") as manager:
        for school, pupils in track(made.items(), "pupils", disable=not show):
            post(vendor, "/v1/pupils", whole_pupils.roster(school, pupils))
        for target in dict.fromkeys(control.values()):
            loaded.windows[target] = post(manager, "/v1/windows", window_of(target, year))["id"]
            post(manager, f"/v1/windows/{loaded.windows[target]}/open", None)
        for school, pupils in track(made.items(), "judgements", disable=not show):
            post(vendor, "/v1/judgements", whole_pupils.judgements(school, pupils))
        for id_ in loaded.windows.values():
            post(manager, f"/v1/windows/{id_}/close", None)
    return loaded


def window_of(target: str, year: Year) -> dict[str, Any]:
    """The statutory window of a year, planned for one tenant: the results of the past are entered from today on."""
    now = datetime.now(UTC)
    kind, _, key = target.partition(":")
    return {
        "tenant": {"trust": {"groupUid": key}} if kind == "trust" else {"school": {"urn": key}},
        "code": year.window,
        "name": f"Key stage 2 {year.start + 1}",
        "academicYear": year.window.partition("/")[0],
        "censusOn": year.tests_on.isoformat(),
        "opensAt": (now + timedelta(days=1)).isoformat(),
        "closesAt": (now + timedelta(days=60)).isoformat(),
        "template": "KS2",
        "purpose": "National curriculum assessment at the end of key stage 2",
        "decision": "Reporting to parents and publication by the Department for Education",
        "yearGroups": ["6"],
        "collects": [
            {"subject": "reading", "scheme": "ks2-scaled-score"},
            {"subject": "maths", "scheme": "ks2-scaled-score"},
            {"subject": "writing", "scheme": "ks2-writing-ta", "schools": None},
        ],
    }


def post(client: httpx2.Client, path: str, body: Any) -> Any:
    answer = client.post(path, json=body) if body is not None else client.post(path)
    assert answer.status_code in (200, 201), answer.text[:2000]
    return answer.json()


def by_rest(client: httpx2.Client, window: str, by: Sequence[str], **filters: str) -> list[Any]:
    """Every row of an aggregates question, page by page."""
    rows: list[Any] = []
    after: dict[str, str] = {}
    while True:
        answer = client.get(
            "/v1/aggregates", params={"window": window, "groupBy": ",".join(by), "first": "1000", **filters, **after}
        )
        assert answer.status_code == 200, answer.text
        page = answer.json()
        rows += page["data"]
        if not page["page"]["hasMore"]:
            return rows
        after = {"after": page["page"]["endCursor"]}


def by_graphql(client: httpx2.Client, window: str, by: Sequence[str], **filters: str) -> list[Any]:
    """The same by GraphQL."""
    rows: list[Any] = []
    after = None
    while True:
        variables = {"window": window, "by": list(by), "after": after, **filters}
        answer = client.post("/graphql", json={"query": QUERY, "variables": variables})
        body = answer.json()
        assert "errors" not in body, body
        page = body["data"]["aggregates"]
        rows += page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            return rows
        after = page["pageInfo"]["endCursor"]


INTERFACES = {"REST": by_rest, "GraphQL": by_graphql}


def answered(interface: Any, client: httpx2.Client, window: str) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """By (URN, subject, group), the row the interface answers."""
    found = {}
    for by, groups in (((), ("all",)), (("disadvantaged",), ("disadvantaged", "other")), (("sex",), ("boys", "girls"))):
        rows = {
            (str(r["schoolUrn"]), r["subject"], *(r[name] for name in by)): r
            for r in interface(client, window, ["school", "subject", *by])
        }
        for (urn, subject, *value), row in rows.items():
            group = next(g for g in groups if SHOWN_BY[g][1:] == tuple(value)) if by else "all"
            found[urn, subject, group] = row
    return found


def compared(loaded: Loaded, interface: Any, client_name: str) -> Iterator[tuple[School, whole_pupils.Figure, Mapping[str, Any]]]:
    """Each published figure with the row that should say the same."""
    with loaded.server.client(client_name) as client:
        found = answered(interface, client, loaded.year.window)
    for school in loaded.pupils:
        for figure in school.figures:
            yield school, figure, found[school.urn, figure.measure, figure.group]


def percent(figure: whole_pupils.Figure, row: Mapping[str, Any]) -> int | None:
    value: int | None = row["expectedPercent"] if figure.level == "expected" else row["higherPercent"]
    return value


def verdicts(loaded: Loaded, interface: Any) -> Counter[str]:
    """How the figures came out: matched and wrong for the internal reader; shown right, shown wrong, hidden as published and hidden beyond for the portal."""
    counts: Counter[str] = Counter()
    for school, figure, row in compared(loaded, interface, "manager"):
        if figure.value is not None:
            counts["internal: equal" if percent(figure, row) == figure.value else f"internal: WRONG {school.urn} {figure}"] += 1
    for school, figure, row in compared(loaded, interface, "portal"):
        if row["status"] == "c":
            counts["portal: hidden as the DfE does" if figure.value is None else "portal: hidden beyond the DfE"] += 1
        elif figure.value is None:
            counts[f"portal: SHOWN though suppressed {school.urn} {figure.group}"] += 1
        else:
            counts["portal: equal" if percent(figure, row) == figure.value else f"portal: WRONG {school.urn} {figure}"] += 1
    return counts


def with_stand_ins(ks2: Path, establishments: Path, into: Path) -> Path:
    """The establishments, with a row made up for each school of the results that the extract does not hold (special schools, closed URNs)."""
    with establishments.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    held = {row["URN"] for row in rows}
    for school in whole_pupils.read(ks2):
        if school.urn not in held:
            made = {
                "URN": school.urn,
                "LA (code)": school.laestab[:3],
                "LA (name)": "Surrey",
                "EstablishmentNumber": school.laestab[3:],
            }
            made |= {
                "EstablishmentName": school.name,
                "TypeOfEstablishment (name)": "Stand-in",
                "EstablishmentStatus (name)": "Open",
            }
            rows.append(dict.fromkeys(rows[0], "") | made)
    path = into / "establishments.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def main(arguments: Sequence[str]) -> None:
    ks2, establishments, groups, links = map(Path, arguments)
    with tempfile.TemporaryDirectory() as folder:
        cluster = embedded.start(Path(folder) / "data", durable=False)
        try:
            migrate(cluster.url(embedded.DATABASE, "markonce_owner"))
            with serving(fresh_database(cluster)) as server:
                files = [with_stand_ins(ks2, establishments, Path(folder)), groups, links]
                loaded = load(server, ks2, files, show=True)
                print(f"{len(loaded.pupils)} schools, {sum(map(len, loaded.pupils.values())):,} pupils")
                for name, interface in INTERFACES.items():
                    for verdict, count in sorted(verdicts(loaded, interface).items()):
                        print(f"{name:8} {count:6,} {verdict}")
        finally:
            cluster.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
