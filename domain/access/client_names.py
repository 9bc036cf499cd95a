"""The names of clients in what others read of them: who sent a judgement, which client is a school's source.

A name is unique among the clients of a tenant that are not revoked, and is free again once its client is revoked. So the
id stands beside it wherever it matters which client it was.
"""

from typing import Any

from sqlalchemy import ColumnElement, Text, Uuid, column, select, table

_clients = table("clients", column("id", Uuid), column("display_name", Text()))


def find_client_name(client_id: ColumnElement[Any]) -> ColumnElement[str]:
    """Returns the name of the client with this id, as a subquery."""
    return select(_clients.c.display_name).where(_clients.c.id == client_id).correlate_except(_clients).scalar_subquery()
