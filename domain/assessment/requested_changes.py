"""What the histories of changes that somebody asks for have in common: when, by which client, who decided it and why."""

from typing import Any

from sqlalchemy import Table

from domain.access.client_names import find_client_name
from domain.access.reach import rows_of_tenant
from domain.declare.resource import Field, Filter
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT
from domain.declare.vocabulary import declare_ids
from domain.roster.text_order import sort_by_text


def find_said(action: Any) -> list[str | None]:
    """Returns the reason and the actor that a request says, None for one that it does not say."""
    return [value if isinstance(value := getattr(action, name, None), str) else None for name in ("reason", "actor")]


def make_request_fields(changes: Table) -> dict[str, Field]:
    """Returns the fields of a history of a tenant's changes. `changes` has the columns changed_at, reason, actor and client_id."""
    client_name = find_client_name(changes.c.client_id)
    return {
        "changedAt": Field(changes.c.changed_at, "When it was made."),
        "reason": Field(changes.c.reason, "Why; null where nobody said it.", is_prose=True),
        "client": Field(client_name, "Name of the client that asked for it.", sort_key=sort_by_text(client_name)),
        "clientId": Field(
            changes.c.client_id, "Id of that client: names may be used again.", vocabulary=declare_ids(CLIENT, "client")
        ),
        "actor": Field(
            changes.c.actor,
            "Who decided it, as the sender names them.",
            scope=Scope.AUDIT_READ,
            reach=rows_of_tenant(changes.c.tenant_id),
            filter=Filter.NOWHERE,
        ),
    }
