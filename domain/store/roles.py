"""The role of a server's connection: it must be one that row-level security confines."""

from domain.store.pool import Connection

_DESCRIBE_ROLE = """
SELECT EXISTS (SELECT FROM pg_roles m WHERE (m.rolsuper OR m.rolbypassrls) AND pg_has_role(current_user, m.oid, 'MEMBER')) AS bypasses,
    EXISTS (
        SELECT FROM pg_class c WHERE c.relnamespace = to_regnamespace('public') AND pg_has_role(current_user, c.relowner, 'MEMBER')
    ) AS owns,
    EXISTS (
        SELECT FROM pg_policy p CROSS JOIN unnest(p.polroles) r
        WHERE p.polname = 'maintenance' AND r <> 0 AND pg_has_role(current_user, r, 'MEMBER')
    ) AS maintains
"""
"""The policies `maintenance` show every row, to the owner and to the operator."""


async def find_role_fault(connection: Connection, setting: str = "DATABASE_URL") -> str | None:
    """Returns why the connection's role must not serve, and what to do; None if it may."""
    role = await connection.fetchrow(_DESCRIBE_ROLE)
    assert role is not None
    if role["bypasses"]:
        kind = "a superuser, or a role that bypasses row-level security (BYPASSRLS)"
    elif role["owns"]:
        kind = "the owner of the tables, or a role that may become it"
    elif role["maintains"]:
        kind = "the operator, to whom row-level security shows every row"
    else:
        return None
    return f"{setting} names {kind}; name the app role."
