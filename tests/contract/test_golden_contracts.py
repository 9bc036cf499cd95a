"""What is declared, as people review it: who may do what, and the committed contracts."""

from pathlib import Path

import pytest

from api.contracts import CONTRACTS
from domain import COMMANDS, RESOURCES
from domain.declare.resource import Filter
from domain.declare.scopes import Scope
from tests.fixtures.golden import check_golden

ROOT = Path(__file__).parents[2]

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
            notes = {Filter.BODY: "filtered in a body only", Filter.ANYWHERE: "", Filter.NOWHERE: "no filter"}
            line(f"{resource.name}.{name}", {resource.scope} | ({field.scope} if field.scope else set()), notes[field.filter])
        for name, link in resource.links.items():
            line(f"{resource.name}.{name} ->", {resource.scope, RESOURCES[link.target].scope}, link.target)
    for command in COMMANDS.values():
        line(f"{command.name}()", {command.scope})
    check_golden(ROOT / "expected" / "scopes.txt", "\n".join(lines) + "\n")


def test_a_scope_is_needed_for_everything() -> None:
    assert all(isinstance(resource.scope, Scope) for resource in RESOURCES.values())
    assert all(isinstance(command.scope, Scope) for command in COMMANDS.values())


def test_make_contracts_runs_every_file_that_compares_one() -> None:
    comparing = [
        path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py") if f"{check_golden.__name__}(" in path.read_text()
    ]
    (listed,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("GOLDENS := ")]
    assert {*listed.split()[2:]} == {str(path) for path in comparing}


@pytest.mark.parametrize("path", CONTRACTS, ids=str)
def test_golden_contract(path: Path) -> None:
    check_golden(ROOT / path, CONTRACTS[path]())
