"""The scopes (RFC 6749, section 3.3) of access tokens and grants."""

from enum import StrEnum


class Scope(StrEnum):
    """Named noun:verb. expected/scopes.txt, generated from the declarations, lists what each scope allows."""

    TRUSTS_READ = "trusts:read"
    SCHOOLS_READ = "schools:read"
    SCHOOLS_WRITE = "schools:write"
    PUPILS_READ = "pupils:read"
    PUPILS_NAME = "pupils:name"
    PUPILS_UPN = "pupils:upn"
    PUPILS_BIRTH = "pupils:birth"
    PUPILS_SENSITIVE = "pupils:sensitive"
    PUPILS_WRITE = "pupils:write"
    PUPILS_MERGE = "pupils:merge"
    GROUPS_READ = "groups:read"
    GROUPS_WRITE = "groups:write"
    WINDOWS_READ = "windows:read"
    WINDOWS_WRITE = "windows:write"
    SCHEMES_READ = "schemes:read"
    SCHEMES_WRITE = "schemes:write"
    JUDGEMENTS_READ = "judgements:read"
    JUDGEMENTS_WRITE = "judgements:write"
    TARGETS_READ = "targets:read"
    TARGETS_FAMILY = "targets:family"
    TARGETS_STAFF = "targets:staff"
    TARGETS_WRITE = "targets:write"
    AGGREGATES_READ = "aggregates:read"
    AGGREGATES_INTERNAL = "aggregates:internal"
    COLLECTIONS_READ = "collections:read"
    COLLECTIONS_WRITE = "collections:write"
    PUBLICATIONS_WRITE = "publications:write"
    AUDIT_READ = "audit:read"
    PRIVACY_WRITE = "privacy:write"
    IMPORTS_WRITE = "imports:write"
    CLIENTS_WRITE = "clients:write"
    GRANTS_WRITE = "grants:write"


NAMED_ALONE = frozenset({"pupils:merge", "privacy:write", "imports:write", "clients:write", "grants:write", "publications:write"})
"""Scopes that `all` never includes: they cannot be undone, or give power over others. Each is granted by its name."""
NEVER_GIVEN = frozenset({Scope.CLIENTS_WRITE, Scope.GRANTS_WRITE, Scope.IMPORTS_WRITE})
"""Scopes that no client can give to another: the operator alone grants them, by the command line."""
OF_INSTALLATION = frozenset(
    {Scope.TRUSTS_READ, Scope.SCHOOLS_READ, Scope.AUDIT_READ, Scope.IMPORTS_WRITE, Scope.CLIENTS_WRITE, Scope.GRANTS_WRITE}
)
"""Scopes that mean something on the installation: of the register, of clients and of its operation."""
