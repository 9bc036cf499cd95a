"""Releases a publication: rows that keep the figures of an earlier edition, since few pupils changed there, are shown as they were frozen."""

import asyncio
from typing import Annotated, Any

from domain.access.caller import Caller, make_scope_error
from domain.access.reach import reaches_sql
from domain.assessment.publications import PROTECTING, PUBLISHED, QUEUED, note_publication_change
from domain.declare.errors import Conflict, Forbidden, Invalid, NotFound
from domain.declare.inputs import Input, LongText, Text, describe
from domain.declare.scopes import Scope
from domain.publishing.bases import read_basis
from domain.publishing.messages import Basis
from domain.publishing.publish_window import PublicationNow
from domain.publishing.rows import NewRow, list_rows, write_array
from domain.store.database import Connection, transpose
from domain.write.action import Action
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import require_readable


class PublicationRelease(Input, kw_only=True):
    """Why a publication is released."""

    reason: Annotated[LongText, describe("Why, for whoever reads its history.")]
    actor: Annotated[Text | None, describe("Who decided it, as the sender knows them: a staff code.")] = None


_FIND = f"""
SELECT p.tenant_id, p.no, p.state, p.version, p.released_at, counts_all_schools(p.tenant_id) AS counts_all,
    (SELECT o.no FROM publications o WHERE o.tenant_id = p.tenant_id AND o.window_no = p.window_no AND o.no > p.no
        AND (o.state IN ('{QUEUED}', '{PROTECTING}') OR o.published_at IS NOT NULL) ORDER BY o.no LIMIT 1) AS later
FROM publications p WHERE p.id = $2 AND {reaches_sql("$1", "p.tenant_id", "p.tenant_id", "$3")} FOR UPDATE OF p
"""
_SHOW = """
UPDATE edition_rows r SET figures = g.figures::jsonb, pooled = g.pooled::uuid[], edition = $3
FROM unnest($4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]) AS g (school, year, dimension, category, pooled, figures)
WHERE r.tenant_id = $1 AND r.publication_id = $2 AND r.school_id = g.school AND r.year_group = g.year AND r.dimension = g.dimension
    AND r.category = g.category
"""
_RELEASE = """
UPDATE publications p SET released_at = clock_timestamp(), version = version + 1,
    held = (SELECT count(*) FROM edition_rows r WHERE r.tenant_id = $1 AND r.publication_id = $2 AND r.edition <> p.no),
    hidden = (SELECT count(*) FROM edition_rows r WHERE r.tenant_id = $1 AND r.publication_id = $2 AND r.figures IS NULL)
WHERE tenant_id = $1 AND id = $2 RETURNING version
"""


@command(scope=Scope.PUBLICATIONS_WRITE, at_school=False, fails=(Invalid, NotFound, Conflict, Forbidden))
async def release_publication(connection: Connection, caller: Caller, action: Action[PublicationRelease]) -> PublicationNow:
    """Release a publication: rows that it holds back, since only a few pupils changed there, are shown as they were frozen.

    What they then tell of these pupils is the trust's decision, which is kept with its reason. Groups that are small by themselves stay as they
    are. It needs aggregates:internal at every school of the trust.
    """
    found = await connection.fetchrow(_FIND, caller.client_id, action.id, Scope.PUBLICATIONS_WRITE.value)
    if found is None:
        raise NotFound()
    if not found["counts_all"] or Scope.AGGREGATES_INTERNAL not in caller.scopes:
        raise make_scope_error({"releasing": f"{Scope.AGGREGATES_INTERNAL} at every school of the trust"})
    tenant_id, key = found["tenant_id"], (found["tenant_id"], action.id)
    checks = Checks()
    with checks.attempt():
        _check_state(found)
    basis = await read_basis(connection, key) if found["state"] == PUBLISHED else None
    rows = [] if basis is None else await asyncio.to_thread(lambda: list_releasable(basis))
    with checks.attempt():
        if found["state"] == PUBLISHED and not rows:
            message = (
                "The publication holds no row back that a release shows." if basis else "What it holds back is no longer kept."
            )
            raise Conflict(message, code="nothing-held-back")
    checks.refuse_if_any()
    require_readable(action.fields)
    schools = await connection.fetch("SELECT id FROM schools WHERE tenant_id = $1 ORDER BY id", tenant_id)
    await SchoolLocks(connection, tenant_id).lock([row["id"] for row in schools], [])
    columns = [
        (each.school_id, each.year_group, each.dimension, each.category, write_array(each.pooled), (each.figures or b"").decode())
        for each in rows
    ]
    await connection.execute(_SHOW, *key, found["no"], *transpose(columns, 6))
    version = await connection.fetchval(_RELEASE, *key)
    await note_publication_change(connection, *key, version, "released", caller.client_id, action.fields)
    return PublicationNow(id=str(action.id), edition=found["no"], state=PUBLISHED, version=version)


def _check_state(found: Any) -> None:
    """Raises Conflict for one that is not read now, that has been released, or that a later edition compares itself with."""
    if found["state"] != PUBLISHED:
        raise Conflict(
            f"The publication is {found['state']}; only one that is published can be released.", code="publication-state"
        )
    if found["released_at"] is not None:
        raise Conflict("The publication is released already.", code="publication-state")
    if found["later"] is not None:
        message = f"Edition {found['later']} of the window follows this one; only the newest can be released."
        raise Conflict(message, code="publication-state")


def list_releasable(basis: Basis) -> list[NewRow]:
    """Returns the rows that an edition holds back and that may be shown, with the figures that were frozen."""
    return [row for row in list_rows(basis.frozen, basis.decided) if row.is_releasable and row.figures is not None]
