"""Hostile and usual GraphQL documents at each of the four checks of `api.graphql.limits`.

Work is counted in calls of Python functions, which are the same on every machine.
"""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress

import graphql
import pytest
from graphql import GraphQLSyntaxError, build_schema, get_introspection_query
from hypothesis import example, given, settings
from hypothesis import strategies as st

from api.graphql.limits import (
    MAX_COUNT,
    MAX_ERRORS,
    MAX_INTROSPECTIONS,
    MAX_NESTING,
    DocumentLimits,
    LimitExceeded,
    check_shape,
    parse_document,
    validate,
)

SCHEMA = build_schema("""
    type Query {
      pupils(first: Int, after: String, where: PupilWhere): PupilConnection!
      schools(first: Int): SchoolConnection!
      version: String
    }
    input PupilWhere { name: String, year: [Int!], and: [PupilWhere!] }
    type PupilConnection { edges: [PupilEdge!]!, nodes: [Pupil!]!, pageInfo: PageInfo! }
    type PupilEdge { node: Pupil!, cursor: String! }
    type PageInfo { hasNextPage: Boolean! }
    type Pupil { id: ID!, name: String, school: School!, judgements(first: Int): JudgementConnection! }
    type JudgementConnection { edges: [JudgementEdge!]! }
    type JudgementEdge { node: Judgement! }
    type Judgement { id: ID!, mark: Int, pupil: Pupil! }
    type SchoolConnection { nodes: [School!]! }
    type School { id: ID!, name: String, pupils(first: Int): PupilConnection!, parent: School }
""")
LIMITS = DocumentLimits()
ROOMY = DocumentLimits(bytes=10**9, tokens=10**9, depth=10**9, aliases=10**9, fields=10**9)

DASHBOARD = """
    query Dashboard($first: Int = 30) {
      pupils(first: $first, where: {year: [5, 6]}) {
        edges { node { ...Card judgements(first: 20) { edges { node { id mark } } } } }
        pageInfo { hasNextPage }
      }
      ...Schools
    }
    fragment Card on Pupil { id name school { ...Name } }
    fragment Name on School { id name }
    fragment Schools on Query { schools(first: 10) { nodes { ...Name parent { ...Name } } } }
"""
ALL_INTROSPECTION = get_introspection_query(
    specified_by_url=True,
    directive_is_repeatable=True,
    schema_description=True,
    input_value_deprecation=True,
    experimental_directive_deprecation=True,
    one_of=True,
)
COMPONENTS = "{ " + " ".join(f"...C{i}" for i in range(40)) + " }"
COMPONENTS += "".join(f" fragment C{i} on Query {{ pupils(first: 5) {{ edges {{ node {{ id name }} }} }} }}" for i in range(40))
HONEST = [
    pytest.param(DASHBOARD, id="dashboard"),
    pytest.param(COMPONENTS, id="a page of forty components"),
    pytest.param(get_introspection_query(), id="introspection"),
    pytest.param(ALL_INTROSPECTION, id="introspection with all options"),
]


def refused(call: Callable[[], object]) -> tuple[str, str]:
    """The code and the message with which a limit refuses."""
    with pytest.raises(LimitExceeded) as caught:
        call()
    return caught.value.code, str(caught.value)


def shape_refused(source: str, limits: DocumentLimits = LIMITS) -> tuple[str, str]:
    return refused(lambda: check_shape(parse_document(source, ROOMY), limits))


def passes_shape(source: str, limits: DocumentLimits = LIMITS) -> bool:
    check_shape(parse_document(source, ROOMY), limits)
    return True


def doubling(levels: int, body: str, innermost: str) -> str:
    """Fragments F0, F1, ..., of which each holds the next twice: `body` says how, with % for the next one's spread."""
    fragments = [f"fragment F{i} on Query {{ {body.replace('%', f'...F{i + 1}')} }}" for i in range(levels)]
    return "\n".join(["{ ...F0 }", *fragments, f"fragment F{levels} on Query {{ {innermost} }}"])


@pytest.mark.parametrize("source", HONEST)
def test_a_usual_document_passes_every_check(source: str) -> None:
    document = parse_document(source, LIMITS)
    check_shape(document, LIMITS)
    assert validate(SCHEMA, document, suggestions=True) == []


# Bytes, tokens and nesting


def test_bytes_are_those_of_utf_8() -> None:
    source = '{ pupils(after: "éé") { nodes { id } } }'
    size = len(source) + 2
    assert parse_document(source, DocumentLimits(bytes=size))
    code, message = refused(lambda: parse_document(source, DocumentLimits(bytes=size - 1)))
    assert code == "graphql-too-long"
    assert f"{size} bytes" in message
    assert f"limit is {size - 1}" in message


def test_half_a_surrogate_pair_is_a_syntax_error() -> None:
    with pytest.raises(GraphQLSyntaxError):
        parse_document('{ pupils(after: "\ud800") { nodes { id } } }', LIMITS)


@pytest.mark.parametrize(
    "source",
    [
        "{" + "version " * 2_000 + "}",
        "{ version }" + "#\n" * 2_000,
        "{ version " + "@skip(if: true) " * 1_000 + "}",
        "{ pupils(where: {year: [" + "1 " * 2_000 + "]}) { nodes { id } } }",
        '{ pupils(after: "" ' + '"" ' * 2_000,
        "{ pupils(first: 1" + "-1" * 2_000,
        "..." * 2_001,
    ],
)
def test_too_many_tokens(source: str) -> None:
    code, message = refused(lambda: parse_document(source, LIMITS))
    assert code == "graphql-too-many-tokens"
    assert "2,001 tokens or more; the limit is 2,000" in message


@pytest.mark.parametrize(
    "source",
    [
        "{" * 90_000,
        "{ a" * 30_000,
        "{ ... " * 15_000,
        "(" * 90_000,
        "{ pupils(where: " + "[" * 90_000,
        "{ pupils(where: " + "{and: " * 10_000,
        "query ($a: " + "[" * 90_000 + "Int" + "]" * 100,
        '"""{""" {' + "[(" * 40_000,
    ],
)
@pytest.mark.parametrize("limits", [LIMITS, DocumentLimits(tokens=10**9)])
def test_deep_nesting_never_reaches_the_recursive_parser(source: str, limits: DocumentLimits) -> None:
    code, message = refused(lambda: parse_document(source, limits))
    assert code == "graphql-too-deep"
    assert f"the limit is {MAX_NESTING}" in message


def test_brackets_in_strings_and_comments_do_not_nest() -> None:
    brackets = "[{(" * 100
    assert parse_document(f'{{ pupils(after: "\\"{brackets}") {{ nodes {{ id }} }} }} # {brackets}', LIMITS)
    assert parse_document(f'{{ pupils(after: """\\"""{brackets}" "" {brackets}""") {{ nodes {{ id }} }} }}', LIMITS)


def test_nesting_at_the_limit_parses() -> None:
    lists = MAX_NESTING - 2
    source = "{ version(x: " + "[" * lists + "]" * lists + ") }"
    assert parse_document(source, LIMITS)
    assert parse_document(" ".join([source] * 10), LIMITS)


@pytest.mark.parametrize(
    "source", ["", "{", "{ pupils(", '{ a(b: "', '{ a(b: """', "{ a ? }", "{ a .. }", "{ 01 }", "}" * 100 + "{" * 50]
)
def test_any_other_fault_is_a_syntax_error(source: str) -> None:
    with pytest.raises(GraphQLSyntaxError):
        parse_document(source, LIMITS)


LEXEMES = (
    r'''{ } ( ) [ ] a b: $c @d ... 1 -2.5e+3 0 = ! | & , "" "x" "\"" "\\" "\u{61}" "#{" """ """"a"b""c""" """\"""""" " \ # #" ? é'''
)
TEXTS = st.lists(st.sampled_from([*LEXEMES.split(), " ", "\n", "\r", "\ufeff", "# {\n"]), max_size=40).map("".join)
VALUES = st.recursive(
    st.sampled_from(["1", "-0.5E-9", "$v", "RED", "null", '""', '"\\"{"', '"""x""y"""', '"""\\"""("""', '""""q"""']),
    lambda inner: st.lists(inner, max_size=4).map(lambda v: "[" + ",".join(v) + "]") | inner.map("{{k: {}}}".format),
    max_leaves=8,
)
DOCUMENTS = st.lists(st.tuples(VALUES, st.sampled_from(["", "#{\n", '# "\r', "\ufeff,"])), min_size=1, max_size=6).map(
    lambda fields: "{" + " ".join(f"a(x: {value}){comment}" for value, comment in fields) + "}"
)


def tokens_by_graphql(source: str) -> int | None:
    try:
        return graphql.parse(source).token_count
    except GraphQLSyntaxError:
        return None


@settings(deadline=None, max_examples=300)
@given(source=DOCUMENTS | TEXTS.map("query {{ a }} {}".format) | TEXTS.map("{{ a(x: [{}]) }}".format))
@example('{a(x:"""a""""")}')
@example('{a(x:"""\\""""""")}')
def test_tokens_are_counted_as_graphql_counts_them(source: str) -> None:
    tokens = tokens_by_graphql(source)
    if tokens is None:
        with pytest.raises(GraphQLSyntaxError):
            parse_document(source, ROOMY)
        return
    assert parse_document(source, DocumentLimits(tokens=tokens)) == graphql.parse(source)
    assert refused(lambda: parse_document(source, DocumentLimits(tokens=tokens - 1)))[0] == "graphql-too-many-tokens"


# Depth, aliases and fields


def test_depth_counts_fields_through_fragments() -> None:
    source = "{ pupils { ...A } } fragment A on PupilConnection { ... on PupilConnection { edges { node { ...B } } } } fragment B on Pupil { id }"
    assert passes_shape(source, DocumentLimits(depth=4))
    assert shape_refused(source, DocumentLimits(depth=3)) == (
        "graphql-too-deep",
        "The operation nests fields 4 deep; the limit is 3.",
    )


def test_aliases_are_counted_as_often_as_they_are_spread() -> None:
    source = "{ x: version ...A ...A } fragment A on Query { y: version z: version }"
    assert passes_shape(source, DocumentLimits(aliases=5))
    assert shape_refused(source, DocumentLimits(aliases=4)) == (
        "graphql-too-many-aliases",
        "The operation has 5 aliases; the limit is 4.",
    )


def test_fields_are_counted_as_often_as_they_are_spread() -> None:
    source = "{ ...A ...A ... on Query { version } } fragment A on Query { version pupils { pageInfo { hasNextPage } } }"
    assert passes_shape(source, DocumentLimits(fields=12))
    code, message = shape_refused(source, DocumentLimits(fields=11))
    assert code == "graphql-too-many-fields"
    assert "selects 12 fields" in message
    assert "the limit is 11" in message


def test_every_operation_of_a_document_is_checked_by_itself() -> None:
    small, large = "query A { version }", "query B { x: version y: version }"
    assert passes_shape(f"{large} query C {{ z: version }}", DocumentLimits(aliases=2))
    assert shape_refused(f"{small} {large}", DocumentLimits(aliases=1))[0] == "graphql-too-many-aliases"


@pytest.mark.parametrize(
    ("body", "innermost", "code"),
    [
        ("% %", "version", "graphql-too-many-fields"),
        ("% %", "", "graphql-too-many-fields"),
        ("... on Query { % } ... { % }", "version", "graphql-too-many-fields"),
        ("% %", "x: version", "graphql-too-many-aliases"),
        ("x: pupils { % } pupils { % }", "version", "graphql-too-deep"),
        ("% %", "__schema { description }", "graphql-too-many-fields"),
    ],
)
@pytest.mark.parametrize("levels", [30, 150])
def test_a_billion_laughs(levels: int, body: str, innermost: str, code: str) -> None:
    source = doubling(levels, body, innermost)
    assert len(source) < LIMITS.bytes
    assert shape_refused(source)[0] == code


def test_counts_saturate() -> None:
    assert f"{MAX_COUNT:,} or more" in shape_refused(doubling(150, "% %", "version"))[1]


def test_the_work_of_measuring_grows_with_the_text_and_not_with_what_it_expands_to() -> None:
    def work(levels: int) -> int:
        document = parse_document(doubling(levels, "% %", "version"), ROOMY)
        return calls(lambda: check_shape(document, ROOMY))

    assert work(80) < 2.5 * work(40)


def test_a_long_chain_of_fragments_needs_no_stack() -> None:
    chain = "".join(f" fragment F{i} on Query {{ ...F{i + 1} }}" for i in range(5_000))
    assert shape_refused("{ ...F0 }" + chain + " fragment F5000 on Query { version }")[1].startswith("The operation selects 5,002")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{ ...A } fragment A on Query { version ...A }", "Cannot spread fragment 'A' within itself."),
        ("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }", "Cannot spread fragment 'A' within itself via 'B'."),
        ("{ ...Absent }", "Unknown fragment 'Absent'."),
        (
            "{ version } fragment A on Query { version } fragment A on Query { version }",
            "There can be only one fragment named 'A'.",
        ),
        ("{ version } type T { a: Int }", "The 'T' definition is not executable."),
    ],
)
def test_what_validation_reports_passes_the_shape(source: str, message: str) -> None:
    document = parse_document(source, LIMITS)
    check_shape(document, LIMITS)
    assert message in [error.message for error in validate(SCHEMA, document, suggestions=False)]


# Introspection


def test_introspection_counts_apart_from_the_data_beside_it() -> None:
    source = get_introspection_query().replace("query IntrospectionQuery {", "query { version", 1)
    assert passes_shape(source, DocumentLimits(depth=1, aliases=0, fields=2))


@pytest.mark.parametrize(
    ("below", "code", "found"),
    [
        ("types { ofType" + "{ ofType " * 20 + "{ name }" + "}" * 20 + "}", "graphql-too-deep", "23 deep; the limit is 20"),
        ("types { fields { type { fields { name } } } }", "graphql-too-much-introspection", "2 are nested"),
        ("types { ...T } ", "graphql-too-much-introspection", "3 are nested"),
        ("x: types { name }", "graphql-too-many-aliases", "1 aliases; the limit is 0"),
        ("types { " + "name " * 400 + "}", "graphql-too-many-fields", "401 fields"),
    ],
)
def test_introspection_has_limits_of_its_own(below: str, code: str, found: str) -> None:
    fragments = "fragment T on __Type { possibleTypes { ...U } } fragment U on __Type { interfaces { inputFields { name } } }"
    for root in ("__schema", '__type(name: "Pupil")'):
        refusal = shape_refused(f"{{ {root} {{ {below} }} }} {fragments}")
        assert refusal[0] == code
        assert found in refusal[1]


def test_introspection_is_asked_a_few_times_at_most() -> None:
    def source(times: int) -> str:
        return "{" + " ".join(f'x{i}: __type(name: "Pupil") {{ name }}' for i in range(times)) + "}"

    assert passes_shape(source(MAX_INTROSPECTIONS))
    assert shape_refused(source(MAX_INTROSPECTIONS + 1))[0] == "graphql-too-much-introspection"


# Validation


def calls(run: Callable[[], object]) -> int:
    """How many calls of functions, written in Python or C, a run makes."""
    count = 0

    def notice(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(notice)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def fill(unit: Callable[[int], str], before: str = "{", after: str = "}") -> str:
    """As many units as the limit of tokens lets in."""
    parts: list[str] = []
    left = LIMITS.tokens - (tokens_by_graphql(f"{before} a {after}") or 0)
    while (left := left - (tokens_by_graphql(f"{{ {unit(len(parts))} }}") or 0) + 2) > 0:
        parts.append(unit(len(parts)))
    return before + " ".join(parts) + after


def spread_together(count: int, body: Callable[[int], str]) -> str:
    fragments: Iterable[str] = (f"fragment F{i} on Query {{ {body(i)} }}" for i in range(count))
    return "{" + " ".join(f"...F{i}" for i in range(count)) + "}" + " ".join(fragments)


HOSTILE = {
    "one leaf repeated": fill(lambda i: "version"),
    "one object repeated": fill(lambda i: "pupils { pageInfo { hasNextPage } }"),
    "one object repeated with arguments": fill(lambda i: "pupils(first: 1) { nodes { id } }"),
    "one object repeated in conflict": fill(lambda i: f"pupils(first: {i}) {{ nodes {{ id }} }}"),
    "pairs of pairs": fill(lambda i: "schools { nodes { parent { parent { id id } parent { id } } parent { id } } }"),
    "distinct aliases": fill(lambda i: f"x{i}: version"),
    "inline fragments side by side": fill(lambda i: "... on Query { version }"),
    "inline fragments in one another": "{" + "... on Query {" * 60 + "version version" + "}" * 60 + "}",
    "unknown fields": fill(lambda i: f"verson{i}"),
    "unknown types": fill(lambda i: f"... on PupilConectoin{i} {{ version }}"),
    "unknown input fields": "{ pupils(where: {and: [" + " ".join(f"{{nam{i}: 1}}" for i in range(380)) + "]}) { nodes { id } } }",
    "skipped a thousand times": "{ version " + "@skip(if: true) " * 280 + "}",
    "unknown directives": "{ version " + "@skp " * 900 + "}",
    "fragments spread together": spread_together(160, lambda i: "pupils { nodes { id } }" if i < 90 else "version"),
    "fragments in a chain": "{...F0}" + "".join(f"fragment F{i} on Query {{ version ...F{i + 1} }}" for i in range(200)),
    "fragments that spread all later ones": spread_together(
        38, lambda i: "version " + " ".join(f"...F{k}" for k in range(i + 1, 38))
    ),
    "fragments that spread all": spread_together(28, lambda i: "version " + " ".join(f"...F{k}" for k in range(28))),
    "fragments that double": doubling(150, "% %", "version"),
    "fragments in pairs that meet again": doubling(60, "pupils { nodes { school { % } school { % } } }", "version"),
    "operations that share fragments": " ".join(f"query Q{i} {{ ...F0 }}" for i in range(150))
    + "".join(f" fragment F{i} on Query {{ ...F{i + 1} }}" for i in range(100))
    + " fragment F100 on Query { version }",
    "variables never used": "query (" + " ".join(f"$v{i}: Int" for i in range(490)) + ") { version }",
    "a long list": "{ pupils(where: {year: [" + "1 " * 1_900 + "]}) { nodes { id } } }",
    "a long number": "{ pupils(first: " + "9" * 90_000 + ") { nodes { id } } }",
    "a long string, deep and wrong": "{ pupils(where: "
    + "{and: [" * 25
    + '"'
    + "x" * 90_000
    + '"'
    + "]}" * 25
    + ") { nodes { id } } }",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE.keys())
def test_validation_is_bounded_for_whatever_the_tokens_allow(source: str) -> None:
    """Even without check_shape before it. By graphql-core's own budget, some of these make three million calls."""
    document = parse_document(source, LIMITS)
    found: list[object] = []

    def run() -> None:
        with suppress(LimitExceeded):
            found.extend(validate(SCHEMA, document, suggestions=False))

    assert calls(run) < 1_000_000
    assert len(found) <= MAX_ERRORS + 1


@pytest.mark.parametrize("name", ["one leaf repeated", "one object repeated", "pairs of pairs", "fragments spread together"])
def test_a_document_that_compares_too_much_is_refused_and_named(name: str) -> None:
    document = parse_document(HOSTILE[name], LIMITS)
    assert refused(lambda: validate(SCHEMA, document, suggestions=False))[0] == "graphql-too-complex"


@pytest.mark.parametrize("name", ["skipped a thousand times", "unknown directives", "unknown fields"])
def test_errors_stop_at_a_number(name: str) -> None:
    errors = validate(SCHEMA, parse_document(HOSTILE[name], LIMITS), suggestions=False)
    assert len(errors) == MAX_ERRORS + 1
    assert errors[-1].message.startswith("Too many validation errors")


def test_suggestions_are_given_only_where_asked_for() -> None:
    document = parse_document("{ verson }", LIMITS)
    assert "Did you mean 'version'?" in validate(SCHEMA, document, suggestions=True)[0].message
    assert "Did you mean" not in validate(SCHEMA, document, suggestions=False)[0].message
