"""Mutations: the commands of the domain, by the names and arguments that GraphQL has for them."""

from typing import TYPE_CHECKING, Any

import msgspec
from graphql import GraphQLError, OperationDefinitionNode

from api.graphql.response import Answer, Outcomes, describe, told
from api.graphql.schema import schema
from api.graphql.selection import Reader
from api.problems import as_domain_error
from domain import COMMANDS
from domain.engine.command import Performed, perform
from domain.engine.errors import BadRequest, Issue, NotFound
from domain.engine.idempotency import check_key
from domain.engine.ids import parse_id
from domain.engine.slices import run_in_slices

if TYPE_CHECKING:
    from api.graphql.execute import Asker

MUTATIONS = {command.operation: command for command in COMMANDS.values()}


async def mutate(asker: "Asker", reader: Reader, operation: OperationDefinitionNode) -> Answer:
    """The commands one after another, each in a transaction of its own; one that fails is null and told among the errors."""
    root_type = schema().mutation_type
    assert root_type is not None
    outcomes = Outcomes()
    for key, nodes in reader.collect([operation.selection_set], root_type).items():
        name = nodes[0].name.value
        if name == "__typename":
            outcomes.data[key] = root_type.name
            continue
        outcomes.data[key] = None
        outcomes.commands += 1
        try:
            done = await _command(asker, name, reader.input_of(root_type, nodes[0]))
            below = [node.selection_set for node in nodes if node.selection_set is not None]
            answer = msgspec.json.decode(done.answer)
            outcomes.data[key] = await run_in_slices(reader.project(answer, reader.type_of(root_type, nodes[0]), below))
            outcomes.replayed += done.replayed
        except GraphQLError as problem:
            outcomes.fail(key, BadRequest(problem.message, code="graphql-invalid"), told(problem))
        except Exception as problem:  # told with its place; the other commands go on
            error = as_domain_error(problem)
            outcomes.fail(key, error, describe(error, asker.base_url))
    return outcomes.respond()


async def _command(asker: "Asker", name: str, given: dict[str, Any]) -> Performed:
    command = MUTATIONS[name]
    asker.caller.needs(command.scope, command.operation)
    wrong = [
        Issue(option, "argument-invalid", f"{option} is {' or '.join(known)}.")
        for option, known in (("handling", ("strict", "lenient")), ("return", ("minimal", "representation")))
        if given.get(option, known[0]) not in known
    ]
    if wrong:
        raise BadRequest("Some arguments cannot be used.", code="argument-invalid", issues=tuple(wrong))
    if command.takes.__struct_fields__ == ("id",) and parse_id(given["input"]["id"]) is None:
        raise NotFound()  # as of a URL: what cannot be an id is nothing's
    lenient, represent = given.get("handling") == "lenient", given.get("return") == "representation"
    typed = await run_in_slices(command.reading(given["input"], lenient=lenient, represent=represent))
    key = given.get("idempotencyKey")
    body = (
        msgspec.json.encode([given["input"], given.get("handling"), given.get("return")], order="sorted")
        if key is not None
        else b""
    )
    return await perform(
        asker.database,
        command,
        asker.caller,
        typed,
        dry_run=bool(given.get("dryRun")),
        key=check_key(key) if key is not None else None,
        body=body,
    )
