"""Writes the committed contracts, openapi.json and schema.graphql, from the declarations of resources and commands."""

from collections.abc import Callable
from pathlib import Path

from api.graphql.schema import schema_text
from api.rest.openapi.document import openapi_text

ROOT = Path(__file__).parents[1]
CONTRACTS: dict[Path, Callable[[], str]] = {
    Path("openapi/openapi.json"): openapi_text,
    Path("api/graphql/schema.graphql"): schema_text,
}


def write_contracts(*, check_only: bool = False) -> list[Path]:
    """Writes the contracts that differ from the declarations. Returns their paths. With `check_only` nothing is
    written."""
    changed = []
    for path, make_text in CONTRACTS.items():
        file, text = ROOT / path, make_text()
        if not file.exists() or file.read_text() != text:
            changed.append(path)
            if not check_only:
                file.write_text(text)
    return changed
