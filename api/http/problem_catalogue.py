"""The catalogue of error codes: for each code what it means, what the client should do, and an example as the API writes it.

The data are in problem_codes.toml. The pages /problems and /problems/{code} and the OpenAPI document are made of them.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct

from domain.declare.errors import ERROR_CODES, Current, Issue

MIN_ERROR_STATUS = 400


class Example(Struct, frozen=True, forbid_unknown_fields=True, rename={"violated_policies": "violated-policies"}):
    """What the API writes with a code. The head of problem_codes.toml explains the members."""

    detail: str | None = None
    problem: str | None = None
    type: str | None = None
    violated_policies: list[str] | None = None
    at: str | None = None
    code: str | None = None
    message: str = ""
    current: Current | None = None
    graphql: str | None = None
    error_description: str | None = None
    file: str | None = None
    line: int | None = None
    column: str | None = None
    severity: str = "error"


class ProblemCode(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An error code, and what a client needs to know of it."""

    code: str
    title: str
    statuses: tuple[int, ...]
    """Of the problems that the code comes as or in; 200 for the issues of a lenient batch or of an import report."""
    meaning: str
    action: str
    example: Example

    def make_example(self, base_url: str) -> dict[str, Any]:
        """An object as the API at `base_url` sends it.

        It is a problem (RFC 9457) wherever the code comes in one. Otherwise it is a GraphQL error, an error of the token endpoint
        (RFC 6749), an issue of an import report, or an issue of a lenient batch.
        """
        example = self.example
        if example.error_description is not None:
            return {"error": self.code, "error_description": example.error_description}
        if example.graphql is not None:
            problem = {"type": f"{base_url}/problems/{self.code}", "title": self.title, "status": 400, "detail": example.graphql}
            return {"message": example.graphql, "extensions": {"code": self.code, "problem": problem}}
        if example.column is not None:
            place = {"file": example.file, "line": example.line, "column": example.column}
            return {**place, "code": self.code, "message": example.message, "severity": example.severity}
        issue = None if example.at is None else Issue(example.at, example.code or self.code, example.message, example.current)
        if example.problem is not None:
            return PROBLEM_CODES[example.problem]._make_problem(base_url, issue)
        if example.detail is not None:
            return self._make_problem(base_url, issue)
        return dict(msgspec.to_builtins(issue))

    def _make_problem(self, base_url: str, issue: Issue | None) -> dict[str, Any]:
        """The problem whose type is this code, with this issue."""
        example = self.example
        problem: dict[str, Any] = {
            "type": example.type or f"{base_url}/problems/{self.code}",
            "title": self.title,
            "status": next(status for status in self.statuses if status >= MIN_ERROR_STATUS),
            "detail": example.detail,
        }
        if example.violated_policies is not None:
            problem["violated-policies"] = example.violated_policies
        return problem if issue is None else problem | {"issues": [msgspec.to_builtins(issue)]}

    def describe(self, base_url: str) -> dict[str, Any]:
        """The code as GET /problems/{code} answers it in JSON."""
        return {**msgspec.to_builtins(self), "example": self.make_example(base_url)}


def _load() -> Mapping[str, ProblemCode]:
    tables = tomllib.loads(Path(__file__).with_name("problem_codes.toml").read_text("utf-8"))
    codes = {code: msgspec.convert({"code": code, **table}, ProblemCode) for code, table in sorted(tables.items())}
    return MappingProxyType(codes)


PROBLEM_CODES: Mapping[str, ProblemCode] = _load()
"""Every code that the API answers with, in alphabetical order."""
ERROR_CODES.update(PROBLEM_CODES)
