"""Stages a stream of rows for a job, in parts of one transaction each, so that it needs no more memory than a part.

A stream that broke off goes on where it was when it is sent again with its Idempotency-Key: its rows are compared with the parts that are staged, and
those after them are added.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
from msgspec import Struct

from domain.access.caller import Caller
from domain.declare.errors import Busy, FaultyValue, InProgress, make_invalid
from domain.declare.ids import NIL, new_id
from domain.declare.type_numbers import JOB
from domain.jobs.job import RECEIVING
from domain.roster.pupil_keys import PupilRow
from domain.roster.school_refs import find_schools_of_rows
from domain.store.database import Connection, Database, transpose
from domain.support.slices import run_in_slices
from domain.write.command import Command
from domain.write.idempotency import KeyedRequest, claim_key, make_reused, store_answer

MAX_DECODED_BYTES = 10_000_000_000
"""Bytes of one stream, as they are decoded."""
ROWS_PER_PART, BYTES_PER_PART = 2_000, 2_000_000
"""The most rows of a part, and the bytes beyond which it takes no more."""
FULL = "Too many rows are staged at once, of all clients together; send the stream again later."


class StagingFull(Busy):
    """The rows of all clients together need more than the installation gives them."""

    code = "staging-full"


class StagedRow(NamedTuple):
    """A row as it was sent: the line on which it begins, its bytes or what keeps them from being read, and its value."""

    line: int
    body: bytes
    fault: FaultyValue | None
    value: object


@dataclass
class StagedJob:
    """A job that a request may stage rows for, if its `state` is receiving. `digests` are those of the parts that are staged."""

    id: UUID
    receiver: UUID
    state: str
    digest: bytes | None
    digests: list[bytes]


_FIND = "SELECT id, state, said, digest FROM jobs WHERE client_id = $1 AND operation = $2 AND key = $3"
_INSERT = "INSERT INTO jobs (client_id, id, operation, key, said, scopes, receiver) VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7)"
_TAKE_OVER = "UPDATE jobs SET receiver = $3, scopes = $4, touched_at = clock_timestamp() WHERE client_id = $1 AND id = $2"
_DIGESTS = "SELECT digest FROM job_parts WHERE client_id = $1 AND job_id = $2 ORDER BY n"
_EXTEND = """
UPDATE jobs SET touched_at = clock_timestamp(), row_count = row_count + $4, staged_bytes = staged_bytes + $5, header = $6
WHERE client_id = $1 AND id = $2 AND receiver = $3 AND state = 'receiving' RETURNING count_staged_bytes() + $5
"""
_STAGE = """
INSERT INTO staged_rows (client_id, job_id, school_id, n, line, body, fault)
SELECT $1, $2, g.school_id, g.n, g.line, g.body, CASE WHEN g.code IS NULL THEN NULL ELSE ARRAY[g.code, g.message] END
FROM unnest($3::uuid[], $4::integer[], $5::integer[], $6::bytea[], $7::text[], $8::text[]) AS g (school_id, n, line, body, code, message)
"""
_COUNT_SCHOOLS = """
INSERT INTO job_schools AS s (client_id, job_id, school_id, received)
SELECT $1, $2, g.school_id, count(*) FROM unnest($3::uuid[]) AS g (school_id) GROUP BY g.school_id
ON CONFLICT (client_id, job_id, school_id) DO UPDATE SET received = s.received + excluded.received
"""
_FINISH = """
UPDATE jobs SET state = 'queued', digest = $4, decoded_bytes = $5, touched_at = clock_timestamp(), receiver = NULL
WHERE client_id = $1 AND id = $2 AND receiver = $3 AND state = 'receiving' RETURNING 1
"""


class Staging:
    """Receives one stream. `said` is what must be the same when it is sent again: its head, its media type and how it is handled. `most` is how many
    bytes all clients may stage."""

    def __init__(
        self, database: Database, caller: Caller, command: Command, said: Mapping[str, Any], key: str | None, most: int
    ) -> None:
        self._database, self._caller, self._command, self._key, self._most = database, caller, command, key, most
        self._said = dict(said)
        self._job: StagedJob | None = None
        self._chain = hashlib.sha256()
        self._parts = self._rows = 0
        self._waiting: list[StagedRow] = []
        self._size = 0
        self.header: str | None = None

    @property
    def job(self) -> StagedJob:
        """The job, once it is open."""
        assert self._job is not None
        return self._job

    @property
    def is_received(self) -> bool:
        """Whether the whole stream was received before, so that it is only compared."""
        return self.job.state != RECEIVING

    async def open(self) -> None:
        """Makes the job, or finds the one that the key is of. Raises Invalid for a head with issues, and where the key is of another request."""
        batch = self._command.parse({**self._said["head"], "entries": []})
        if batch.faults:
            raise make_invalid([msgspec.structs.replace(issue, at=issue.at.strip("/").split("/")[0]) for issue in batch.faults])
        self._job = await self._database.run_transaction(self._caller.client_id, self._open)

    async def _open(self, connection: Connection) -> StagedJob:
        client_id, operation, receiver = self._caller.client_id, self._command.operation, uuid4()
        scopes = sorted(self._caller.scopes)
        row = await connection.fetchrow(f"{_FIND} FOR UPDATE", client_id, operation, self._key) if self._key else None
        if row is None:
            job_id = new_id(JOB)
            said = msgspec.json.encode(self._said).decode()
            await connection.execute(_INSERT, client_id, job_id, operation, self._key, said, scopes, receiver)
            return StagedJob(job_id, receiver, RECEIVING, None, [])
        stored = msgspec.json.decode(row["said"])
        differing = [name for name in self._said if self._said[name] != stored.get(name)]
        if differing:
            raise make_reused(differing)
        digests = []
        if row["state"] == RECEIVING:
            await connection.execute(_TAKE_OVER, client_id, row["id"], receiver, scopes)
            digests = [each["digest"] for each in await connection.fetch(_DIGESTS, client_id, row["id"])]
        return StagedJob(row["id"], receiver, row["state"], row["digest"], digests)

    async def add(self, row: StagedRow) -> None:
        """Adds a row. Raises Invalid where it differs from what was staged before, StagingFull, and InProgress where another request goes on."""
        if self.is_received:
            return
        self._waiting.append(row)
        self._size += len(row.body)
        if len(self._waiting) >= ROWS_PER_PART or self._size >= BYTES_PER_PART:
            await self._end_part()

    async def finish(self, digest: bytes, decoded_bytes: int) -> bool:
        """Ends the stream: the job waits for its turn. Returns whether the same stream was received before. Raises as `add` does."""
        if self.is_received:
            if self.job.digest not in (None, digest):
                raise make_reused(["body"])
            return True
        if self._waiting:
            await self._end_part()
        if self._parts < len(self.job.digests):
            raise make_reused(["body"])
        await self._database.run_transaction(
            self._caller.client_id, lambda connection: self._finish(connection, digest, decoded_bytes)
        )
        return False

    async def abandon(self) -> None:
        """Deletes the job and all that is staged for it, unless it was received before."""
        if self._job is None or self.is_received:
            return
        statement = "DELETE FROM jobs WHERE client_id = $1 AND id = $2 AND receiver = $3 AND state = 'receiving'"
        arguments = self._caller.client_id, self.job.id, self.job.receiver
        await self._database.run_transaction(self._caller.client_id, lambda connection: connection.execute(statement, *arguments))

    async def _finish(self, connection: Connection, digest: bytes, decoded_bytes: int) -> None:
        """Ends the stream, and keeps the job as the answer of its Idempotency-Key."""
        if self._key is not None:
            said = {name: msgspec.json.encode(value).decode() for name, value in self._said.items()}
            keyed = KeyedRequest(self._key, {"body": digest.hex(), **said})
            await claim_key(connection, self._caller, self._command.name, keyed, dry_run=False)
            answer = msgspec.json.encode({"job": str(self.job.id)}).decode()
            await store_answer(connection, self._caller, self._command.name, keyed, answer, self._caller.only_tenant)
        arguments = self._caller.client_id, self.job.id, self.job.receiver, digest, decoded_bytes
        if await connection.fetchval(_FINISH, *arguments) is None:
            raise InProgress("Another request goes on with this stream.")

    async def _end_part(self) -> None:
        rows, size = self._waiting, self._size
        self._waiting, self._size = [], 0
        for row in rows:
            self._chain.update(b"%d %d " % (row.line, len(row.body)) + row.body)
        digest, n, begun = self._chain.digest(), self._parts, self._rows
        self._parts, self._rows = n + 1, begun + len(rows)
        if n < len(self.job.digests):
            if self.job.digests[n] != digest:
                raise make_reused(["body"])
            return
        numbers = range(begun, begun + len(rows))
        document = {**self._said["head"], "entries": [row.value for row in rows]}
        batch = await run_in_slices(self._command.parse_in_steps(document, lenient=True, numbers=numbers))

        async def stage(connection: Connection) -> None:
            client_id, job = self._caller.client_id, self.job
            by_pupil = issubclass(_get_entry(self._command), PupilRow)
            attempt = batch.copy_unchanged()
            found = await find_schools_of_rows(connection, self._caller, self._command.scope, attempt, by_pupil=by_pupil)
            school_ids = [found[at].id if at in found else NIL for at in numbers]
            arguments = client_id, job.id, job.receiver, len(rows), size, self.header
            used = await connection.fetchval(_EXTEND, *arguments)
            if used is None:
                raise InProgress("Another request goes on with this stream.")
            if used > self._most:
                raise StagingFull(FULL, retry_after=600)
            await connection.execute("INSERT INTO job_parts VALUES ($1, $2, $3, $4)", client_id, job.id, n, digest)
            faults = [(None, None) if row.fault is None else (row.fault.code, row.fault.message) for row in rows]
            columns = transpose([(row.line, row.body, *fault) for row, fault in zip(rows, faults, strict=True)], 4)
            await connection.execute(_STAGE, client_id, job.id, school_ids, list(numbers), *columns)
            await connection.execute(_COUNT_SCHOOLS, client_id, job.id, school_ids)

        await self._database.run_transaction(self._caller.client_id, stage)


def _get_entry(command: Command) -> type[Struct]:
    entry = command.entries
    assert entry is not None
    return entry
