"""Publications: editions of a window's results, frozen and protected as one whole, and who published, released or withdrew them and why."""

from typing import Any

from sqlalchemy import ARRAY, Column, DateTime, Index, Integer, SmallInteger, Table, Text, Uuid

from domain.access.client_names import find_client_name
from domain.access.reach import rows_of_tenant
from domain.assessment.requested_changes import find_said, make_request_fields
from domain.assessment.subjects import code_of
from domain.assessment.windows import windows
from domain.declare.resource import Field, Filter, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import PUBLICATION
from domain.declare.vocabulary import COUNT, VERSION, declare_list
from domain.roster.text_order import sort_by_text
from domain.store.database import Connection
from domain.store.metadata import metadata

QUEUED, PROTECTING, PUBLISHED, WITHDRAWN, FAILED = "queued", "protecting", "published", "withdrawn", "failed"
READY = "ready"
"""The state of a preview that can be read."""
KINDS = ("provisional", "revised", "final")
LEVELS = ("department", "strict")

publications = Table(
    "publications",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("window_no", SmallInteger, nullable=False),
    Column("no", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("level", Text, nullable=False),
    Column("sizes_from", SmallInteger, nullable=False),
    Column("attainment_from", SmallInteger, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("problem", Text),
    Column("subjects", ARRAY(Text)),
    Column("left_out", ARRAY(Text)),
    Column("school_count", Integer),
    Column("parts", Integer),
    Column("parts_done", Integer, nullable=False),
    Column("populations", Integer),
    Column("hidden", Integer),
    Column("held", Integer),
    Column("client_id", Uuid, nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("frozen_at", DateTime(timezone=True)),
    Column("published_at", DateTime(timezone=True)),
    Column("withdrawn_at", DateTime(timezone=True)),
    Column("released_at", DateTime(timezone=True)),
    Column("version", Integer, nullable=False),
    Column("days_after_closing", SmallInteger),
    Index("publications_by_id", "id"),
)
publication_changes = Table(
    "publication_changes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("publication_id", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("actor", Text),
    Column("client_id", Uuid, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)
p, c = publications.c, publication_changes.c
_publisher = find_client_name(p.client_id)
_NOTE = """
INSERT INTO publication_changes (tenant_id, publication_id, version, outcome, reason, actor, client_id) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def note_publication_change(
    connection: Connection, tenant_id: Any, publication_id: Any, version: int, outcome: str, client_id: Any, action: Any = None
) -> None:
    """Writes what became of a publication into its history. `action` may say a reason and an actor."""
    await connection.execute(_NOTE, tenant_id, publication_id, version, outcome, *find_said(action), client_id)


PUBLICATIONS = Resource(
    name="publication",
    plural="publications",
    doc="An edition of a window's results: frozen, protected as one whole, and read by clients with aggregates:read as it is.",
    source=publications,
    type_number=PUBLICATION,
    scope=Scope.AGGREGATES_READ,
    order=("tenant_id", "id"),
    reach=rows_of_tenant(p.tenant_id),
    versioned=False,
    fields={
        "id": Field(p.id, "Stable id."),
        "windowCode": Field(code_of(windows, p.tenant_id, p.window_no), "The window's code."),
        "edition": Field(p.no, "The number of the edition, from 1 in each window.", vocabulary=VERSION),
        "kind": Field(p.kind, "provisional, revised or final, as whoever published it calls it.", vocabulary=declare_list(*KINDS)),
        "level": Field(
            p.level,
            "department: sizes and attainment of groups from 6 pupils on; strict: attainment from 11 pupils and 11 marks on.",
            vocabulary=declare_list(*LEVELS),
        ),
        "sizesFrom": Field(p.sizes_from, "The smallest group whose size is published.", vocabulary=COUNT),
        "attainmentFrom": Field(
            p.attainment_from, "The smallest group, by pupils and by marks, whose attainment is published.", vocabulary=COUNT
        ),
        "seed": Field(p.seed, "What the decision depends on beside the data, so that it can be made again.", vocabulary=COUNT),
        "state": Field(
            p.state,
            "queued, protecting, published, withdrawn or failed.",
            vocabulary=declare_list(QUEUED, PROTECTING, PUBLISHED, WITHDRAWN, FAILED),
        ),
        "problem": Field(
            p.problem,
            "Why it failed: nobody-eligible, cannot-protect (even with everything hidden), scope-missing (aggregates:internal at a school has"
            " ended), census-day-published (another window of the same pupils was published first) or publishing-failed; null otherwise.",
            vocabulary=declare_list(
                "nobody-eligible", "cannot-protect", "scope-missing", "census-day-published", "publishing-failed"
            ),
        ),
        "subjects": Field(p.subjects, "The subjects published; null until the figures are frozen.", filter=Filter.NOWHERE),
        "leftOut": Field(p.left_out, "Subjects of the window that are not published.", filter=Filter.NOWHERE),
        "schools": Field(p.school_count, "How many schools have pupils in it.", vocabulary=COUNT),
        "parts": Field(p.parts, "In how many parts it is protected.", vocabulary=COUNT),
        "partsDone": Field(p.parts_done, "How many of the parts are done.", vocabulary=COUNT),
        "populations": Field(
            p.populations, "How many groups of pupils it has rows of, by place and characteristic.", vocabulary=COUNT
        ),
        "hidden": Field(p.hidden, "How many of these are hidden.", vocabulary=COUNT),
        "heldBack": Field(
            p.held,
            "How many of these keep the figures of an earlier edition, since so few pupils changed that what they changed would be told.",
            vocabulary=COUNT,
        ),
        "requestedAt": Field(p.requested_at, "When it was asked for."),
        "daysAfterClosing": Field(
            p.days_after_closing,
            "It waits until so many days after the window has closed; null where it does not wait.",
            vocabulary=COUNT,
        ),
        "frozenAt": Field(p.frozen_at, "Of which instant its figures are."),
        "publishedAt": Field(p.published_at, "When it was published; null before."),
        "withdrawnAt": Field(p.withdrawn_at, "When it was withdrawn; null while it is not."),
        "releasedAt": Field(p.released_at, "When the rows that it held back were shown; null while they are not."),
        "client": Field(_publisher, "Name of the client that asked for it.", sort_key=sort_by_text(_publisher)),
        "version": Field(p.version, "Grows by one with each change.", vocabulary=VERSION),
    },
    links={
        "window": Link(
            "window",
            ((p.tenant_id, windows.c.tenant_id), (p.window_no, windows.c.no)),
            "The window.",
            reverse="publications",
            reverse_doc="The editions of its results.",
            nullable=False,
        ),
    },
)

PUBLICATION_CHANGES = Resource(
    name="publicationChange",
    plural="publicationChanges",
    slug="publication-changes",
    doc="What became of a publication: when, by which client, and why.",
    source=publication_changes,
    scope=Scope.AGGREGATES_READ,
    order=("tenant_id", "publication_id", "version"),
    reach=rows_of_tenant(c.tenant_id),
    versioned=False,
    fields={
        "publicationId": Field(c.publication_id, "The publication's id."),
        "version": Field(c.version, "The version of the publication that the change made.", vocabulary=VERSION),
        "outcome": Field(
            c.outcome,
            "requested, published, failed, released or withdrawn.",
            vocabulary=declare_list("requested", "published", "failed", "released", "withdrawn"),
        ),
        **make_request_fields(publication_changes),
    },
    links={
        "publication": Link(
            "publication",
            ((c.tenant_id, publications.c.tenant_id), (c.publication_id, publications.c.id)),
            "The publication.",
            reverse="history",
            reverse_doc="What became of it, the first change first.",
            nullable=False,
            target_in_reach=True,
        ),
    },
)
