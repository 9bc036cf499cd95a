"""Clock: of two writes without recordedAt the later commit stands, also where the database's clock goes back a second between them, and where
both run at once, of two clients: those of one wait for each other in the server. It is never `superseded`.

The clock is that of a schema which stands before pg_catalog in the database's search path: now() and its siblings, less what a table says.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from tests.faults.laboratory.asking import Answer, Asker
from tests.faults.laboratory.proxy import Fault, find_commits
from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import Laboratory
from tests.faults.laboratory.stage import Stage, stage
from tests.fixtures.small_trust import SCALED, URNS, batch, upn

ABOUT = "the database's clock goes back; two writers at once, one held at each message"
SMALL, FULL = 12, 600
PER_STEP_BACK = 3
"""Writes held at a message for each step of the clock."""
LONGEST = 3.0
"""Seconds that the second writer is given to be answered, or to wait for a lock of the first."""
_CLOCK = [
    "CREATE SCHEMA clock",
    "CREATE TABLE clock.back (by interval NOT NULL)",
    "INSERT INTO clock.back VALUES ('0')",
    *(
        f"CREATE FUNCTION clock.{name}() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT pg_catalog.{name}() - by FROM clock.back'"
        for name in ("now", "clock_timestamp", "statement_timestamp", "transaction_timestamp")
    ),
    "GRANT USAGE ON SCHEMA clock TO PUBLIC",
    "GRANT SELECT ON clock.back TO PUBLIC",
]
_MARKS = """
SELECT j.mark::float FROM judgements j JOIN upns u USING (tenant_id, pupil_id)
JOIN subjects s ON s.tenant_id = j.tenant_id AND s.no = j.subject_no WHERE u.upn = $1 AND s.code = 'maths'
"""
_GRADES = """
SELECT g.code FROM targets t JOIN upns u USING (tenant_id, pupil_id)
JOIN grades g ON g.tenant_id = t.tenant_id AND g.scheme_version_no = t.scheme_version_no AND g.no = t.grade_no WHERE u.upn = $1
"""
_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'markonce_app' AND wait_event_type = 'Lock'
"""
_AHEAD = "UPDATE {table} SET recorded_at = recorded_at + interval '1 second'"
MUTATION = "mutation ($input: {}!) {{ {}(input: $input) {{ received created updated unchanged superseded withdrawn rejected }} }}"


@dataclass
class Kind:
    """What can be written twice: by which path, and what stands in the end."""

    name: str
    table: str
    mutation: tuple[str, str] | None = None

    async def write(self, asker: Asker, number: int, value: int, **more: Any) -> Answer:
        """Writes a value of a pupil, which differs from others by its number."""
        if self.table == "judgements":
            body = batch("Oak", [{"upn": upn(number), "subject": "maths", "grade": 80 + value % 40, "mark": value, **more}])
        else:
            row = {"upn": upn(number), "subject": "maths", "grade": str(80 + value % 40), "scheme": SCALED, "basis": "teacher"}
            horizon = {"academicYear": "2017-18", "point": "KS2"}
            body = {"school": {"urn": URNS["Oak"]}, "entries": [row | {"horizon": horizon} | more]}
        if self.mutation:
            return await asker.query(MUTATION.format(*self.mutation), input=body)
        return await asker.ask("POST", f"/v1/{self.table}", body)

    async def stands(self, connection: Any, number: int) -> Any:
        """The value that stands, as `shown` shows it."""
        return await connection.fetchval(_MARKS if self.table == "judgements" else _GRADES, upn(number))

    def shown(self, value: int) -> Any:
        return float(value) if self.table == "judgements" else str(80 + value % 40)


KINDS = (
    Kind("judgements", "judgements"),
    Kind("targets", "targets"),
    Kind("graphql judgements", "judgements", ("JudgementBatchInput", "recordJudgements")),
    Kind("graphql targets", "targets", ("TargetBatchInput", "recordTargets")),
)


async def run(lab: Laboratory, count: int, seed: int, watch: Watch) -> Result:
    """Steps back, and pairs of writers with the first held at a message: all messages in turn, from a random one on."""
    result, draw = Result("clock", seed), random.Random(seed)
    async with stage(lab, result) as here:
        await lab.as_superuser(*_CLOCK, database=here.databases.name)
        await lab.as_superuser(f"ALTER DATABASE {here.databases.name} SET search_path = clock, pg_catalog, public")
        await here.make_cold()
        connection = await lab.superuser(here.databases.name)
        await connection.execute("SET search_path = pg_catalog, public")
        try:
            for n in range(count // PER_STEP_BACK):
                kind = KINDS[n % len(KINDS)]
                await _step_back(here, connection, kind, n % 100, by_clock=n % 8 < 4)
                watch()
            async with Asker(here.server, lab.clients["second"]) as other:
                await _pairs(here, other, connection, count - count // PER_STEP_BACK, draw, watch)
        finally:
            await connection.close()
    return result


def steps(count: int) -> int:
    """How often `run` calls its Watch."""
    return count


async def _step_back(here: Stage, connection: Any, kind: Kind, number: int, *, by_clock: bool) -> None:
    """A value, a clock that is a second earlier, another value: the other stands. Where its own recordedAt is earlier, it does not."""
    result, what = here.result, f"{kind.name}, {'clock' if by_clock else 'stored instant'}"
    value = 3 * int(str(result.numbers.get("steps back", 0))) + 1
    first = await kind.write(here.asker, number, value)
    if by_clock:
        await connection.execute("UPDATE clock.back SET by = '1 second'")
    else:
        await connection.execute(_AHEAD.format(table=kind.table))
    second = await kind.write(here.asker, number, value + 1)
    await connection.execute("UPDATE clock.back SET by = '0'")
    for answer in (first, second):
        answer.check(result, what)
    result.count("steps back")
    result.expect((first.status, second.status) == (200, 200), "a write that is sent is understood", f"{what}: {first} {second}")
    stands = await kind.stands(connection, number)
    result.expect(not _superseded(second), "a write without recordedAt is not superseded", f"{what}: {second.data}")
    result.expect(stands == kind.shown(value + 1), "the later commit stands", f"{what}: {stands} and not {kind.shown(value + 1)}")
    older = await kind.write(here.asker, number, value + 2, recordedAt="2018-06-01T09:00:00Z")
    result.expect(_superseded(older), "a value recorded earlier is superseded", f"{what}: {older.data}")


async def _pairs(here: Stage, other: Asker, connection: Any, count: int, draw: random.Random, watch: Watch) -> None:
    lengths: dict[str, int] = {}
    for kind in KINDS:  # twice, so that the statements are known to the connection
        for value in (1, 2):
            here.proxy.arm()
            await kind.write(here.asker, 100, value)
            lengths[kind.name] = len(here.proxy.disarm())
    begin = draw.randrange(1000)
    for n in range(count):
        kind = KINDS[n % len(KINDS)]
        at = (begin + n // len(KINDS) * max(1, 4 * lengths[kind.name] // count)) % lengths[kind.name]
        await _pair(here, other, connection, kind, 101 + n % 19, at, 2 * n + 1)
        watch()


async def _pair(here: Stage, other: Asker, connection: Any, kind: Kind, number: int, at: int, value: int) -> None:
    """Two writers of one value. The first is held at a message until the second has been answered, or waits for the first."""
    result, what = here.result, f"{kind.name}, the first held at message {at}"
    for asker in (other, here.asker):
        await kind.write(asker, number, 0)  # the connection that is lent next knows the statements
    here.proxy.arm(Fault(at, "hold"))
    first = asyncio.create_task(kind.write(here.asker, number, value))
    fired = asyncio.create_task(here.proxy.fired.wait())
    await asyncio.wait({first, fired}, return_when=asyncio.FIRST_COMPLETED)
    fired.cancel()
    was_first = await kind.stands(connection, number) == kind.shown(value)  # it is held after its COMMIT was carried out
    second = asyncio.create_task(kind.write(other, number, value + 1))
    deadline = asyncio.get_running_loop().time() + LONGEST
    is_waiting = False
    while not second.done() and not is_waiting and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
        is_waiting = bool(await connection.fetchval(_WAITING))
    is_done, passed = second.done(), here.proxy.disarm()
    is_alone = is_done and len([number for number in find_commits(passed) if number != at]) == 1
    here.proxy.thaw()
    answers = [await first, await second]
    result.count("pairs")
    result.count("pairs whose second waited for a lock", int(is_waiting))
    for answer in answers:
        answer.check(result, what)
        result.expect(answer.status in (200, 503), "a write that is sent is understood", f"{what}: {answer}")
        result.expect(not _superseded(answer), "a write without recordedAt is not superseded", f"{what}: {answer.data}")
    if [answer.status for answer in answers] == [200, 200]:
        # Of two COMMIT that were sent it is not known which was first: what was held may be a message of another connection
        either = {value} if is_alone else {value, value + 1}
        last = {value + 1} if was_first or is_waiting else either
        stands = await kind.stands(connection, number)
        result.expect(
            stands in {kind.shown(one) for one in last}, "the later commit stands", f"{what}: {stands}, and not of {last}"
        )


def _superseded(answer: Answer) -> bool:
    """Whether an answer of either interface has superseded rows."""
    data = answer.data or {}
    results = data["data"].values() if data.get("data") else [data]
    return any(one and one.get("superseded") for one in results)
