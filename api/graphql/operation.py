"""OperationExtension: finds an operation's document, checks the limits and reads its rows by one statement.

Where an operation selects only rows, the statement's JSON is the result and nothing is executed. Otherwise the executor takes the rows from the
OperationState and executes the other root fields.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
from graphql import (
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
)
from graphql.execution.values import VariableValues
from msgspec.structs import replace
from strawberry.extensions import SchemaExtension
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError

from api.graphql.context import FUNCTIONS
from api.graphql.document import Document, Operation, read_document
from api.graphql.errors import describe_error
from api.graphql.limits import check_entries, check_values, has_more_values, pick_declared
from api.graphql.query import Reader
from api.graphql.variables import coerce_variables
from domain import RESOURCES
from domain.declare.errors import BadRequest, Issue, NotFound, PartlyRead
from domain.declare.resource import Resource
from domain.read.checks import FUNCTION_VALUES, check_cost, check_scopes
from domain.read.known_codes import iterate_pages
from domain.read.natural_keys import find_row_id
from domain.read.partly_read import add_unknown_codes
from domain.read.prepared import read_result
from domain.read.query import Query
from domain.roster.merged_pupils import list_pupil_ids, refuse_merged
from domain.support.slices import run_in_thread

INTROSPECTION = frozenset(("__schema", "__type"))
MANY_VALUES = 5_000
"""Values of variables above which they are coerced in a thread."""
_EMPTY = DocumentNode(
    definitions=(OperationDefinitionNode(operation=OperationType.QUERY, selection_set=SelectionSetNode(selections=())),)
)
"""The document of an operation whose response has only errors."""


@dataclass
class OperationState:
    """The state of one operation: Strawberry's root value."""

    document: Document = field(init=False)
    operation: Operation = field(init=False)
    variables: VariableValues = field(init=False)
    reader: Reader = field(init=False)
    ready: dict[str, msgspec.Raw] = field(default_factory=dict)
    """The JSON of the root fields that were read before execution, by response name."""
    commands: int = 0
    replayed: int = 0


class OperationExtension(SchemaExtension):
    """Finds the document, checks its limits and reads its rows. Strawberry makes one instance for each operation."""

    _values: int | None = None

    @property
    def _state(self) -> OperationState:
        return cast(OperationState, self.execution_context.root_value)

    def on_parse(self) -> Iterator[None]:
        """Never raises: a WebSocket client would get "complete". on_validate sets the errors."""
        context = self.execution_context
        if context.root_value is None:  # in a streamed operation
            context.root_value = OperationState()
        state = self._state
        name, context._provided_operation_name = context._provided_operation_name, None  # the document below has one operation
        state.document = read_document(context.schema._schema, context.query or "", context.context.introspection)
        operation = state.document.find_operation(name)
        self._errors = list(state.document.errors)
        if not self._errors and operation is None:
            self._errors = [GraphQLError("Name one of the document's operations in operationName.")]
        elif operation is not None and operation.definition.operation is OperationType.SUBSCRIPTION:
            self._errors = [GraphQLError("There are no subscriptions here.")]
        if operation is not None and not self._errors:
            state.operation = operation
            context.graphql_document = operation.executable
        else:
            context.graphql_document = _EMPTY
        yield

    def on_validate(self) -> Iterator[None]:
        """Sets the errors. The document was validated when it was parsed."""
        self.execution_context.pre_execution_errors = self._errors
        yield

    async def on_execute(self) -> AsyncIterator[None]:
        """Coerces the variables and reads the rows. The response to a query in which anything fails has only the first error."""
        context = self.execution_context
        state = self._state
        if await self._coerce(state):
            if state.operation.is_query:
                await self._read(state)
            else:
                root_type = context.schema._schema.mutation_type
                assert root_type is not None
                collected = state.reader.collect([state.operation.definition.selection_set], root_type)
                state.commands = sum(nodes[0].name.value != "__typename" for nodes in collected.values())
        yield
        result = context.result
        if result is None or isinstance(result, PreExecutionError) or not state.operation.is_query:
            return
        if result.errors:
            del result.errors[1:]
            result.data = None

    def get_results(self) -> dict[str, Any]:
        return {} if self._values is None else {"values": self._values}

    async def _coerce(self, state: OperationState) -> bool:
        """Coerces the variables. Returns False and sets the result where they have errors.

        The errors have no suggestions: `strip_error` removes everything after "invalid value".
        """
        context = self.execution_context
        schema, definition = context.schema._schema, state.operation.definition
        variables = pick_declared(definition, context.variables or {})
        (check_values if state.operation.is_query else check_entries)(variables)
        arguments = schema, state.operation, variables
        if has_more_values(variables, MANY_VALUES):
            coerced = await run_in_thread(coerce_variables, *arguments)
        else:
            coerced = coerce_variables(*arguments)
        if isinstance(coerced, list):
            context.result = PreExecutionError(None, [describe_error(error, context.context.base_url) for error in coerced])
            return False
        state.variables = coerced
        state.reader = Reader(schema, state.document.fragments, coerced, context.context.caller, context.context.cursors)
        return True

    async def _read(self, state: OperationState) -> None:
        """Reads the root fields of rows, and sets the result where the operation has no others."""
        context, reader = self.execution_context.context, state.reader
        root_type = self.execution_context.schema._schema.query_type
        assert root_type is not None
        collected = reader.collect([state.operation.definition.selection_set], root_type)
        names = {key: nodes[0].name.value for key, nodes in collected.items()}
        executed = INTROSPECTION | FUNCTIONS.keys()
        for key, name in names.items():
            if (resource := RESOURCES.get(name)) is not None and resource.named_by is not None:
                code = str(reader.read_arguments(root_type, collected[key][0])["id"])
                await self._find_row(reader, resource, key, code)
        roots = {
            key: reader.make_query(root_type, collected[key])
            for key, name in names.items()
            if name not in executed and name != "__typename"
        }
        queries: dict[str, Query] = {key: root for key, root in roots.items() if root is not None}
        if reader.issues:
            pages, detail = [*iterate_pages(list(queries.values()))], "Some arguments cannot be used."
            problem = PartlyRead(detail, code="argument-invalid", issues=tuple(reader.issues), readable=pages)
            raise await add_unknown_codes(problem, context.database, context.caller, context.cursors)
        check_scopes(list(queries.values()), context.caller)
        of_functions = sum(FUNCTION_VALUES[name] for name in names.values() if name in FUNCTIONS)
        self._values = check_cost(list(queries.values()), of_functions)
        context.charge(values=self._values)
        if not context.introspection and not INTROSPECTION.isdisjoint(names.values()):
            issue = Issue("__schema", "introspection-off", "It is switched off.")
            raise BadRequest("Introspection is switched off here.", code="introspection-off", issues=(issue,))
        state.ready = dict.fromkeys(roots, msgspec.Raw(b"null"))
        if queries:
            bodies, _, groups = await read_result(
                list(queries.values()),
                context.database,
                context.caller.client_id,
                context.cursors,
                context.caller.snapshot,
                context.caller.scopes,
            )
            await refuse_merged(context.database, context.caller, list_pupil_ids(list(queries.values())), (), bodies)
            context.note_groups(groups)
            state.ready |= {key: msgspec.Raw(body or b"null") for key, body in zip(queries, bodies, strict=True)}
        if executed.isdisjoint(names.values()):
            self._set_result(state, names)

    async def _find_row(self, reader: Reader, resource: Resource, key: str, name: str) -> None:
        """Finds the row that a root field names by its code in place of its id, as a URL does in REST."""
        context = self.execution_context.context
        with suppress(NotFound):
            try:
                found = await find_row_id(context.database, context.caller, context.cursors, resource, resource.scope, name)
            except BadRequest as problem:
                issues = tuple(replace(issue, at=f"{key}.id") for issue in problem.issues)
                raise BadRequest(problem.detail, code=problem.code, issues=issues) from None
            reader.row_ids[resource.name, name] = found

    def _set_result(self, state: OperationState, names: Mapping[str, str]) -> None:
        """Sets the result of an operation whose root fields were all read."""
        pieces = (
            b'"%s":%s' % (key.encode(), b'"Query"' if name == "__typename" else bytes(state.ready[key]))
            for key, name in names.items()
        )
        self.execution_context.result = _make_result(msgspec.Raw(b"{%s}" % b",".join(pieces)))


def _make_result(data: Any) -> ExecutionResult:
    """A result whose data is encoded JSON."""
    return ExecutionResult(data, None)
