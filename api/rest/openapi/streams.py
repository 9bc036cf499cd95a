"""What the OpenAPI document says of bodies that are streams of rows: NDJSON and CSV, and the parameters that are their head."""

from typing import Any

from api.rest.csv_columns import STREAMED
from api.rest.streams import CSV, NDJSON, list_head_fields
from domain import COMMANDS
from domain.write.command import Command

ACCEPTED = (
    "The rows are staged, and applied school by school. It is the answer to more than 20,000 rows of application/x-ndjson or text/csv, or to fewer with"
    " `Prefer: respond-async`."
)
OF_STREAMS = "Of application/x-ndjson and text/csv alone, as the field of this name in JSON."
_HEAD: dict[str, tuple[str, dict[str, Any]]] = {
    "school": ("The school of the rows that name none, by its id, URN or LAESTAB.", {"type": "string"}),
    "window": ("The window of the rows that name none, by its id or code.", {"type": "string"}),
    "asOf": ("The day of the roll: for pupils only.", {"type": "string", "format": "date"}),
    "complete": ("Whether the rows are the whole roll.", {"type": "boolean"}),
    "maxLeavers": ("How many percent may leave at once.", {"type": "integer", "minimum": 0, "maximum": 100}),
}
"""The parameters of the heads of all commands."""


def describe_head_parameters(command: Command) -> list[dict[str, Any]]:
    """The parameters that say what JSON has beside the entries."""
    names = [each.encode_name for each in list_head_fields(command) if command.name in STREAMED]
    return [
        {"name": name, "in": "query", "description": f"{_HEAD[name][0]} {OF_STREAMS}", "schema": _HEAD[name][1]} for name in names
    ]


def describe_stream_content(command: Command) -> dict[str, Any]:
    """The media types of a stream of rows, with their schemas."""
    if command.name not in STREAMED:
        return {}
    lines, cells = _name_schemas(command)
    return {
        NDJSON: {"schema": {"$ref": f"#/components/schemas/{lines}"}},
        CSV: {"schema": {"$ref": f"#/components/schemas/{cells}"}},
    }


def list_stream_schemas() -> dict[str, dict[str, Any]]:
    """The schemas of streams by name: texts, and what a row of them is."""
    schemas: dict[str, dict[str, Any]] = {}
    for name, streamed in STREAMED.items():
        lines, cells = _name_schemas(COMMANDS[name])
        entry = lines.removesuffix("Lines")
        aliases = [f"{alias} is {path}" for alias, path in streamed.aliases.items()]
        also = f" Columns may be named as the list has them too: {', '.join(aliases)}." if aliases else ""
        of_lists = (
            ", enrolments.0.from is one of an element of a list"
            if "enrolments" in COMMANDS[name].row_types["entries"].__struct_fields__
            else ""
        )
        row = (
            f"A column is a field of {entry}; school.urn is one of an object{of_lists}. An empty cell is a field that is left out."
        )
        schemas[lines] = {"type": "string", "description": f"A line for each entry, which is a {entry} in JSON."}
        schemas[cells] = {
            "type": "string",
            "description": f"A header line, then a row for each entry. {row}{also} What GET answers as CSV can be sent back.",
        }
    return schemas


def _name_schemas(command: Command) -> tuple[str, str]:
    entry = command.row_types["entries"].__name__
    return f"{entry}Lines", f"{entry}Csv"
