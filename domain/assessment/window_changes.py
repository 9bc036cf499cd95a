"""The history of a window's state: when it was opened, closed, reopened, locked and unlocked by request, by whom and why.

A window that opens or closes by itself, at its time, leaves no row: nobody did it.
"""

from typing import Any

from sqlalchemy import Column, DateTime, Integer, SmallInteger, Table, Text, Uuid

from domain.access.reach import rows_of_tenant
from domain.assessment.requested_changes import find_said, make_request_fields
from domain.assessment.subjects import code_of
from domain.assessment.windows import windows
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.vocabulary import VERSION, declare_list
from domain.store.database import Connection
from domain.store.metadata import metadata

window_changes = Table(
    "window_changes",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("window_no", SmallInteger, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("outcome", Text, nullable=False),
    Column("reason", Text),
    Column("actor", Text),
    Column("client_id", Uuid, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
)
c = window_changes.c
_INSERT = """
INSERT INTO window_changes (tenant_id, window_no, version, outcome, reason, actor, client_id) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


async def note_change(connection: Connection, window: Any, version: int, outcome: str, client_id: Any, action: Any = None) -> None:
    """Writes a change of a window's state into its history. `action` may say a reason and an actor."""
    await connection.execute(_INSERT, window["tenant_id"], window["no"], version, outcome, *find_said(action), client_id)


WINDOW_CHANGES = Resource(
    name="windowStateChange",
    plural="windowStateChanges",
    slug="window-state-changes",
    doc="A change of a window's state that somebody asked for: when, by which client, and why.",
    source=window_changes,
    scope=Scope.WINDOWS_READ,
    order=("tenant_id", "window_no", "version"),
    reach=rows_of_tenant(c.tenant_id),
    fields={
        "windowCode": Field(code_of(windows, c.tenant_id, c.window_no), "The window's code."),
        "version": Field(c.version, "The version of the window that the change made.", vocabulary=VERSION),
        "outcome": Field(
            c.outcome,
            "opened, closed, reopened, locked or unlocked.",
            vocabulary=declare_list("opened", "closed", "reopened", "locked", "unlocked"),
        ),
        **make_request_fields(window_changes),
    },
    links={
        "window": Link(
            "window",
            ((c.tenant_id, windows.c.tenant_id), (c.window_no, windows.c.no)),
            "The window.",
            reverse="history",
            reverse_doc="When it was opened, closed, reopened, locked and unlocked by request, the first of them first.",
            nullable=False,
            target_in_reach=True,
        ),
    },
)
