"""Reads the lines of NDJSON as rows of JSON, as strictly as any JSON (api/http/strict_json.py).

A line with a fault is a FaultyValue in place of its row, so that a lenient batch loses no other row.
"""

from api.http.command_body import parse_faulty
from api.http.strict_json import MalformedJson, find_faults, parse_valid
from api.rest.row_records import Record
from domain.declare.errors import FaultyValue
from domain.support.slices import run_at_once


def read_line(record: Record) -> object:
    """The value of a line, or its fault: where values alone are faulty, the value with a FaultyValue in place of each."""
    if record.fault is not None:
        return record.fault
    try:
        return parse_valid(record.text)
    except (ValueError, RecursionError):
        pass
    text = record.text.decode(errors="surrogateescape")

    def locate(character: int) -> tuple[int, int]:
        return record.line, len(text[:character]) + 1

    issues = run_at_once(find_faults(record.text, (), locate))
    try:
        return parse_faulty(MalformedJson(issues, record.text))
    except MalformedJson:
        issue = issues[0]
        where = "" if issue.message.startswith("Line ") else f"Line {record.line}: "
        return FaultyValue(issue.code, where + issue.message)
