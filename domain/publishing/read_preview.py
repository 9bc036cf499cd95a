"""Reads the preview of a publication: what an edition of a window would hide and why, for whoever reads every figure of the trust."""

from datetime import datetime
from typing import Annotated, Any

import msgspec

from domain.access.caller import Caller
from domain.access.reach import reaches_sql, set_caller_first
from domain.declare.errors import NotFound
from domain.declare.ids import parse_id
from domain.declare.inputs import Output, describe
from domain.declare.scopes import Scope
from domain.publishing.preview_groups import PreviewBody, PreviewCount, PreviewGroup
from domain.store.database import Database


class PublicationPreview(Output, kw_only=True):
    """What an edition of a window would hide and why, if it were published with the figures of one instant. It is asked for by a POST to the same
    URL, replaced by the next one, and gone after a day. Only clients with aggregates:internal at every school of the trust read it."""

    window_code: str
    state: Annotated[str, describe("queued, protecting, ready or failed.")]
    problem: Annotated[str | None, describe("Why it failed, as of a publication; null otherwise.")]
    level: Annotated[str, describe("department or strict.")]
    sizes_from: Annotated[int, describe("The smallest group whose size would be published.")]
    attainment_from: Annotated[int, describe("The smallest group, by pupils and by marks, whose attainment would be published.")]
    subjects: Annotated[list[str] | None, describe("The subjects; null until the figures are frozen.")]
    left_out: Annotated[list[str] | None, describe("Subjects of the window that would not be published.")]
    requested_at: datetime
    frozen_at: Annotated[datetime | None, describe("Of which instant its figures are.")]
    expires_at: Annotated[datetime, describe("When it is gone.")]
    populations: Annotated[int | None, describe("How many groups of pupils the edition would have; null until it is ready.")]
    hidden: Annotated[int | None, describe("How many of these would be hidden.")]
    reasons: Annotated[list[PreviewCount], describe("How many are hidden for which reason.")]
    all_or_none: Annotated[
        list[PreviewGroup],
        describe("Shown groups of 6 to 10 of which nobody, or everybody with a mark, is at the expected standard."),
    ]
    groups: Annotated[list[PreviewGroup], describe("Every group of the edition; none until it is ready.")]


_READ = set_caller_first(f"""
    SELECT w.code, p.state, p.problem, p.level, p.sizes_from, p.attainment_from, p.subjects, p.left_out, p.requested_at, p.frozen_at,
        p.requested_at + interval '1 day' AS expires_at, p.populations, p.hidden, p.body
    FROM windows w JOIN publication_previews p ON p.tenant_id = w.tenant_id AND p.window_no = w.no
    WHERE c.s IS NOT NULL AND w.id = $2 AND p.requested_at >= now() - interval '1 day' AND counts_all_schools(w.tenant_id)
        AND {reaches_sql("$1", "w.tenant_id", "w.tenant_id", "$3")} OFFSET 0
""")


async def read_preview(database: Database, caller: Caller, window: str) -> PublicationPreview:
    """Returns the preview of a window, which is named by its id.

    Raises Forbidden without aggregates:internal, NotFound where there is none or it is not held at every school of the trust.
    """
    caller.require_scope(Scope.AGGREGATES_INTERNAL, "publicationPreview")
    window_id = parse_id(window)
    row: Any = window_id and await database.read(_READ, caller.client_id, window_id, Scope.AGGREGATES_INTERNAL.value)
    if row is None:
        raise NotFound()
    body = PreviewBody(reasons=[], groups=[]) if row["body"] is None else msgspec.json.decode(row["body"], type=PreviewBody)
    names = "state", "problem", "level", "sizes_from", "attainment_from", "subjects", "left_out", "requested_at", "frozen_at"
    return PublicationPreview(
        window_code=row["code"],
        **{name: row[name] for name in (*names, "expires_at", "populations", "hidden")},
        reasons=body.reasons,
        all_or_none=[group for group in body.groups if group.nobody_expected or group.everybody_expected],
        groups=body.groups,
    )
