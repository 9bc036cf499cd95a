"""The context of one operation, which Strawberry passes to every resolver, and the functions that commands and function fields call with it."""

from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from api.http.answer import Answer
from domain import COMMANDS
from domain.access.caller import Caller
from domain.aggregates.aggregates import add_unknown_names, read_aggregates
from domain.aggregates.explanation_query import read_explanation_query
from domain.aggregates.explanations import read_explanation
from domain.aggregates.query import read_query
from domain.aggregates.readiness import read_readiness
from domain.aggregates.transition_query import read_transition_query
from domain.aggregates.transitions import read_transitions
from domain.clients.me import Limits, read_me
from domain.declare.errors import BadRequest, Issue, NotFound, PartlyRead
from domain.declare.ids import parse_id
from domain.declare.scopes import Scope
from domain.jobs.job import MAX_ISSUES_PER_PAGE, read_job
from domain.publishing.read_preview import read_preview
from domain.read.cursors import Cursors
from domain.read.groups_read import GroupsRead
from domain.read.read_counts import ReadCounts
from domain.store.database import Database
from domain.support.lru import Lru
from domain.support.slices import run_in_slices
from domain.write.command import Command
from domain.write.idempotency import KeyedRequest, check_key, describe_preferences, hash_document
from domain.write.run import CommandAnswer
from domain.write.stored_answers import read_stored_answers
from domain.write.together import WritesTogether

if TYPE_CHECKING:
    from api.graphql.plans import OperationPlan


class Charge(Protocol):
    """Charges the values that an operation asks for to the quota of its client."""

    def __call__(self, *, values: int) -> None: ...


def charge_nobody(*, values: int) -> None:
    """Charges nobody."""


@dataclass(frozen=True)
class OperationContext:
    """The caller and the services of one request. It never changes; OperationState holds what changes."""

    caller: Caller
    database: Database
    cursors: Cursors
    base_url: str
    introspection: bool
    limits: Limits
    plans: Lru[Hashable, "OperationPlan"]
    response_cache: Lru[bytes, Answer]
    writes: WritesTogether
    charge: Charge = charge_nobody
    read_counts: ReadCounts = field(default_factory=ReadCounts)
    groups: list[GroupsRead] = field(default_factory=list)
    """The groups of collected values in what was executed; they are counted once the operation has succeeded."""

    def note_groups(self, groups: GroupsRead | None) -> None:
        """Notes that what was executed holds these groups, if any."""
        if groups is not None:
            self.groups.append(groups)

    def count_reads(self) -> None:
        """Counts that the client is given the groups in what was executed."""
        for groups in self.groups:
            self.read_counts.count(self.caller.client_id, groups)


async def perform_command(context: OperationContext, command: Command, arguments: Mapping[str, Any]) -> CommandAnswer:
    """Performs a command in a transaction of its own. `arguments` are the mutation's. Raises DomainError."""
    context.caller.require({command.operation: command.need})
    issues = [
        Issue(option, "argument-invalid", f"{option} is {' or '.join(allowed)}.")
        for option, allowed in (("handling", ("strict", "lenient")), ("return", ("minimal", "representation")))
        if arguments.get(option, allowed[0]) not in allowed
    ]
    if issues:
        raise BadRequest("Some arguments cannot be used.", code="argument-invalid", issues=tuple(issues))
    sent = arguments["input"]
    row_id = sent.get("id") if command.input.__struct_fields__ == ("id",) and isinstance(sent, dict) else None
    if isinstance(row_id, str) and parse_id(row_id) is None:
        raise NotFound()  # as in REST, where an invalid id in a URL is a 404
    lenient, with_results = arguments.get("handling") == "lenient", arguments.get("return") == "representation"
    command_input = await run_in_slices(command.parse_in_steps(sent, lenient=lenient, with_results=with_results))
    keyed, key = None, arguments.get("idempotencyKey")
    if key is not None:
        key, body = check_key(key), [sent, arguments.get("handling"), arguments.get("return")]
        parts = {"body": await run_in_slices(hash_document(sent))}
        parts |= describe_preferences(lenient, with_results) if command.entries is not None else {}
        keyed = KeyedRequest(key, parts, msgspec.json.encode(body, order="sorted"))
    dry_run = bool(arguments.get("dryRun"))
    return await context.writes.perform(command, context.caller, command_input, dry_run=dry_run, keyed=keyed)


def _list_pairs(arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns names and values as a query string has them: a list has a pair for each of its elements."""
    return [
        (name, str(element))
        for name, value in arguments.items()
        if value is not None
        for element in (value if isinstance(value, list) else [value])
    ]


async def _read_aggregates(context: OperationContext, arguments: Mapping[str, Any]) -> dict[str, Any]:
    empty = [
        Issue(name, "parameter-invalid", f"{name} names nothing; leave it out.") for name, value in arguments.items() if value == []
    ]
    issues = [issue for issue in empty if issue.at != "groupBy"]  # which is needed, and told so
    try:
        query = read_query(_list_pairs(arguments), issues)
    except PartlyRead as problem:
        raise await add_unknown_names(context.database, context.caller, problem) from None
    page = await read_aggregates(context.database, context.caller, context.cursors, query)
    context.note_groups(page.groups)
    rows = msgspec.to_builtins(page.data)
    ends = {"startCursor": page.cursors[0] if page.cursors else None, "endCursor": page.page.end_cursor}
    return {
        "nodes": rows,
        "edges": [{"cursor": cursor, "node": row} for cursor, row in zip(page.cursors, rows, strict=True)],
        "pageInfo": {"hasNextPage": page.page.has_more, "hasPreviousPage": arguments.get("after") is not None, **ends},
        "excluded": msgspec.to_builtins(page.excluded),
        "coverage": msgspec.to_builtins(page.coverage),
        "basis": msgspec.to_builtins(page.basis),
        "editions": msgspec.to_builtins(page.editions),
        "unpublished": msgspec.to_builtins(page.unpublished),
    }


async def _read_readiness(context: OperationContext, arguments: Mapping[str, Any]) -> Any:
    try:
        return msgspec.to_builtins(await read_readiness(context.database, context.caller, str(arguments["trust"])))
    except NotFound:
        return None


async def _read_publication_preview(context: OperationContext, arguments: Mapping[str, Any]) -> Any:
    try:
        return msgspec.to_builtins(await read_preview(context.database, context.caller, str(arguments["window"])))
    except NotFound:
        return None


async def _read_transitions(context: OperationContext, arguments: Mapping[str, Any]) -> Any:
    context.caller.require_scope(Scope.AGGREGATES_INTERNAL, "transitions")
    page = await read_transitions(context.database, context.caller, context.cursors, read_transition_query(_list_pairs(arguments)))
    context.note_groups(page.groups_read)
    return msgspec.to_builtins(page)


async def _read_explanation(context: OperationContext, arguments: Mapping[str, Any]) -> Any:
    context.caller.require_scope(Scope.AGGREGATES_INTERNAL, "explain")
    query = read_explanation_query(_list_pairs(arguments))
    explanation = await read_explanation(context.database, context.caller, context.cursors, query)
    context.note_groups(explanation.groups_read)
    return msgspec.to_builtins(explanation)


async def _read_me(context: OperationContext, arguments: Mapping[str, Any]) -> Any:
    return msgspec.to_builtins(await read_me(context.database, context.caller, context.limits))


async def _read_receipt(context: OperationContext, arguments: Mapping[str, Any]) -> Any:
    try:
        stored = await read_stored_answers(context.database, context.caller, check_key(arguments["key"]), COMMANDS.values())
    except NotFound:
        return None
    return msgspec.json.decode(msgspec.json.encode(stored.data))


async def _read_job(context: OperationContext, arguments: Mapping[str, Any]) -> Any:
    first = arguments.get("first") or MAX_ISSUES_PER_PAGE
    if not 1 <= first <= MAX_ISSUES_PER_PAGE:
        message = f"first is a whole number from 1 to {MAX_ISSUES_PER_PAGE}."
        raise BadRequest(message, code="argument-invalid", issues=(Issue("first", "argument-invalid", message),))
    try:
        job = await read_job(context.database, context.caller, arguments["id"], first, arguments.get("after"))
    except NotFound:
        return None
    return msgspec.json.decode(msgspec.json.encode(job))


FUNCTIONS: Mapping[str, Callable[[OperationContext, Mapping[str, Any]], Awaitable[Any]]] = {
    "aggregates": _read_aggregates,
    "job": _read_job,
    "me": _read_me,
    "publicationPreview": _read_publication_preview,
    "readiness": _read_readiness,
    "receipt": _read_receipt,
    "transitions": _read_transitions,
    "aggregateExplanation": _read_explanation,
}
"""Root fields that a function of the domain resolves, from the context and the arguments to a plain value."""
