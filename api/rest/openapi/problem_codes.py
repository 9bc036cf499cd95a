"""What the OpenAPI document says of error codes: GET /problems and GET /problems/{code}, and the schema ProblemCode, the one list of codes."""

from typing import Any

from api.http.problem_catalogue import PROBLEM_CODES
from api.http.problems import ProblemUnknown, find_title, make_problem

MAX_CODE, MAX_PAGE = 100, 2**20
"""Characters of a code, and of an HTML page."""
HEADERS = {
    name: {"$ref": f"#/components/headers/{name}"}
    for name in ("X-Request-Id", "RateLimit", "RateLimit-Policy", "Access-Control-Allow-Origin")
}
TAG = {"name": "Errors", "description": "What the codes of problems and issues mean."}
CODE: dict[str, Any] = {
    "anyOf": [{"$ref": "#/components/schemas/ProblemCode"}, {"type": "string", "maxLength": MAX_CODE}],
    "description": "One of ProblemCode; codes may be added. GET /problems/{code} explains it.",
}
"""A code wherever one is sent. Codes may be added (openapi/CHANGES.md), so a client must take one that it does not know."""
TYPE_PATTERN = "(/problems/|/http-problem-types#)[a-z][a-z0-9_-]*$"
"""Of a problem's type: a URL of the installation, or of the registry of IANA, that ends in the code."""


def list_problem_schemas() -> dict[str, dict[str, Any]]:
    """The schemas of this module, by name."""
    text = {"type": "string"}
    properties = {
        "code": CODE,
        "title": text | {"description": "The code in a few words."},
        "statuses": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "The statuses of the problems that the code comes as or in; 200 where it also comes in the issues of a lenient batch or of "
            "an import report. GraphQL in application/json always has the status 200.",
        },
        "meaning": text | {"description": "What is wrong."},
        "action": text | {"description": "What the client should do."},
        "example": {
            "type": "object",
            "description": "A problem as the API sends it. For a code that comes in no problem: a GraphQL error, an error of the token endpoint, or an issue.",
        },
    }
    return {
        "ProblemCode": {"type": "string", "enum": list(PROBLEM_CODES), "description": "Every error code of this version."},
        "ProblemDescription": {"type": "object", "properties": properties, "required": list(properties)},
        "ProblemDescriptions": {
            "type": "object",
            "properties": {"data": {"type": "array", "items": {"$ref": "#/components/schemas/ProblemDescription"}}},
            "required": ["data"],
        },
    }


def describe_problem_paths(base_url: str) -> dict[str, dict[str, Any]]:
    """The operations, which need no token."""
    code = {"name": "code", "in": "path", "required": True, "schema": CODE, "description": "An error code."}
    unknown = ProblemUnknown()
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": make_problem(unknown, base_url)}
    missing = {"description": f"{find_title(unknown)}.", "headers": HEADERS, "content": {"application/problem+json": problem}}
    malformed = {"$ref": "#/components/responses/Problem400"}
    return {
        "/problems": {
            "get": _describe("listProblems", "List the error codes", "ProblemDescriptions", "Every code.", [], {"400": malformed})
        },
        "/problems/{code}": {
            "get": _describe(
                "getProblem",
                "Explain one error code",
                "ProblemDescription",
                "The code.",
                [code],
                {"400": malformed, "404": missing},
            )
        },
    }


def _describe(
    name: str,
    summary: str,
    schema: str,
    doc: str,
    parameters: list[dict[str, Any]] | None = None,
    errors: dict[str, Any] | None = None,
) -> dict[str, Any]:
    content = {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}},
        "text/html": {"schema": {"type": "string", "maxLength": MAX_PAGE}},
    }
    return {
        "operationId": name,
        "summary": summary,
        "description": "JSON, or a page where Accept prefers text/html. It needs no token, and may be cached for an hour.",
        "tags": [TAG["name"]],
        "security": [],
        "parameters": parameters or [],
        "responses": {"200": {"description": doc, "headers": HEADERS, "content": content}, **(errors or {})},
    }
