"""The committed contracts: what integrators build against, written from the declarations and reviewed as diffs."""

from collections.abc import Callable
from pathlib import Path

from api.graphql.schema import schema_text
from api.rest.openapi.document import openapi_text

ROOT = Path(__file__).parents[1]
CONTRACTS: dict[Path, Callable[[], str]] = {
    Path("openapi/openapi.json"): openapi_text,
    Path("api/graphql/schema.graphql"): schema_text,
}


def write_all(*, check_only: bool = False) -> list[Path]:
    """Writes the contracts that differ from the declarations (or only names them)."""
    changed = []
    for path, text in CONTRACTS.items():
        file = ROOT / path
        if not file.exists() or file.read_text() != text():
            changed.append(path)
            if not check_only:
                file.write_text(text())
    return changed
