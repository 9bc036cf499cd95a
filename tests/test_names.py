"""The rules of language that a program can check: names and sizes, which packages hold what, and what no module may hold."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from domain import RESOURCES
from domain.declare import type_numbers
from tests.fixtures.settings import ROOT
from tests.fixtures.sources import list_sources, parse_source

MODULES = list_sources()
TESTS = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / "tests").rglob("*.py"))}
PICTURES = {"door", "doors", "wall", "walls", "walled", "unwalled", "world", "worlds"}
"""Words that are written nowhere: the terms are interface, check, row-level security, and the name of what a fixture builds."""
PICTURES_OF_TESTS = PICTURES | {"house", "lie", "lies", "stand", "stands", "tell", "tells", "told"}
"""Words that are in the name of no test, which is a statement of behaviour."""
LISTS_OF_PICTURES = ("tests/test_names.py", "tests/contract/test_problem_codes.py")
MAX_LINES, MAX_FUNCTION_LINES = 400, 70
FORBIDDEN_PARAMETERS = {"given", "asked", "known", "told", "held", "kept", "place"}
"""They say that something happened to a value, and not what it is."""
IRREGULAR = {
    "held",
    "kept",
    "told",
    "given",
    "taken",
    "known",
    "shown",
    "written",
    "said",
    "found",
    "met",
    "left",
    "sent",
    "made",
    "lent",
    "spent",
}
ENDS_IN_ED = {"embed", "exceed", "feed", "need", "proceed", "seed", "shed"}
"""Verbs and nouns that are no participles."""
SQL = re.compile(r"\b(SELECT\b.+\bFROM|INSERT INTO|DELETE FROM|UPDATE \w+ SET)\b", re.DOTALL)
REFUSALS = {status.value for status in HTTPStatus if status >= 300}
ABOUT_HTTP = ("api/http/", "api/oauth/", "api/server/")
"""Where status codes are written as numbers."""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def is_participle(word: str) -> bool:
    return word in IRREGULAR or (word.endswith("ed") and word not in ENDS_IN_ED)


def participles(tree: ast.AST) -> list[str]:
    return [each.name for each in functions(tree) if not is_property(each) and is_participle(each.name.strip("_").split("_")[0])]


def forbidden_parameters(tree: ast.AST) -> list[str]:
    found = []
    for each in functions(tree):
        every = [*each.args.posonlyargs, *each.args.args, *each.args.kwonlyargs]
        found += [f"{each.name}({argument.arg})" for argument in every if argument.arg in FORBIDDEN_PARAMETERS]
    return found


def statuses(tree: ast.AST) -> list[int]:
    """Numbers that are an HTTP status of an error or a redirection, unless they are given to something with another name."""
    others = {
        each.value
        for each in ast.walk(tree)
        if (isinstance(each, ast.keyword) and "status" not in (each.arg or ""))
        or (isinstance(each, ast.AnnAssign) and "status" not in ast.unparse(each.target))
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) is int and node.value in REFUSALS and node not in others
    ]


def words(text: str) -> set[str]:
    """The words of a text, also those within names."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def held(): ...", ["held"]),
        ("async def _resolved(): ...", ["_resolved"]),
        ("class A:\n    def written_down(self): ...", ["written_down"]),
        ("class A:\n    @property\n    def closed(self): ...", []),
        ("def need(): ...\ndef is_held(): ...", []),
    ],
)
def test_participles_are_found(source: str, found: list[str]) -> None:
    assert participles(ast.parse(source)) == found


def test_parameters_are_found() -> None:
    assert forbidden_parameters(ast.parse("def read(a, given, *, kept=None): ...")) == ["read(given)", "read(kept)"]


@pytest.mark.parametrize("path", MODULES)
def test_functions_are_named_by_what_they_do(path: str) -> None:
    assert participles(parse_source(path)) == []


@pytest.mark.parametrize("path", MODULES)
def test_parameters_say_what_they_are(path: str) -> None:
    assert forbidden_parameters(parse_source(path)) == []


def test_words_within_names_are_found() -> None:
    assert words("def both_doors(): BothWalls, HOUSE # A world") == {"def", "both", "doors", "walls", "house", "a", "world"}


def test_terms_are_used_and_no_pictures() -> None:
    paths = [path for path in (*MODULES, *TESTS) if path not in LISTS_OF_PICTURES]
    found = {path: words((ROOT / path).read_text()) & PICTURES for path in paths}
    assert {path: pictures for path, pictures in found.items() if pictures} == {}


def test_tests_are_named_in_terms() -> None:
    names = [name for text in TESTS.values() for name in re.findall(r"def (test_\w+)", text)]
    assert len(names) > 1000
    assert [name for name in names if words(name) & PICTURES_OF_TESTS] == []


def test_a_public_class_has_its_name_alone() -> None:
    where: dict[str, list[str]] = defaultdict(list)
    for path, tree in ((path, parse_source(path)) for path in MODULES):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].append(path)
    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", MODULES)
def test_modules_and_functions_are_short(path: str) -> None:
    tree = parse_source(path)
    assert len((ROOT / path).read_text().splitlines()) <= MAX_LINES
    assert [each.name for each in functions(tree) if (each.end_lineno or 0) - each.lineno >= MAX_FUNCTION_LINES] == []


@pytest.mark.parametrize("path", [path for path in MODULES if path.startswith("api/")])
def test_the_api_holds_no_sql(path: str) -> None:
    texts = (node.value for node in ast.walk(parse_source(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    assert [text for text in texts if SQL.search(text)] == []


@pytest.mark.parametrize("path", [path for path in MODULES if path.startswith("api/") and not path.startswith(ABOUT_HTTP)])
def test_status_codes_are_written_where_http_is(path: str) -> None:
    assert statuses(parse_source(path)) == []


def test_each_type_number_belongs_to_one_table() -> None:
    numbers = [value for name, value in vars(type_numbers).items() if name.isupper()]
    assert len(numbers) == len(set(numbers))
    assert {resource.type_number for resource in RESOURCES.values()} - {None} <= set(numbers)
    made = {
        ast.unparse(call.args[0])
        for tree in map(parse_source, MODULES)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] == "new_id"
    }
    assert made <= {name for name in vars(type_numbers) if name.isupper()}
