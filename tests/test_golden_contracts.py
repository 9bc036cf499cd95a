"""What is declared, as people review it: who may do what, what selections compile to, and the committed contracts."""

from pathlib import Path

import pytest

from api.contracts import CONTRACTS
from domain import COMMANDS, RESOURCES
from domain.declare.resource import Filter
from domain.declare.scopes import Scope
from domain.read import compile
from domain.read.prepared import PreparedQuery
from domain.read.query import (
    Condition,
    FieldValue,
    HasNextPage,
    ListQuery,
    NestedObject,
    Order,
    OutputFields,
    PageRows,
    Query,
    RowCursor,
    RowQuery,
    ToMany,
    ToOne,
)
from tests.golden import check_golden

ROOT = Path(__file__).parents[1]

CALLERS: dict[str, frozenset[Scope]] = {
    "none": frozenset(),
    "portal": frozenset({Scope.TRUSTS_READ, Scope.SCHOOLS_READ, Scope.WINDOWS_READ, Scope.AGGREGATES_READ}),
    "app": frozenset(
        {Scope.SCHOOLS_READ, Scope.PUPILS_READ, Scope.PUPILS_NAME, Scope.WINDOWS_READ, Scope.JUDGEMENTS_READ, Scope.TARGETS_READ}
    ),
    "vendor": frozenset(Scope)
    - {Scope.IMPORTS_WRITE, Scope.AGGREGATES_INTERNAL, Scope.AGGREGATES_READ, Scope.WINDOWS_WRITE, Scope.SCHEMES_WRITE},
    "all": frozenset(Scope),
}


def test_golden_scopes() -> None:
    """Every field and command × every kind of caller: y where the scopes allow it (reach and row-level security narrow it further)."""
    lines = [f"{'':44} {'needs':44} " + " ".join(f"{name:6}" for name in CALLERS)]

    def line(what: str, needs: set[Scope], note: str = "") -> None:
        allowed = " ".join(f"{'y' if needs <= held else '-':6}" for held in CALLERS.values())
        lines.append(f"{what:44} {' '.join(sorted(needs)):44} {allowed} {note}".rstrip())

    for resource in RESOURCES.values():
        for name, field in resource.fields.items():
            notes = {Filter.BODY: "filtered in a body only", Filter.ANYWHERE: ""}
            line(f"{resource.name}.{name}", {resource.scope} | ({field.scope} if field.scope else set()), notes[field.filter])
        for name, link in resource.links.items():
            line(f"{resource.name}.{name} ->", {resource.scope, RESOURCES[link.target].scope}, link.target)
    for command in COMMANDS.values():
        line(f"{command.name}()", {command.scope})
    check_golden(ROOT / "expected" / "scopes.txt", "\n".join(lines) + "\n")


def test_a_scope_is_needed_for_everything() -> None:
    assert all(isinstance(resource.scope, Scope) for resource in RESOURCES.values())
    assert all(isinstance(command.scope, Scope) for command in COMMANDS.values())


PUPIL, SCHOOL, JUDGEMENT, WINDOW = (RESOURCES[name] for name in ("pupil", "school", "judgement", "window"))


def page(row: OutputFields) -> OutputFields:
    return (("data", PageRows(row)), ("page", NestedObject((("hasMore", HasNextPage()), ("endCursor", RowCursor())))))


SQL: dict[str, Query] = {
    "pupils": ListQuery(PUPIL, page((("id", FieldValue(PUPIL.fields["id"])), ("surname", FieldValue(PUPIL.fields["surname"]))))),
    "pupils_filtered_sorted_next_page": ListQuery(
        PUPIL,
        page((("id", FieldValue(PUPIL.fields["id"])),)),
        where=(Condition("yearGroup", PUPIL.fields["yearGroup"], ("6", "5")), Condition("sex", PUPIL.fields["sex"], ("F",))),
        order=(Order("surname", PUPIL.fields["surname"], descending=True),),
        after=("Smith", "01a20a04-0326-7008-9663-e1a7263dbedc", "01a20a04-0326-7008-9663-e1a7263dbedc"),
    ),
    "pupil_with_school_and_judgements": RowQuery(
        PUPIL,
        ((PUPIL.source.c.id, "01a20a04-0326-7004-9663-e1a7263dbedc"),),
        (
            ("id", FieldValue(PUPIL.fields["id"])),
            ("school", ToOne(PUPIL.links["school"], SCHOOL, (("name", FieldValue(SCHOOL.fields["name"])),))),
            (
                "judgements",
                ToMany(
                    PUPIL.links["judgements"],
                    ListQuery(
                        JUDGEMENT,
                        page(
                            (
                                ("grade", FieldValue(JUDGEMENT.fields["grade"])),
                                (
                                    "window",
                                    ToOne(JUDGEMENT.links["window"], WINDOW, (("code", FieldValue(WINDOW.fields["code"])),)),
                                ),
                            )
                        ),
                    ),
                ),
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", SQL)
def test_golden_sql(name: str) -> None:
    template = PreparedQuery([SQL[name]]).template
    for scopes, suffix in ((None, ""), (frozenset(Scope), "_uniform")):
        check_golden(ROOT / "expected" / "sql" / f"{name}{suffix}.sql", compile.compile_query(template, scopes).sql + "\n")


@pytest.mark.parametrize("path", CONTRACTS, ids=str)
def test_golden_contract(path: Path) -> None:
    check_golden(ROOT / path, CONTRACTS[path]())
