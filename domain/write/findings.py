"""What a command found to be doubtful in stored or sent data: the rows of `data_issues`.

A command reports findings while it runs. `perform` writes them in the command's own transaction or, where the whole
batch was refused, in a second one. domain/roster/data_issues.py declares what can be read of them.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ARRAY, Column, DateTime, Index, Table, Text, Uuid

from domain.access.caller import Caller
from domain.declare.ids import new_id
from domain.declare.type_numbers import DATA_ISSUE
from domain.store.cleanup import Cleanup
from domain.store.database import Connection, transpose
from domain.store.metadata import metadata

CLEANUP = (Cleanup("data issues of 30 days ago that tell of something done", "SELECT remove_old_data_issues($1)"),)

data_issues = Table(
    "data_issues",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("school_id", Uuid, nullable=False),
    Column("client_id", Uuid),
    Column("pupil_ids", ARRAY(Uuid), nullable=False),
    Column("fields", ARRAY(Text), nullable=False),
    Column("found_at", DateTime(timezone=True), nullable=False),
    Index("data_issues_by_id", "id"),
)

FOUND_IN_ROWS = ("pupil-merge-needed", "pupil-conflict", "identity-changed", "not-source")
"""Kinds that are found in the rows a client sends; they are resolved when its rows no longer raise them."""


class Finding(NamedTuple):
    """A doubt about pupils, found in a row that the caller sent for a school."""

    kind: str
    tenant_id: UUID
    school_id: UUID
    pupil_ids: tuple[UUID, ...]
    fields: tuple[str, ...] = ()


@dataclass
class Findings:
    """The findings of a command, and what it has checked: an issue of these pupils at these schools that the same
    client raised before, and that is not found again, is resolved. `whole_schools` were checked for all pupils.
    """

    found: set[Finding] = field(default_factory=set)
    checked: set[tuple[UUID, UUID, UUID]] = field(default_factory=set)
    whole_schools: set[tuple[UUID, UUID]] = field(default_factory=set)

    def report(self, finding: Finding) -> None:
        """Adds a finding. Its pupils are put in order, so that the same doubt is one issue."""
        self.found.add(finding._replace(pupil_ids=tuple(sorted(set(finding.pupil_ids)))))

    def check(self, tenant_id: UUID, school_id: UUID, pupil_ids: Collection[UUID]) -> None:
        """Records that the caller's rows of these pupils at this school were checked."""
        self.checked.update((tenant_id, school_id, pupil_id) for pupil_id in pupil_ids)


_collected: ContextVar[Findings | None] = ContextVar("findings", default=None)


@contextmanager
def collect_findings() -> Iterator[Findings]:
    """Yields the findings that are reported within the block."""
    findings = Findings()
    token = _collected.set(findings)
    try:
        yield findings
    finally:
        _collected.reset(token)


def get_findings() -> Findings:
    """Returns the findings of the running command."""
    return _collected.get() or Findings()


_RESOLVE = """
DELETE FROM data_issues d WHERE d.client_id = $1 AND d.kind = ANY ($2) AND (
    EXISTS (
        SELECT 1 FROM unnest($3::uuid[], $4::uuid[], $5::uuid[]) AS c (tenant_id, school_id, pupil_id)
        WHERE d.tenant_id = c.tenant_id AND d.school_id = c.school_id AND c.pupil_id = ANY (d.pupil_ids)
    ) OR (d.tenant_id, d.school_id) IN (SELECT * FROM unnest($6::uuid[], $7::uuid[]))
) AND NOT EXISTS (
    SELECT 1 FROM unnest($8::text[], $9::uuid[], $10::uuid[], $11::text[]) AS f (kind, tenant_id, school_id, pupil_ids)
    WHERE d.kind = f.kind AND d.tenant_id = f.tenant_id AND d.school_id = f.school_id
        AND d.pupil_ids = string_to_array(f.pupil_ids, ' ')::uuid[]
)
"""
_INSERT = """
INSERT INTO data_issues AS d (client_id, id, kind, tenant_id, school_id, pupil_ids, fields)
SELECT $1, f.id, f.kind, f.tenant_id, f.school_id, string_to_array(f.pupil_ids, ' ')::uuid[], string_to_array(f.fields, ' ')
FROM unnest($2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::text[], $7::text[]) AS f (id, kind, tenant_id, school_id, pupil_ids, fields)
ON CONFLICT (tenant_id, school_id, kind, client_id, pupil_ids) DO UPDATE SET fields = excluded.fields WHERE d.fields <> excluded.fields
"""


async def write_findings(connection: Connection, caller: Caller, findings: Findings, *, accepted: bool) -> None:
    """Writes the findings and, unless the batch was refused as a whole, deletes the caller's issues that are resolved.

    Two statements at most, whatever the number of findings.
    """
    rows = [(f.kind, f.tenant_id, f.school_id, " ".join(map(str, f.pupil_ids)), " ".join(f.fields)) for f in sorted(findings.found)]
    if accepted and (findings.checked or findings.whole_schools):
        checked, whole = transpose(list(findings.checked), 3), transpose(list(findings.whole_schools), 2)
        await connection.execute(
            _RESOLVE, caller.client_id, FOUND_IN_ROWS, *checked, *whole, *transpose([row[:4] for row in rows], 4)
        )
    if rows:
        ids = [new_id(DATA_ISSUE) for _ in rows]
        await connection.execute(_INSERT, caller.client_id, ids, *transpose(rows, 5))
