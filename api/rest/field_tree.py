"""The parameters `fields`, `include` and `….first`: which fields and links a row of the response has, up to MAX_DEPTH links deep."""

from dataclasses import dataclass, field
from typing import Any

from api.rest.query_string import ParameterIssues
from domain import RESOURCES
from domain.access.caller import Caller
from domain.declare.resource import Link, Resource
from domain.read.checks import list_default_fields
from domain.read.query import (
    DEFAULT_FIRST,
    MAX_NESTED_FIRST,
    FieldValue,
    HasNextPage,
    ListQuery,
    NestedObject,
    OutputFields,
    PageRows,
    RowCursor,
    ToMany,
    ToOne,
    TotalCount,
    decode_parameter,
)

MAX_DEPTH = 4
"""Links that `include` follows from one row."""


@dataclass
class FieldTree:
    """The fields and links of one level of a response. Of a nested list also how many rows, whether all are counted, and the values of its choices
    and its link's arguments."""

    fields: list[str] = field(default_factory=list)
    links: "dict[str, FieldTree]" = field(default_factory=dict)
    first: int = DEFAULT_FIRST
    arguments: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    counted: bool = False


def read_field_tree(
    issues: ParameterIssues, resource: Resource, fields: list[str], include: list[str], options: dict[str, str]
) -> FieldTree:
    """The tree of dotted paths: `include=judgements.window` includes two levels, `fields=judgements.grade` narrows one, and an option such as
    `judgements.first` sets the size of a nested list, one of its choices or an argument of its link."""
    tree = FieldTree()
    for path in issues.limit_names("include", include):
        level, level_resource = tree, resource
        for depth, name in enumerate(path.split(".")):
            if name not in level_resource.links:
                message, names = f"{level_resource.name} has no link {name}.", tuple(level_resource.links)
                listed = f" It has: {', '.join(names)}." if names else " It has none."
                issues.add_unknown("include", "link-unknown", message, name, names, listed)
                break
            if depth >= MAX_DEPTH:
                issues.add("include", "include-too-deep", f"Links nest at most {MAX_DEPTH} deep.")
                break
            level_resource = RESOURCES[level_resource.links[name].target]
            level = level.links.setdefault(name, FieldTree())
    for path in issues.limit_names("fields", fields):
        _add_field(issues, tree, resource, path)
    for path, value in options.items():
        _set_option(issues, tree, resource, path, value)
    return tree


def _add_field(issues: ParameterIssues, tree: FieldTree, resource: Resource, path: str) -> None:
    *links, name = path.split(".")
    level = _find_level(tree, resource, links)
    if level is None:
        issues.add("fields", "link-not-included", f"fields names {path}, but include does not bring {'.'.join(links)}.")
    elif name == "totalCount" and links:
        message = f"totalCount is told of a list, not of its rows: ask for {'.'.join(links)}.totalCount=true."
        issues.add("fields", "field-unknown", message)
    elif name not in level[1].fields:
        message = f"{level[1].name} has no field {name}."
        issues.add_unknown("fields", "field-unknown", message, name, tuple(level[1].fields))
    elif name not in level[0].fields:
        level[0].fields.append(name)


def _set_option(issues: ParameterIssues, tree: FieldTree, resource: Resource, path: str, value: str) -> None:
    *links, link_name, option = path.split(".")
    above, level = _find_level(tree, resource, links), _find_level(tree, resource, [*links, link_name])
    if above is None or level is None:
        issues.add(path, "link-not-included", f"include does not bring {path.rsplit('.', 1)[0]}.")
        return
    link = above[1].links[link_name]
    if not link.many:
        issues.add(path, "link-to-one", f"{link_name} leads to one row; {option} is for lists.")
    elif option == "first":
        level[0].first = issues.read_number(value, path, DEFAULT_FIRST, MAX_NESTED_FIRST)
    elif option == "totalCount":
        level[0].counted = issues.read_flag(value, path)
    elif option in level[1].choices:
        level[0].choices |= issues.read_choices(level[1], link, {option: value}, path)
    else:
        level[0].arguments |= read_arguments(issues, level[1], link, {option: value}, path)


def read_arguments(
    issues: ParameterIssues, resource: Resource, link: Link | None, texts: dict[str, str], at: str = ""
) -> dict[str, Any]:
    """The values of the arguments of a list of the resource, or of one that the link leads to, by name."""
    arguments: dict[str, Any] = {}
    declared = resource.list_arguments(link)
    for name, text in texts.items():
        if name not in declared:
            names = (*declared, *resource.choices, "first", "totalCount")
            issues.add_unknown(at or name, "parameter-unknown", f"There is no parameter {name} here.", name, names)
            continue
        try:
            arguments[declared[name].same_as or name] = decode_parameter(text, declared[name].kind.parse)
        except ValueError as problem:
            issues.add(at or name, "parameter-invalid", f"The value given for {name} {problem}.")
    return arguments


def _find_level(tree: FieldTree, resource: Resource, links: list[str]) -> tuple[FieldTree, Resource] | None:
    for name in links:
        if name not in tree.links:
            return None
        tree, resource = tree.links[name], RESOURCES[resource.links[name].target]
    return tree, resource


def make_row_fields(resource: Resource, tree: FieldTree, caller: Caller, by: Link | None = None) -> OutputFields:
    """The fields of a row: those that the tree names, or the default ones; then the links, each under its own name. `by` is the link that leads to
    the row, if one does."""
    names = tree.fields or list(list_default_fields(resource, caller, by))
    row: list[tuple[str, Any]] = [(name, FieldValue(resource.fields[name])) for name in names]
    for name, level in tree.links.items():
        link, target = resource.links[name], RESOURCES[resource.links[name].target]
        linked = make_row_fields(target, level, caller, link)
        if link.many:
            page = ListQuery(
                target,
                make_page_fields(linked, counted=level.counted),
                first=level.first,
                path=f"{resource.name}.{name}",
                arguments=tuple(level.arguments.items()),
                choices=target.choose(level.choices, (), link),
            )
            row.append((name, ToMany(link, page)))
        else:
            row.append((name, ToOne(link, target, linked)))
    return tuple(row)


def make_page_fields(row: OutputFields, *, counted: bool = False) -> OutputFields:
    """The fields of a page of such rows: `data`, and `page` with `hasMore`, `endCursor` and, if it is `counted`, `totalCount`."""
    count: OutputFields = (("totalCount", TotalCount()),) if counted else ()
    page = NestedObject((*count, ("hasMore", HasNextPage()), ("endCursor", RowCursor())))
    return (("data", PageRows(row)), ("page", page))
