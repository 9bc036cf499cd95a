"""Reports as data issues what the rows of a roll contradict, and which issues its rows no longer raise."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.record_pupils.row_problem import NOT_SOURCE
from domain.roster.school_refs import SchoolInReach
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
