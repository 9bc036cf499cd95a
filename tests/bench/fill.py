"""The data of --against: a trust, its pupils, judgements and targets, entered through what the product promises to keep: its command line and
its REST interface. So the older of two builds can make it, and the newer one migrates a copy."""

import csv
import json
import random
import re
import secrets
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from rich.progress import Progress

from domain.roster.years import format_academic_year
from domain.store import embedded
from tests.bench import rows
from tests.bench.data import CENSUS, FIRST_UID, FIRST_URN, JOINED, SCHEMES, Data, Trust, academic_year, describe_window
from tests.bench.servers import Build, Server, serve
from tests.fixtures import gias_rows

TOGETHER = 5
"""Schools whose judgements stand in one request."""
GRADES = {SCHEMES[0]: ("WTS", "EXS", "GDS"), SCHEMES[1]: ("Below", "Just at", "At")}
MISSING = 0.07
"""Of the judgements that could be there."""


def fill(build: Build, cluster: embedded.Cluster, schools: int, folder: Path, progress: Progress) -> Data:
    """Fills the empty database of a cluster, by a build's own command line and server."""
    secret = secrets.token_urlsafe(32)
    trust = Trust(FIRST_UID, [FIRST_URN + i for i in range(schools)], 0)
    environment = build.environment(cluster, embedded.DATABASE, secret)
    build.command(environment, "init")
    _import_register(build, environment, trust)
    printed = build.command(
        environment,
        "client",
        "create",
        "bench",
        "--grant",
        f"trust:{trust.uid}=all",
        "--purpose",
        "bench",
        "--approved-by",
        "bench",
    )
    client = _line(printed, "client_id"), _line(printed, "client_secret")
    first_year = academic_year() - 3
    codes = [f"{format_academic_year(year)}/{term}" for year in range(first_year, first_year + 3) for term in CENSUS]
    data = Data(0, secret, codes[-1], first_year + 2, [trust], {"trust": client})
    with serve(build, cluster, embedded.DATABASE, data, folder / "server.log") as server:
        for scheme in SCHEMES:
            tenant = {"trust": {"groupUid": trust.uid}}
            _post(server, "/v1/schemes", {"tenant": tenant, "code": scheme, "name": scheme, "template": scheme})
        for urn in progress.track(trust.urns, description="pupils"):
            for years_ago in range(3, -1, -1):
                _post(server, "/v1/pupils", _roll(trust, urn, years_ago))
        for i, code in enumerate(progress.track(codes, description="judgements")):
            _judge(server, trust, code, first_year + i // len(CENSUS), is_last=code == codes[-1])
        for urn in progress.track(trust.urns, description="targets"):
            _post(server, "/v1/targets", {"school": {"urn": urn}, "entries": list(_targets(urn))})
        trust_id = server.ask("GET", f"/v1/trusts?groupUid={trust.uid}&fields=id")["data"][0]["id"]
        ids = _pupil_ids(server)
    known = [Trust(trust.uid, trust.urns, 0, trust_id)]
    return Data(0, secret, data.window, data.window_year, known, data.clients, ids)


def _line(printed: str, name: str) -> str:
    found = re.search(rf"^{name}\s+(\S+)", printed, re.MULTILINE)
    assert found, f"`client create` does not tell the {name}:\n{printed}"
    return found[1]


def _import_register(build: Build, environment: dict[str, str], trust: Trust) -> None:
    tables = (
        [gias_rows.school(urn) for urn in trust.urns],
        [gias_rows.group(trust.uid)],
        [gias_rows.link(urn, trust.uid, JOINED) for urn in trust.urns],
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in gias_rows.FILES]
        for path, table in zip(paths, tables, strict=True):
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, table[0])
                writer.writeheader()
                writer.writerows(table)
        build.command(environment, "import", "gias", *map(str, paths), "--as-of", date.today().isoformat())


def _post(server: Server, path: str, document: object) -> Any:
    return server.ask("POST", path, json.dumps(document))


def _reference(urn: int, number: int) -> str:
    return f"{urn}-{number}"


def _roll(trust: Trust, urn: int, years_ago: int) -> dict[str, Any]:
    """The roll of a school at the beginning of an academic year; the same pupils in each."""
    draw, year = random.Random(urn), academic_year()
    first = (urn - FIRST_URN) * rows.PUPILS
    school = rows.describe_school(urn, first, year)
    entries = []
    for number, line in enumerate(rows.pupils(school)):
        _, _, _, upn, surname, forename, born, sex, _ = line
        since = date(year - 3, 9, 1).isoformat()
        facts = (
            ("ever6Fsm", draw.choices(("true", "false"), (30, 70))[0]),
            ("eal", draw.choices("12", (78, 22))[0]),
            ("sen", draw.choices("NKE", (82, 14, 4))[0]),
        )
        entries.append(
            {
                "reference": _reference(urn, number),
                "upn": upn,
                "surname": surname,
                "forename": forename,
                "dateOfBirth": str(born),
                "sex": sex,
                "yearGroup": rows.year_group(first + number, years_ago),
                "enrolments": [{"from": date(year - 3 - (first + number) % 4, 9, 1).isoformat(), "status": "C"}],
                "characteristics": [{"kind": kind, "value": value, "from": since} for kind, value in facts],
            }
        )
    return {"school": {"urn": urn}, "asOf": date(year - years_ago, 9, 2).isoformat(), "entries": entries}


def _judge(server: Server, trust: Trust, code: str, year: int, *, is_last: bool) -> None:
    """Makes and opens a window, enters its judgements, and closes it again unless it is the last one."""
    window = _post(server, "/v1/windows", describe_window(trust, code, year, code.rpartition("/")[2]))["id"]
    _post(server, f"/v1/windows/{window}/open", {})
    for i in range(0, len(trust.urns), TOGETHER):
        entries = [entry for urn in trust.urns[i : i + TOGETHER] for entry in _judgements(urn, code)]
        _post(server, "/v1/judgements", {"window": code, "entries": entries})
    if not is_last:
        _post(server, f"/v1/windows/{window}/close", {})


def _grades(urn: int) -> tuple[str, ...]:
    return GRADES[SCHEMES[1 if urn % 4 == 0 else 0]]


def _judgements(urn: int, code: str) -> Iterator[dict[str, Any]]:
    draw = random.Random(f"{urn} {code}")
    for number in range(rows.PUPILS):
        for subject in rows.SUBJECTS:
            if draw.random() > MISSING:
                value = {"status": "absent"} if draw.random() < 0.01 else {"grade": draw.choices(_grades(urn), (25, 55, 20))[0]}
                yield {"school": {"urn": urn}, "reference": _reference(urn, number), "subject": subject, **value}


def _targets(urn: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(urn)
    horizon = {"academicYear": format_academic_year(academic_year()), "point": "end-of-year"}
    for number in range(rows.PUPILS):
        for subject in rows.TARGETED:
            grade = draw.choice(_grades(urn)[1:])
            yield {"reference": _reference(urn, number), "subject": subject, "grade": grade, "horizon": horizon, "basis": "teacher"}


def _pupil_ids(server: Server) -> list[str]:
    """All pupils, school after school in the order of their URNs."""
    found, after = [], ""
    while True:
        page = server.ask("GET", f"/v1/pupils?first=1000&include=school&fields=id,school.urn{after}")
        found += [(row["school"]["urn"], row["id"]) for row in page["data"]]
        if not page["page"]["hasMore"]:
            return [id_ for _, id_ in sorted(found)]
        after = f"&after={page['page']['endCursor']}"
