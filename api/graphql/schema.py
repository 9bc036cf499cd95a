"""The GraphQL schema: its queries and mutations, their resolvers, and its text.

The rows of an operation are read before execution begins (operation.py), so fields of rows have no resolvers. Mutations and function fields have.
"""

import functools
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import strawberry
from graphql import GraphQLError, GraphQLSchema, print_schema
from strawberry.schema.config import StrawberryConfig
from strawberry.types import ExecutionContext, ExecutionResult, Info
from strawberry.types.field import StrawberryField
from strawberry.types.graphql import OperationType

from api.graphql import plans
from api.graphql.context import FUNCTIONS, OperationContext, perform_command
from api.graphql.document import LIMITS
from api.graphql.errors import describe_error
from api.graphql.executor import Executor
from api.graphql.operation import OperationExtension, OperationState
from api.graphql.types import (
    NAMES,
    SCALARS,
    Edge,
    UncountedConnection,
    make_argument,
    make_enum,
    make_field,
    make_input_type,
    make_output_type,
    make_page_arguments,
    make_type,
)
from domain import COMMANDS, RESOURCES
from domain.aggregates import transition_query
from domain.aggregates.aggregate_rows import (
    AggregateBasis,
    AggregateEdition,
    AggregateRow,
    Coverage,
    ExcludedSchool,
    UnpublishedWindow,
)
from domain.aggregates.dimensions import DIMENSIONS, FILTERS
from domain.aggregates.explanation_rows import AggregateExplanation
from domain.aggregates.query import AS_OF, CHANGE_FROM, CROSSWALKS_ON, FILTER, GAP, GROUP_BY, INCLUDED, POOL, VIEWS, WINDOWS
from domain.aggregates.readiness import TrustReadiness
from domain.aggregates.transition_rows import TransitionPage
from domain.clients.me import Me
from domain.jobs.job import Job
from domain.publishing.read_preview import PublicationPreview
from domain.support.slices import run_in_slices
from domain.write.command import Command
from domain.write.stored_answers import KeptAnswer

# Strawberry logs the messages of errors, which may hold names and UPNs. Unforeseen errors are logged by problems.py.
logging.getLogger("strawberry").addHandler(logging.NullHandler())
logging.getLogger("strawberry").propagate = False

AGGREGATE_DIMENSION = make_enum("AggregateDimension", list(DIMENSIONS), "What aggregates can be grouped by.")
AGGREGATE_VIEW = make_enum(
    "AggregateView",
    list(VIEWS),
    "own: as the caller is entitled to. public: as a reader with aggregates:read sees it, with reasons; needs aggregates:internal.",
)


class FunctionField(StrawberryField):
    """A root field that a function of the domain resolves. Its result is encoded JSON, so that the executor need not visit each value."""

    is_async = True
    is_basic_field = False

    async def get_result(self, source: OperationState, info: Info, args: list[Any], kwargs: dict[str, Any]) -> Any:  # type: ignore[override]
        answer = await FUNCTIONS[self.graphql_name or ""](info.context, kwargs)
        return await _write_selected(source, info, answer)


class AggregatesField(FunctionField):
    """The field of aggregates, which include what is selected of their rows."""

    async def get_result(self, source: OperationState, info: Info, args: list[Any], kwargs: dict[str, Any]) -> Any:  # type: ignore[override]
        raw = info._raw_info
        type_ = source.reader.find_type(raw.parent_type, raw.field_nodes[0])
        below = [node.selection_set for node in raw.field_nodes if node.selection_set is not None]
        selected = {name for path in (("nodes",), ("edges", "node")) for name in source.reader.list_names(type_, below, *path)}
        included = [name for name in INCLUDED if name in selected]
        return await super().get_result(source, info, args, kwargs | ({"include": included} if included else {}))


class CommandField(StrawberryField):
    """A mutation: a root field that a command resolves."""

    is_async = True
    is_basic_field = False
    command: Command

    async def get_result(self, source: OperationState, info: Info, args: list[Any], kwargs: dict[str, Any]) -> Any:  # type: ignore[override]
        source.reader.count_entries(kwargs["input"])
        performed = await perform_command(info.context, self.command, kwargs)
        written = await _write_selected(source, info, msgspec.json.decode(performed.answer))
        source.replayed += performed.replayed
        return written


async def _write_selected(state: OperationState, info: Info, answer: Any) -> msgspec.Raw | None:
    """The selected members of a plain value, as JSON."""
    if answer is None:
        return None
    raw = info._raw_info
    below = [node.selection_set for node in raw.field_nodes if node.selection_set is not None]
    selected = await run_in_slices(state.reader.project(answer, state.reader.find_type(raw.parent_type, raw.field_nodes[0]), below))
    return msgspec.Raw(msgspec.json.encode(selected))


def _make_mutation(command: Command) -> CommandField:
    arguments = [make_argument("input", make_input_type(command.input, *command.row_keys))]
    if command.entries is not None:
        handling = "strict (all or nothing, the default) or lenient (good rows land, bad rows are listed)."
        arguments.append(make_argument("handling", "String | None", handling, default="strict"))
        returned = "minimal or representation (what became of each row)."
        arguments.append(make_argument("return", "String | None", returned, default="minimal"))
    arguments.append(make_argument("dryRun", "Boolean | None", "Do everything, then undo it.", default=False))
    key = "The same key and input within 7 days give the first answer."
    arguments.append(make_argument("idempotencyKey", "String | None", key))
    description = f"{command.doc} Needs {command.scope}."
    field = make_field(CommandField, command.operation, f"{make_output_type(command.output)} | None", description, arguments)
    field.command = command
    return field


def _make_aggregates() -> FunctionField:
    row = NAMES[make_output_type(AggregateRow)]
    edge, connection = cast(Any, Edge)[row], cast(Any, UncountedConnection)[row]
    make_type("AggregateEdge", {}, "A row and its cursor.", edge)
    excluded = f"list[{make_output_type(ExcludedSchool)}]"
    fields = {
        "edges": make_field(StrawberryField, "edges", "list[AggregateEdge]", "The rows with their cursors."),
        "excluded": make_field(StrawberryField, "excluded", excluded, "The schools asked about that contribute to no row."),
        "coverage": make_field(StrawberryField, "coverage", make_output_type(Coverage), "How many schools contribute."),
        "basis": make_field(StrawberryField, "basis", make_output_type(AggregateBasis), "What the figures rest on."),
        "editions": make_field(
            StrawberryField, "editions", f"list[{make_output_type(AggregateEdition)}]", "The editions that the rows are of."
        ),
        "unpublished": make_field(
            StrawberryField,
            "unpublished",
            f"list[{make_output_type(UnpublishedWindow)}]",
            "Windows left out, which have no edition.",
        ),
    }
    make_type("AggregateConnection", fields, "A page (Relay cursor connections).", connection)
    arguments = [
        make_argument("groupBy", "list[AggregateDimension]", GROUP_BY),
        make_argument("window", "String | None", "A window by code or id; needed unless grouped by."),
        make_argument("windows", "list[String] | None", WINDOWS),
        make_argument("pool", "String | None", POOL),
        make_argument("subject", "String | None", "A subject by code; needed unless grouped by."),
        make_argument("trust", "ID | None", "A trust by id or GIAS group UID: its members on the window's census date."),
        make_argument("school", "list[ID] | None", "Schools by id, URN or LAESTAB."),
        *(make_argument(name, "list[String] | None", FILTER) for name in FILTERS),
        make_argument("gap", "String | None", GAP),
        make_argument("changeFrom", "String | None", CHANGE_FROM),
        make_argument("view", "AggregateView | None", "As whom to see them.", default=AGGREGATE_VIEW(VIEWS[0])),
        make_argument("crosswalksOn", "Date | None", CROSSWALKS_ON),
        make_argument("asOf", "Date | None", AS_OF),
        make_argument("first", "Int | None", default=100),
        make_argument("after", "String | None"),
    ]
    description = "Results pooled over pupils. Needs aggregates:read, which hides small groups, or aggregates:internal."
    return make_field(AggregatesField, "aggregates", "AggregateConnection", description, arguments)


def _make_transitions() -> FunctionField:
    arguments = [
        make_argument("from", "String", "The earlier window by code or id."),
        make_argument("to", "String", "The later window by code or id."),
        make_argument("subject", "String", "A subject by code, of one that is judged."),
        make_argument("aspect", "String | None", "An aspect by code.", default="main"),
        make_argument(
            "trust", "ID | None", "A trust by id or GIAS group UID; needed where several within reach have such windows."
        ),
        make_argument("school", "list[ID] | None", "Schools by id, URN or LAESTAB."),
        make_argument("groupBy", "String | None", "school; without it, all schools are pooled."),
        make_argument("change", "String | None", transition_query.CHANGE),
        make_argument("crosswalksOn", "Date | None", transition_query.CROSSWALKS_ON),
        make_argument("asOf", "Date | None", transition_query.AS_OF),
        make_argument("first", "Int | None", default=100),
        make_argument("after", "String | None"),
    ]
    description = "How pupils moved between two windows. Needs aggregates:internal."
    return make_field(FunctionField, "transitions", make_output_type(TransitionPage), description, arguments)


def _make_explanation() -> FunctionField:
    picks = [make_argument(name, "String | None", f"Only pupils whose {name} is this.") for name in FILTERS]
    arguments = [
        make_argument("window", "String", "The window by code or id."),
        make_argument("subject", "String", "The subject by code."),
        make_argument("trust", "ID | None", "A trust by id or GIAS group UID: its members on the window's census date."),
        make_argument("school", "list[ID] | None", "Schools by id, URN or LAESTAB."),
        *picks,
        make_argument("crosswalksOn", "Date | None", CROSSWALKS_ON),
        make_argument("first", "Int | None", default=100),
        make_argument("after", "String | None"),
    ]
    description = "Which schools, schemes, crosswalks and pupils one figure came from. Needs aggregates:internal."
    return make_field(FunctionField, "aggregateExplanation", make_output_type(AggregateExplanation), description, arguments)


def _make_query() -> type:
    by_id = [make_argument("id", "ID")]
    query: dict[str, StrawberryField] = {
        "node": make_field(StrawberryField, "node", "Node | None", "Anything by its id, or null.", by_id)
    }
    for name, resource in RESOURCES.items():
        if resource.has_id:
            description = f"{resource.doc} Null where it is not within reach."
            query[name] = make_field(StrawberryField, name, f"{resource.type_name} | None", description, by_id)
        page = f"Connection[{resource.type_name}]"
        query[resource.plural] = make_field(StrawberryField, resource.plural, page, resource.doc, make_page_arguments(resource))
    query["aggregates"] = _make_aggregates()
    description = "What stops each school of a trust from being aggregated, and who can mend it. Needs aggregates:internal."
    trust = [make_argument("trust", "ID", "The trust's id; of a school that has none, its own.")]
    query["readiness"] = make_field(FunctionField, "readiness", f"{make_output_type(TrustReadiness)} | None", description, trust)
    description = "What an edition of a window would hide and why; null where no preview was asked for. Needs aggregates:internal."
    window = [make_argument("window", "ID", "The window's id.")]
    preview_type = f"{make_output_type(PublicationPreview)} | None"
    query["publicationPreview"] = make_field(FunctionField, "publicationPreview", preview_type, description, window)
    query["transitions"] = _make_transitions()
    query["aggregateExplanation"] = _make_explanation()
    description = "What became of a request whose answer was lost; null where no request with the key ended well within 7 days."
    key = [make_argument("key", "String", "The idempotencyKey of the request.")]
    query["receipt"] = make_field(FunctionField, "receipt", f"list[{make_output_type(KeptAnswer)}] | None", description, key)
    issues = [make_argument("first", "Int | None", "How many issues and warnings."), make_argument("after", "String | None")]
    description = "What became of a stream of rows, of the client's own; null for any other."
    query["job"] = make_field(FunctionField, "job", f"{make_output_type(Job)} | None", description, [*by_id, *issues])
    query["me"] = make_field(FunctionField, "me", make_output_type(Me), "What this client may do, and where. Needs no scope.")
    return make_type("Query", query, "Everything that can be read.")


@dataclass
class MutationResult(ExecutionResult):
    """The result of a mutation: how many commands it had, and how many of them have the stored answer of an earlier request."""

    commands: int = 0
    replayed: int = 0


class Schema(strawberry.Schema):
    """Answers an operation by its plan where it has one, and describes errors, for every transport."""

    async def execute(
        self,
        query: str | None,
        variable_values: dict[str, Any] | None = None,
        context_value: Any = None,
        root_value: Any = None,
        operation_name: str | None = None,
        allowed_operation_types: Iterable[OperationType] | None = None,
        operation_extensions: dict[str, Any] | None = None,
    ) -> ExecutionResult:
        """The result of an operation. `context_value` is its OperationContext."""
        context: OperationContext = context_value
        source = query or " "  # Strawberry raises for none; the parser says what is wrong with it
        if len(source.encode()) > LIMITS.bytes:
            message = f"A document has at most {LIMITS.bytes:,} bytes."
            return ExecutionResult(None, [GraphQLError(message, extensions={"code": "graphql-too-long"})])
        state = OperationState()
        execute = functools.partial(
            super().execute, source, variable_values, context, state, operation_name, allowed_operation_types, operation_extensions
        )
        try:
            result = await plans.answer_by_plan(self._schema, context, source, operation_name, variable_values or {}, execute)
        except Exception as error:  # every error becomes an error of the response
            return ExecutionResult(None, [describe_error(error, context.base_url)])
        if result is not None:
            return result
        context.groups.clear()
        result = await execute()
        if not result.errors:
            context.count_reads()
        return (
            MutationResult(result.data, result.errors, result.extensions, state.commands, state.replayed)
            if state.commands
            else result
        )

    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        """Describes the errors of a result. Strawberry's method would log their messages, which may hold names and UPNs."""
        assert execution_context is not None
        errors[:] = [describe_error(error, execution_context.context.base_url) for error in errors]


@functools.cache
def make_schema() -> Schema:
    """The schema, made once."""
    mutation = {command.operation: _make_mutation(command) for command in COMMANDS.values()}
    return Schema(
        query=_make_query(),
        mutation=make_type("Mutation", mutation, "Everything that can be written."),
        types=[NAMES[resource.type_name] for resource in RESOURCES.values()],
        extensions=[OperationExtension],
        execution_context_class=Executor,
        config=StrawberryConfig(auto_camel_case=False, scalar_map=SCALARS),
    )


def graphql_schema() -> GraphQLSchema:
    """The schema of graphql-core."""
    return make_schema()._schema


def schema_text() -> str:
    """The text of schema.graphql (SDL)."""
    return print_schema(graphql_schema()) + "\n"
