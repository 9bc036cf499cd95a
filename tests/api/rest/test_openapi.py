"""The OpenAPI document says what there is, no more and no less, and its examples are what it allows. That the committed file is this document is a
golden; that the server keeps to it, test_schemathesis.py asks."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.graphql.limits import DocumentLimits
from api.rest.openapi.document import make_document
from api.rest.urls import make_routes, url_of
from domain import COMMANDS, RESOURCES
from domain.declare.ranges import Comparison
from domain.declare.resource import Filter
from domain.declare.scopes import Scope

BASE = "https://markonce.example"
DOCUMENT = json.loads(json.dumps(make_document(BASE)))
SCHEMAS = DOCUMENT["components"]["schemas"]
EXPLANATIONS = {("/problems", "get"), ("/problems/{code}", "get")}
"""They need no token and no database."""
WITHOUT_TOKEN = {("/v1/calendars/{secret}", "get")}
"""Calendar programs send none."""
ELSEWHERE = {("/oauth/token", "post"), ("/graphql", "post"), *EXPLANATIONS}
OPERATIONS = {(path, method): operation for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()}


def faults(value: Any, schema: dict[str, Any]) -> list[str]:
    """What is wrong with a value by a schema of the document."""
    validator = Draft202012Validator(
        {**schema, "components": DOCUMENT["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def parameters(operation: dict[str, Any], place: str) -> dict[str, dict[str, Any]]:
    named = [
        DOCUMENT["components"]["parameters"][p["$ref"].rsplit("/", 1)[1]] if "$ref" in p else p for p in operation["parameters"]
    ]
    return {parameter["name"]: parameter for parameter in named if parameter["in"] == place}


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def test_it_is_valid_openapi_31() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_route_is_described_and_nothing_else() -> None:
    served = {
        (route.path.replace(":path", ""), method.lower())
        for route in make_routes()
        for method in (route.methods or ())
        if method != "HEAD"
    }
    assert set(OPERATIONS) == served | ELSEWHERE


def test_every_schema_is_used_and_no_name_means_two_things() -> None:
    used = {node["$ref"] for node in walk(DOCUMENT) if isinstance(node.get("$ref"), str)}
    assert {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "responses", "parameters", "headers")
        for name in DOCUMENT["components"][kind]
    } == used
    structs = {
        struct.__name__ for command in COMMANDS.values() for struct in (command.input, command.output, command.entries) if struct
    }
    assert not structs & {name for resource in RESOURCES.values() for name in (resource.type_name, f"{resource.type_name}Page")}


@pytest.mark.parametrize("name", [name for name, schema in SCHEMAS.items() if "examples" in schema])
def test_the_example_of_a_schema_is_valid(name: str) -> None:
    assert [fault for example in SCHEMAS[name]["examples"] for fault in faults(example, SCHEMAS[name])] == []


@pytest.mark.parametrize("name", [name for name in DOCUMENT["components"]["responses"] if name.startswith("Problem")])
def test_the_example_of_a_problem_is_valid(name: str) -> None:
    (media_type,) = DOCUMENT["components"]["responses"][name]["content"].values()
    assert faults(media_type["example"], media_type["schema"]) == []
    assert media_type["example"]["status"] == int(name.removeprefix("Problem"))


def test_every_schema_has_its_bounds() -> None:
    """What the OWASP rules of `make conformance` ask for. That the bounds are the server's, test_schemathesis.py and test_bad_input.py see."""
    needed = {"string": {"maxLength"}, "integer": {"minimum", "maximum", "format"}, "array": {"maxItems"}}
    for node in walk(DOCUMENT):
        if not {"enum", "const"} & set(node):
            types = node.get("type")
            for type_ in types if isinstance(types, list) else [types] if isinstance(types, str) else ():
                assert needed.get(type_, set()) <= set(node), node
    assert SCHEMAS["GraphqlRequest"]["properties"]["query"]["maxLength"] == DocumentLimits().bytes


def test_only_what_may_always_be_sent_has_a_default() -> None:
    """Generated clients send defaults, or make a property with one required."""
    assert not any("default" in node and "type" in node for node in walk(SCHEMAS))
    assert not [
        name
        for name, parameter in parameters(OPERATIONS["/v1/pupils", "get"], "query").items()
        if "default" in parameter["schema"] and "." in name
    ]


def test_everything_sent_and_every_row_has_an_example() -> None:
    rest = list(COMMANDS.values())
    needed = {resource.type_name for resource in RESOURCES.values()} | {command.output.__name__ for command in rest}
    needed |= {
        node["requestBody"]["content"][kind]["schema"]["$ref"].rsplit("/", 1)[1]
        for node in walk(DOCUMENT)
        if "requestBody" in node
        for kind in node["requestBody"]["content"]
    }
    assert {name for name in needed if "examples" not in SCHEMAS[name]} == set()


def test_an_example_row_shows_every_field() -> None:
    for resource in RESOURCES.values():
        (example,) = SCHEMAS[resource.type_name].get("examples", [{}])
        assert list(example) == list(resource.fields), f"{resource.type_name} in api/rest/openapi/examples.json"


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)
def test_a_row_has_the_fields_and_links_declared(resource: Any) -> None:
    properties = SCHEMAS[resource.type_name]["properties"]
    assert list(properties) == [*resource.fields, *resource.links]
    for name, field in resource.fields.items():
        assert ("null" in properties[name]["type"]) == field.may_be_null, name
        assert properties[name].get("x-scope") == field.scope, name


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)
def test_a_list_takes_every_filter_that_may_be_in_a_url(resource: Any) -> None:
    query = parameters(OPERATIONS[f"/v1/{resource.path}", "get"], "query")
    options = {
        f"{name}.{option}"
        for name, link in resource.links.items()
        for option in ("first", "totalCount", *RESOURCES[link.target].list_arguments(link), *RESOURCES[link.target].choices)
    }
    allowed = {name: field for name, field in resource.fields.items() if field.filter is Filter.ANYWHERE}
    ranges = {f"{name}.{by}" for name, field in allowed.items() if field.comparable for by in Comparison}
    assert set(query) - options - {"fields", "include", "sort", "first", "after", "totalCount", "format", "bom"} == {
        *allowed,
        *ranges,
        *resource.choices,
        *resource.arguments,
    }


def test_what_identifies_a_pupil_is_filtered_in_a_body_only() -> None:
    identifying = {name for name, field in RESOURCES["pupil"].fields.items() if field.filter is Filter.BODY}
    assert identifying == {
        "upn",
        "formerUpns",
        "surname",
        "forename",
        "preferredSurname",
        "preferredForename",
        "dateOfBirth",
        "reference",
    }
    assert identifying <= set(SCHEMAS["PupilLookup"]["properties"]["where"]["properties"])
    assert not any(identifying & set(parameters(operation, "query")) for at, operation in OPERATIONS.items() if at not in ELSEWHERE)


def test_every_operation_needs_the_scope_of_what_it_shows_or_does() -> None:
    needed = {name.replace("_", "").lower(): {command.scope} for name, command in COMMANDS.items()}
    for resource in RESOURCES.values():
        names = [
            f"{verb}{noun}".lower()
            for verb, noun in (("list", resource.plural), ("get", resource.name), ("lookup", resource.plural))
        ]
        needed |= {name: {resource.scope} for name in names}
        linked = {name: RESOURCES[link.target] for name, link in resource.links.items() if link.many}
        needed |= {f"list{name}of{resource.name}".lower(): {target.scope} for name, target in linked.items()}
    needed["getreadiness"] = needed["getpublicationpreview"] = needed["listtransitions"] = needed["explainaggregate"] = {
        Scope.AGGREGATES_INTERNAL
    }
    needed["gettrustcalendar"] = needed["getschoolcalendar"] = {Scope.WINDOWS_READ}
    needed["gettrustcollectionsummary"] = needed["getschoolcollectionsummary"] = {Scope.COLLECTIONS_READ}
    needed["getlinkedcalendar"] = set()  # the secret is in the URL
    needed["getme"] = needed["getjob"] = set()
    needed["importgias"] = {Scope.IMPORTS_WRITE}
    needed["getkeptanswers"] = needed["getidempotencykey"] = set()
    needed["listaggregates"] = {Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL}
    for at, operation in OPERATIONS.items():
        if at not in ELSEWHERE:
            assert {scope for way in operation["security"] for scope in way["oauth2"]} == needed[
                operation["operationId"].lower()
            ], at
    told = DOCUMENT["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]
    assert set(told["scopes"]) == set(Scope)
    assert told["tokenUrl"] == f"{BASE}/oauth/token"


def test_every_error_is_a_problem() -> None:
    for at, operation in OPERATIONS.items():
        errors = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
        always = {"400", "500"} if at in WITHOUT_TOKEN else {"400", "401", "500"}
        assert at in EXPLANATIONS or always <= set(errors)
        assert at in EXPLANATIONS or ("401" in errors) == (at not in WITHOUT_TOKEN)
        if at not in ELSEWHERE:
            assert all(
                answer["$ref"].removeprefix("#/components/responses/").removeprefix("Deprecated") == f"Problem{status}"
                for status, answer in errors.items()
            ), at


def test_samples_made_from_the_document_are_not_conditional() -> None:
    """A sample with an example's If-None-Match or If-Match of a GET would be sent as it is."""
    schema = make_document("http://x")["components"]["parameters"]["IfNoneMatch"]["schema"]
    assert not {"example", "examples", "default"} & {*schema}


def test_a_command_that_is_named_as_no_resource_is_refused_in_a_sentence() -> None:
    stray = replace(COMMANDS["record_groups"], name="record_house_lists")
    with pytest.raises(ValueError, match="record_house_lists is named as no resource"):
        url_of(stray)
