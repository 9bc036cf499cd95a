"""A large body is read in pieces as it would be read whole, and says where its faults are."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http import long_json
from api.http.body import ValueCount
from api.http.strict_json import MAX_DEPTH, MalformedJson, Value
from domain.support.slices import run_at_once
from tests.api.http.test_strict_json import FRAGMENTS, VALUES, acceptable, damaged


def read(body: bytes) -> Value:
    """In pieces of a few bytes, so that every body has several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_json, "MIN_PIECE", 8)
        patch.setattr(long_json, "WINDOW", 5)
        patch.setattr(long_json, "STRIDE", 1)
        return run_at_once(long_json.parse_in_steps(body))


def faults(body: bytes) -> list[tuple[str, str]]:
    with pytest.raises(MalformedJson) as refused:
        read(body)
    return [(pointer, code) for pointer, code, _ in refused.value.issues]


BATCHES = st.lists(VALUES, max_size=5).map(lambda rows: json.dumps({"a": 1, "in": {"entries": rows, "z": [rows]}}).encode())


@settings(deadline=None)
@given(body=FRAGMENTS | BATCHES | damaged() | damaged().map(lambda inside: b'{"entries": [{"a": 1}, ' + inside + b"]}"))
def test_pieces_are_read_as_the_whole_would_be(body: bytes) -> None:
    if acceptable(body):
        # a number that a float would round is a Decimal, whose digits tests/api/http/test_strict_json.py compares
        assert json.dumps(read(body), default=float) == json.dumps(json.loads(body))
        return
    with pytest.raises(MalformedJson) as refused:
        read(body)
    assert refused.value.issues
    assert all((pointer + message).encode() for pointer, _, message in refused.value.issues)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"entries":[{"a":1},{"a":2},{"a":3,"a":3}]}', [("/entries/2/a", "json-duplicate-key")]),
        (b'{"a":{"b":[{"c":0},{"c":1},{"c":NaN},{"c":NaN},{"c":NaN}]}}', [("/a/b/2/c", "json-not-a-number")]),
        (b'[{"c":0},{"c":1},{"c":1e999}]', [("/2/c", "json-number-range")]),
        (b'{"entries":[{"a":1}],"entries":[]}', [("/entries", "json-duplicate-key")]),
        (b'{"entries":[{"a":"\\u0000"},{"a":"\\ud800"}]}', [("/entries/0/a", "json-nul")]),
        (b'{"entries":[{"a":"12345678"},{"a":"\xff"}]}', [("/entries/1/a", "json-encoding")]),
        (b'{"entries":[{"a":"12345678"},]}', [("/entries/1", "json-malformed")]),
        (b'{"entries":[{"a":"12345678"} {"a":1}]}', [("/entries/0", "json-malformed")]),
        (b'{"entries":[{"a":"12345678"]}', [("", "json-malformed")]),
        (b'{"entries":[{"a":"12345678"}]', [("", "json-malformed")]),
        (b'{"entries":[{"a":"12345678}]}', [("", "json-malformed")]),
        (b'{"entries":[{"a":"12345678"}]}]', [("", "json-malformed")]),
        (b'{"entries":[' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"]}", [("", "json-too-deep")]),
        ('{"entries":[]}'.encode("utf-16"), [("", "json-encoding")]),
        (b'\xef\xbb\xbf{"entries":[]}', [("", "json-encoding")]),
    ],
)
def test_a_fault_is_refused_at_its_place(body: bytes, expected: list[tuple[str, str]]) -> None:
    assert faults(body) == expected


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ('{"é":[\n{"a":"12345678"},\n "é", {"a" 1}]}'.encode(), "Line 3, column 12"),
        (b'{"a":[{"b":12345678}],\n"c":[{"d":12345678}], x}', "Line 2, column 23"),
        (b'{"a":[\n{"b":12345678}', "Line 2, column 15"),
        (b'{"a":[\n{"b":"2345678}', "Line 2, column 6"),
    ],
)
def test_a_message_names_line_and_column_of_the_body(body: bytes, place: str) -> None:
    with pytest.raises(MalformedJson) as refused:
        read(body)
    assert refused.value.issues[0].message.startswith(f"{place}: ")


def test_what_is_not_in_rows_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_json, "MAX_ELEMENT", 100)
    for body in (
        b'{"entries":[{"a":1},' + b'{"a":"%b"}' % (b"x" * 200) + b"]}",
        b'{"entries":[' + b"1," * 200 + b"1]}",
        b'{"a":"%b","entries":[]}' % (b"x" * 200),
        b"{" + b",".join(b'"%d":[]' % n for n in range(100)) + b"}",
    ):
        assert faults(body) == [("", "json-too-large")]


def test_a_frame_is_looked_at_before_any_row_is_read() -> None:
    seen: list[Value] = []

    def check(frame: Value) -> None:
        seen.append(json.loads(json.dumps(frame)))
        raise KeyError("no further")

    with pytest.raises(KeyError):
        run_at_once(long_json.parse_in_steps(b'{"query":"x","variables":{"ids":[NaN, {}]}}', check))
    assert seen == [{"query": "x", "variables": {"ids": []}}]


# How many values there are


def values_in(value: object) -> int:
    """Each value once, and an empty container once more."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 1 if inside is None else 1 + (sum(map(values_in, inside)) or 1)


@settings(deadline=None)
@given(value=VALUES, ensure_ascii=st.booleans(), cuts=st.lists(st.integers(0, 500), max_size=6))
def test_values_are_counted_exactly_however_a_body_arrives(value: object, ensure_ascii: bool, cuts: list[int]) -> None:
    body = json.dumps(value, ensure_ascii=ensure_ascii).encode()
    at = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    for limit, is_over in ((values_in(value), False), (values_in(value) - 1, True)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("api.http.body.MAX_BODY_VALUES", limit)
            patch.setattr(ValueCount, "WINDOW", 3)
            count = ValueCount([])
            for start, end in pairwise(at):
                count.add(body[start:end])
                if count.most > limit:
                    run_at_once(count.recount())
            assert count.is_over == is_over
            assert is_over or b"".join(count.chunks) == body
