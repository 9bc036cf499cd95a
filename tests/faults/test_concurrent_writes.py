"""Eight writers at once against one trust: whatever their order, nothing acknowledged is lost and every count is true.

`MARKONCE_FAULT_SECONDS` says for how long (8 by default).
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fixtures.databases import Databases
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import URNS, WINDOW, Trust, batch, counted, entry, open_trust, opened, roll, sent, upn, window

SECONDS = float(os.environ.get("MARKONCE_FAULT_SECONDS", "8"))
SCHOOLS, EACH = ("Oak", "Elm", "Ash"), 150
SECOND = "2017-18/spring"
ALLOWED = {200, 409, 422, 503}
REFUSALS = {"window-closed", "not-on-roll", "window-not-open", "pupil-not-found", "duplicate-in-batch", "not-collected"}
GRADES = {"reading": [*range(80, 121), "A", "B"], "maths": [*range(80, 121), "M"], "writing": ["WTS", "EXS", "GDS", "L"]}


@dataclass
class Crowd:
    """What the writers share: the last acknowledged value of each key, and what the answers were."""

    here: Trust
    client: Any
    until: float
    draw: random.Random
    windows: dict[str, str]
    home: dict[int, str]
    acknowledged: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    unforeseen: list[str] = field(default_factory=list)
    written: int = 0

    async def post(self, path: str, body: Any, prefer: str = "handling=lenient, return=representation") -> Any:
        """The answer of a write that was taken, otherwise None."""
        answer = await self.client.post(path, **({} if body is None else {"json": body}), headers={"Prefer": prefer})
        self.answers[path.split("/")[2], answer.status_code] += 1
        if answer.status_code not in ALLOWED or (answer.status_code == 503 and "retry-after" not in answer.headers):
            self.unforeseen.append(f"{path} {answer.status_code} {answer.text[:300]}")
        if answer.status_code == 200 and "received" in answer.json():
            counted(answer.json())
        return answer.json() if answer.status_code == 200 else None

    async def judge(self, how_many: int) -> None:
        """Judgements of pupils of one school, in either window; recordedAt grows with the clock, so the last one sent is the last one meant."""
        school = self.draw.choice(SCHOOLS)
        code = self.draw.choice(list(self.windows))
        numbers = self.draw.sample([n for n in self.home if n // EACH == SCHOOLS.index(school)], how_many)
        subjects = [self.draw.choice(list(GRADES)) for _ in numbers]
        sent_at = (datetime.now(UTC) + timedelta(microseconds=self.draw.randrange(900))).isoformat()
        rows = [
            {"upn": upn(n), "subject": s, "grade": str(self.draw.choice(GRADES[s])), "recordedAt": sent_at}
            for n, s in zip(numbers, subjects, strict=True)
        ]
        answer = await self.post("/v1/judgements", batch(school, rows, window=code))
        for result in answer["results"] if answer else []:
            row = rows[int(result["at"].rsplit("/", 1)[1])]
            if result["outcome"] in ("created", "updated"):
                key = (row["upn"], row["subject"], code)
                self.acknowledged[key] = max(self.acknowledged.get(key, ("", "")), (sent_at, row["grade"]))
                self.written += 1
        for issue in answer["issues"] if answer else []:
            if issue["code"] not in REFUSALS:
                self.unforeseen.append(str(issue))


async def singles(crowd: Crowd) -> None:
    await crowd.judge(1)


async def bulks(crowd: Crowd) -> None:
    await crowd.judge(crowd.draw.choice((30, 110, 149)))


async def rolls(crowd: Crowd) -> None:
    """A school's roll again, with what changes in a term: characteristics that count in cells, and newcomers; not those who may have moved."""
    school = crowd.draw.choice(SCHOOLS)
    first = SCHOOLS.index(school) * EACH + 30
    some = crowd.draw.sample(range(first, first + EACH - 30), crowd.draw.choice((5, 115)))
    entries = [
        entry(n, characteristics=[{"kind": "ever6Fsm", "value": crowd.draw.choice(("true", "false")), "from": "2017-09-01"}])
        for n in some
    ]
    newcomer = 10_000 + crowd.draw.randrange(500)  # the same child may arrive at two schools at once
    entries.append(entry(newcomer, reference=None, enrolments=[{"from": "2018-01-08", "status": "C"}]))
    await crowd.post("/v1/pupils", roll(school, entries))


async def moves(crowd: Crowd) -> None:
    """A pupil goes to another school of the trust, or comes back; on the census date each counts where they then are."""
    number = crowd.draw.choice([n for n in crowd.home if n % EACH < 30])
    away = crowd.draw.choice(SCHOOLS)
    day = f"2018-{crowd.draw.randrange(3, 6):02}-{crowd.draw.randrange(1, 28):02}"
    spells = [{"from": day, "status": "C"}]
    await crowd.post("/v1/pupils", roll(away, [entry(number, reference=None, enrolments=spells)], asOf=day))


async def targets(crowd: Crowd) -> None:
    school = crowd.draw.choice(SCHOOLS)
    numbers = crowd.draw.sample([n for n in crowd.home if n // EACH == SCHOOLS.index(school)], 20)
    horizon = {"academicYear": "2017-18", "point": "KS2"}
    rows = [
        {"upn": upn(n), "subject": "reading", "grade": crowd.draw.randrange(80, 121), "horizon": horizon, "basis": "teacher"}
        for n in numbers
    ]
    await crowd.post("/v1/targets", {"school": {"urn": URNS[school]}, "entries": rows})


async def interfaces(crowd: Crowd) -> None:
    """The second window is opened, which succeeds once, closed, and opened again."""
    for verb in ("open", "close", "reopen"):
        await asyncio.sleep(0.1)
        await crowd.post(f"/v1/windows/{crowd.windows[SECOND]}/{verb}", None)


async def until_the_end(crowd: Crowd, work: Any) -> None:
    while time.monotonic() < crowd.until:
        await work(crowd)


TWICE = "SELECT count(*) FROM (SELECT upn FROM pupils WHERE tenant_id = $1 GROUP BY upn HAVING count(*) > 1) x"
SHOWN = """
SELECT u.upn, s.code AS subject, w.code AS window, g.code AS grade FROM judgements j
JOIN upns u USING (tenant_id, pupil_id) JOIN subjects s ON s.tenant_id = j.tenant_id AND s.no = j.subject_no
JOIN windows w ON w.tenant_id = j.tenant_id AND w.no = j.window_no
JOIN grades g ON g.tenant_id = j.tenant_id AND g.scheme_version_no = j.scheme_version_no AND g.no = j.grade_no
"""


async def test_a_child_who_arrives_at_two_schools_at_once_is_one_pupil(databases: Databases) -> None:
    async with open_trust(databases) as here:
        client = await here.client("vendor", "trust:4128=all")
        for n in range(8):
            rolls_ = [
                roll(school, [entry(n, reference=None, enrolments=[{"from": "2018-01-08", "status": "C"}])]) for school in SCHOOLS
            ]
            answers = await asyncio.gather(*(client.post("/v1/pupils", json=body) for body in rolls_))
            assert {answer.status_code for answer in answers} == {200, 422}  # the first keeps the child, the others are told
            assert [counted(answer.json()) for answer in answers if answer.status_code == 200] == [{"created": 1}]
        assert await here.value("SELECT count(*) FROM pupils") == 8
        assert await here.value("SELECT count(*) FROM upns") == 8


async def test_eight_writers_at_once(databases: Databases, record_property: Callable[[str, object], None]) -> None:
    async with open_trust(databases) as here:
        client = await here.client("vendor", "trust:4128=all")
        planned = await sent(client, "/v1/windows", window(SECOND, censusOn="2018-03-31"), 201)
        windows = {WINDOW: await opened(client), SECOND: str(planned["id"])}
        home = {n: SCHOOLS[n // EACH] for n in range(3 * EACH)}
        for school in SCHOOLS:
            await sent(client, "/v1/pupils", roll(school, [entry(n) for n, at in home.items() if at == school]))
        crowd = Crowd(here, client, time.monotonic() + SECONDS, random.Random(2018), windows, home)
        begun = time.monotonic()
        await asyncio.gather(
            *(until_the_end(crowd, work) for work in (singles, singles, bulks, bulks, rolls, moves, targets, interfaces))
        )
        took = time.monotonic() - begun
        requests = sum(crowd.answers.values())
        record_property(
            "throughput", f"{requests / took:.0f} requests/s, {crowd.written / took:.0f} judgements/s; {dict(crowd.answers)}"
        )
        assert crowd.unforeseen == []
        assert all(crowd.answers[kind, 200] for kind in ("judgements", "pupils", "targets", "windows")), crowd.answers
        tenant_id = here.ids["trust"]
        assert await miscounted(here) == (0, 0, 0)
        assert await here.value(TWICE, tenant_id) == 0
        kept = {(r["upn"], r["subject"], r["window"]): r["grade"] for r in await here.operator.fetch(SHOWN)}
        assert len(crowd.acknowledged) > 50
        assert {key: kept.get(key) for key in crowd.acknowledged} == {key: grade for key, (_, grade) in crowd.acknowledged.items()}
        elsewhere = await here.value(
            "SELECT count(*) FROM judgements j JOIN pupils p USING (tenant_id) WHERE p.id = j.pupil_id AND p.school_id <> j.school_id"
        )
        assert elsewhere == 0
