"""Which field of a row each column of a CSV body is.

A column is named as the field of an entry, with dots for the members of an object (`school.urn`, `horizon.point`) and numbers from 0 for the elements of a
list (`enrolments.0.from`); or as the list of the same noun has it in CSV (`pupilId`, `subjectCode`). What such a list says and no entry can say is
not read, so that the list can be sent back.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isinf
from typing import Any, NamedTuple

from msgspec import Struct, inspect

from api.http.command_body import RANGE, TOO_LARGE
from api.http.json_numbers import read_fraction
from api.http.strict_json import INTEGERS, MAX_INTEGER_LENGTH
from api.rest.query_string import parse_flag
from domain import RESOURCES
from domain.declare.errors import FaultyValue
from domain.declare.inputs import ExactNumber
from domain.declare.resource import Resource
from domain.support.suggestions import Suggestions
from domain.write.predicted_progress import PREDICTED_PROGRESS, is_predicted_progress

MAX_ELEMENTS = 200
"""Elements of one list in a row."""
MAX_LINKS = 4
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_NAMES_OF_SCHOOL = ("school.id", "school.urn", "school.laestab")
SCHOOL_OF_LIST = "schoolId"
"""The school of main registration, as lists have it: the row's school where nothing else says which it is."""

Path = tuple[str | int, ...]
Convert = Callable[[str], object]


class _Column(NamedTuple):
    path: Path
    convert: Convert


@dataclass(frozen=True)
class StreamedList:
    """A noun whose rows can be sent as a stream. `aliases` are the columns of its list that entries have under another name; `has_own_id` says
    that `id` in the list is not that of the pupil."""

    resource: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    has_own_id: bool = True


STREAMED: Mapping[str, StreamedList] = {
    "record_pupils": StreamedList("pupil", has_own_id=False),
    "record_judgements": StreamedList("judgement", {"pupilId": "id", "subjectCode": "subject", "windowCode": "window"}),
    "record_targets": StreamedList(
        "target",
        {
            "pupilId": "id",
            "subjectCode": "subject",
            "horizonYear": "horizon.academicYear",
            "horizonPoint": "horizon.point",
            "schemeCode": "scheme",
        },
    ),
}
"""By the name of the command."""


class Columns:
    """The columns of one body. `choose` is called first, with the header line. `has_school` says that the request names the school of all rows."""

    def __init__(self, streamed: StreamedList, entry: type[Struct], *, has_school: bool) -> None:
        self._streamed, self._entry, self._has_school = streamed, entry, has_school
        self._columns: list[_Column | None] = []

    def choose(self, names: Sequence[str]) -> list[tuple[int, str, str]]:
        """Chooses the field of each column. Returns what is wrong: the number of the column, a code and a message."""
        problems: list[tuple[int, str, str]] = []
        fields: dict[Path, int] = {}
        suggestions = Suggestions()
        school_name = next((name for name in _NAMES_OF_SCHOOL if name in names), None)
        for n, name in enumerate(names):
            column = self._find(name)
            if name in _NAMES_OF_SCHOOL and name != school_name:
                column = None  # the list says all names of the school, and one of them is enough
            if column is None and is_predicted_progress(name):
                problems.append((n, "predicted-progress", PREDICTED_PROGRESS))
            elif column is None and not self._is_of_list(name):
                hint = " Cells are separated by commas." if len(names) == 1 and re.search("[;\t|]", name) else ""
                message = f"there is no such column.{hint}{suggestions.suggest(name, self._list_names())}"
                problems.append((n, "csv-column-unknown", message))
            elif names.index(name) < n:
                problems.append((n, "csv-column-repeated", f"column {names.index(name) + 1} has this name too."))
            elif column is not None and column.path in fields:
                problems.append((n, "csv-column-repeated", f"column {fields[column.path] + 1} is the same field."))
            if column is not None:
                fields.setdefault(column.path, n)
            self._columns.append(column)
        return problems

    def make_row(self, cells: Sequence[str | FaultyValue]) -> dict[str, Any]:
        """The row of JSON that these cells are. An empty cell is a field that is left out."""
        row: dict[str, Any] = {}
        for column, cell in zip(self._columns, cells, strict=True):
            if column is not None and cell != "":
                value = cell if isinstance(cell, FaultyValue) else column.convert(cell)
                if len(column.path) == 1:
                    row[str(column.path[0])] = value
                else:
                    _put(row, column.path, value)
        main_school = row.pop(SCHOOL_OF_LIST, None)
        is_named = "school" in row or self._has_school or (self._streamed.has_own_id and "id" in row)
        if main_school is not None and not is_named:
            row["school"] = {"id": main_school}
        if self._streamed.resource == "judgement" and row.get("status") == "withdrawn" and "withdrawn" not in row:
            row |= {"withdrawn": True}
            del row["status"]
        return {name: _close_lists(value) for name, value in row.items()}

    def _find(self, name: str) -> _Column | None:
        if name == SCHOOL_OF_LIST:
            return _Column((name,), str)
        if name == "id" and self._streamed.has_own_id:
            return None
        return _find_column(inspect.type_info(self._entry), self._streamed.aliases.get(name, name).split("."), ())

    def _is_of_list(self, name: str) -> bool:
        """Whether the list of the noun may have this column in CSV."""
        return _has_column(RESOURCES[self._streamed.resource], name.split("."), MAX_LINKS)

    def _list_names(self) -> tuple[str, ...]:
        fields = [each.encode_name for each in inspect.type_info(self._entry).fields]  # type: ignore[attr-defined]
        return (*self._streamed.aliases, *fields, *RESOURCES[self._streamed.resource].fields)


def _has_column(resource: Resource, parts: Sequence[str], links: int) -> bool:
    name, *rest = parts
    if not rest:
        return name in resource.fields
    if name in resource.fields:
        return len(rest) == 1 and rest[0] in (resource.fields[name].members or ())
    link = resource.links.get(name)
    return link is not None and not link.many and links > 0 and _has_column(RESOURCES[link.target], rest, links - 1)


def _find_column(kind: inspect.Type, parts: Sequence[str], path: Path) -> _Column | None:
    """The column of a field of an input, None where there is no such field or it is an object itself."""
    kinds = _list_kinds(kind)
    struct = next((each for each in kinds if isinstance(each, inspect.StructType)), None)
    items = next((each.item_type for each in kinds if isinstance(each, inspect.ListType)), None)
    if not parts:
        if struct is not None:
            return None
        if items is None:
            return _Column(path, _choose_conversion(kinds))
        if any(isinstance(each, inspect.StructType) for each in _list_kinds(items)):
            return None
        return _Column(path, partial(_split_list, convert=_choose_conversion(_list_kinds(items))))
    name, *rest = parts
    if struct is not None:
        found = next((each for each in struct.fields if each.encode_name == name), None)
        return None if found is None else _find_column(found.type, rest, (*path, name))
    if items is not None and rest and re.fullmatch("0|[1-9][0-9]{0,2}", name, re.ASCII) and int(name) < MAX_ELEMENTS:
        return _find_column(items, rest, (*path, int(name)))
    return None


def _list_kinds(kind: inspect.Type) -> list[inspect.Type]:
    """The members of a union, or the type alone, without what it is annotated with."""
    if isinstance(kind, inspect.Metadata):
        return _list_kinds(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [member for each in kind.types for member in _list_kinds(each)]
    return [kind]


def _choose_conversion(kinds: Sequence[inspect.Type]) -> Convert:
    """How the text of a cell becomes a value of JSON. A text that cannot be one stays a text, and is an issue of its row as in JSON."""
    if any(isinstance(each, inspect.StrType) for each in kinds):
        return str
    if any(isinstance(each, inspect.BoolType) for each in kinds):
        return _read_flag
    if any(isinstance(each, inspect.IntType | inspect.FloatType) or getattr(each, "cls", None) is ExactNumber for each in kinds):
        return _read_number
    return str


def _read_flag(text: str) -> object:
    flag = parse_flag(text.strip())
    return text if flag is None else flag


def _read_number(text: str) -> object:
    found = _NUMBER.fullmatch(text.strip())
    if found is None:
        return text
    if found[1] is None and found[2] is None:
        return int(found[0]) if len(found[0]) <= MAX_INTEGER_LENGTH and int(found[0]) in INTEGERS else RANGE
    number = read_fraction(found[0])
    return TOO_LARGE if isinf(number) else number


def _split_list(text: str, convert: Convert) -> list[object]:
    return [convert(part.strip()) for part in text.split(";")]


def _put(row: dict[str, Any], path: Path, value: object) -> None:
    """Puts a value into a row. A list is a dict by index until `_close_lists`."""
    *parents, last = path
    level: dict[Any, Any] = row
    for step in parents:
        level = level.setdefault(step, {})
    level[last] = value


def _close_lists(value: Any) -> Any:
    """Returns the value with lists in place of dicts by index."""
    if not isinstance(value, dict):
        return value
    if value and all(isinstance(key, int) for key in value):
        return [_close_lists(value[key]) for key in sorted(value)]
    if any(isinstance(each, dict) for each in value.values()):
        return {name: _close_lists(each) for name, each in value.items()}
    return value
