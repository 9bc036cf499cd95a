"""Reports as data issues what the rows of a roll contradict, which issues its rows no longer raise, and which pupils seem to
be one child.
"""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.declare.scopes import Scope
from domain.roster.data_issues import SAME_CHILD
from domain.roster.record_pupils.changes import PupilChanges
from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.record_pupils.row_problem import NOT_SOURCE
from domain.roster.school_refs import SchoolInReach
from domain.store.database import Connection
from domain.write.batch import Batch
from domain.write.findings import FOUND_IN_ROWS, Finding, get_findings


def report_doubts(
    batch: Batch[Any, Any], tenant_id: UUID, rows: Iterable[PupilEntryRow], complete_school: SchoolInReach | None = None
) -> None:
    """Reports the doubts among the issues of these rows, rejected or not, and that the rows were checked.

    `complete_school` sent a complete roll: all that its client raised before was checked.
    """
    findings = get_findings()
    row_of = {row.at: row for row in rows}
    for issue in batch.issues:
        row = row_of.get(batch.find_index(issue))
        if issue.code in FOUND_IN_ROWS and issue.code != NOT_SOURCE and row is not None:
            findings.report(Finding(issue.code, tenant_id, row.school.id, tuple(row.matched_ids)))
    for row in row_of.values():
        findings.check(tenant_id, row.school.id, row.matched_ids)
    if complete_school is not None:
        findings.whole_schools.add((tenant_id, complete_school.id))


async def refresh_same_children(connection: Connection, tenant_id: UUID, pupil_ids: Collection[UUID]) -> None:
    """Brings the issues of kind possible-same-child about these pupils up to date after a write."""
    await connection.execute("SELECT refresh_same_children($1, $2)", tenant_id, list(pupil_ids))


_SAME_CHILDREN = f"""
WITH sides AS MATERIALIZED (
    SELECT d.pupil_ids[n] AS id, d.pupil_ids[3 - n] AS other_id FROM data_issues d CROSS JOIN generate_series(1, 2) AS n
    WHERE d.tenant_id = $1 AND d.kind = '{SAME_CHILD}' AND (d.pupil_ids[1] = ANY ($2) OR d.pupil_ids[2] = ANY ($2))
), told AS MATERIALIZED (SELECT DISTINCT id, other_id FROM sides WHERE (id IN (SELECT unnest($2::uuid[]))) IS TRUE)
SELECT told.id, told.other_id FROM told CROSS JOIN LATERAL (
    SELECT 1 FROM pupils o WHERE o.tenant_id = $1 AND o.id = told.other_id AND {reaches_pupil_sql("$3", "o", "id", "$4")} LIMIT 1
) o ORDER BY told.id, told.other_id
"""
"""Issues are picked by equality, which row-level security lets come before its own test of each issue's pupils. IS TRUE and
LIMIT keep the planner from a join: the rest is looked up in a hash table and an index, also before the tables have statistics.
"""


async def tell_same_children(connection: Connection, caller: Caller, tenant_id: UUID, changes: PupilChanges) -> dict[UUID, str]:
    """Brings the issues of kind possible-same-child up to date after a write. Returns the warnings about the pupils who are
    new or whose facts were changed, of those whose other record the caller reaches. Two statements.
    """
    await refresh_same_children(connection, tenant_id, changes.touched_ids)
    written = [*changes.new_pupils, *changes.changed_pupils]
    if not written:
        return {}
    others: dict[UUID, list[str]] = {}
    for pupil_id, other_id in await connection.fetch(
        _SAME_CHILDREN, tenant_id, written, caller.client_id, Scope.PUPILS_WRITE.value
    ):
        others.setdefault(pupil_id, []).append(str(other_id))
    return {pupil_id: describe_same_child(" and ".join(ids)) for pupil_id, ids in others.items()}


def describe_same_child(other_ids: str) -> str:
    """Returns the warning about a pupil who may be the same child as others."""
    return (
        f"The names, sex and date of birth are also those of {other_ids}, and one of the records has no permanent UPN. If it is"
        " one child, merge them."
    )


def warn_of_same_children(batch: Batch[Any, Any], warnings: dict[UUID, str]) -> None:
    """Adds the warnings about pupils to the rows of whom they are."""
    texts = {str(pupil_id): message for pupil_id, message in warnings.items()}
    for at, result in batch.results.items() if texts else ():
        if result.id in texts:
            batch.warn(at, "", SAME_CHILD, texts[result.id])
