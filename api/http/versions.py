"""Versions of tenants in header fields, by which a client reads what it has written where replicas answer.

`Markonce-Version` of an answer to a write has the version of each tenant that was written; `Markonce-Min-Version` of a read names those that the
client has seen.
"""

import re
from collections.abc import Mapping
from uuid import UUID

from starlette.types import Scope

from api.http.field_values import join_lines, split_elements
from domain.declare.errors import BadRequest, Issue

MIN_VERSION = b"markonce-min-version"
MAX_VERSIONS = 50
_VERSION = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.(0|[1-9][0-9]{0,17})")
_CODE = "min-version-malformed"


def write_versions(versions: Mapping[UUID, int]) -> bytes:
    """The value of Markonce-Version."""
    return ", ".join(f"{tenant}.{version}" for tenant, version in sorted(versions.items())).encode()


def read_seen_versions(scope: Scope) -> Mapping[UUID, int]:
    """The versions that Markonce-Min-Version names: of each tenant the highest. Raises BadRequest."""
    value = join_lines(scope, MIN_VERSION)
    if value is None:
        return {}
    elements, seen = [*split_elements(value)], dict[UUID, int]()
    if not 1 <= len(elements) <= MAX_VERSIONS:
        raise _make_error(f"Markonce-Min-Version holds 1 to {MAX_VERSIONS} versions, with commas between them.")
    for element in elements:
        found = _VERSION.fullmatch(element)
        if found is None:
            raise _make_error("Markonce-Min-Version holds values of Markonce-Version as they were sent, such as 01a2c3d4-….17.")
        tenant, version = UUID(found[1]), int(found[2])
        seen[tenant] = max(version, seen.get(tenant, 0))
    return seen


def _make_error(message: str) -> BadRequest:
    return BadRequest(message, code=_CODE, issues=(Issue("Markonce-Min-Version", _CODE, message),))
