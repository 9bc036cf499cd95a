"""The placeholders that PostgreSQL writes into its JSON, for the server to replace.

A placeholder is enclosed in U+0001 characters, which occur in no JSON text that PostgreSQL writes. Its first byte
is its kind. A response is split at U+0001: every other part is then a placeholder. A label needs no kind, since it
begins with a digit.

    "{query}:{numbers}"                   a label: the text that a label query returned for a row with these numbers (read/labels.py)
    "@{tenant}"                           the start of a row with labels: its labels are those of this tenant
    "/"                                   the end of that row
    "~{page}:{position}"                  a cursor: the hexadecimal position of a row in this page (read/cursors.py)
    "={tenant}.{school}.{version}"        the data version of a row's school (read/versions.py)
    "#{resource}|{tenants}|{schools}|{codes}"
                                          the groups of collected values that the rows are of (read/groups_read.py); nothing replaces it
"""

from typing import Any

from sqlalchemy import ColumnElement, Text, literal_column

from domain.read.json_sql import concatenate

MARK = b"\x01"
TENANT, END_OF_ROW, CURSOR, SCHOOL, GROUPS = b"@", b"/", b"~", b"=", b"#"
"""The kinds of placeholder with a kind."""
NOT_LABELS = CURSOR + SCHOOL + GROUPS
"""The kinds that PreparedQuery replaces after the labels."""


def write_placeholder(prefix: bytes, text: ColumnElement[Any]) -> ColumnElement[str]:
    """Returns the SQL of a placeholder: its kind, with any fixed text of it, and the text that the row gives."""
    return concatenate([literal_column(f"E'\\x01{prefix.decode()}'", Text), text, literal_column("E'\\x01'", Text)])


END_OF_ROW_SQL = literal_column(f"E'\\x01{END_OF_ROW.decode()}\\x01'", Text)
