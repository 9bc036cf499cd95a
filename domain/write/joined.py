"""Joins the batches of several requests, each of one row, to one batch, and takes the outcome of each row back to its own batch."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import UNSET, structs

from domain.write.batch import Batch
from domain.write.command import Command
from domain.write.receipts import Receipt

HEAD_FIELDS = ("school", "window")
"""What a head says for a row that does not say it itself."""


def is_joinable(command: Command, command_input: Any) -> bool:
    """Whether the input is a batch of one row, without a fault of form, which may be written together with others."""
    return (
        command.describe_row is not None
        and isinstance(command_input, Batch)
        and command_input.received == len(command_input.rows) == 1
        and command_input.rows[0][0] == 0
        and not (command_input.faults or command_input.issues or command_input.warnings or command_input.lines)
        and not any(other.received or other.faults for other in command_input.companions.values())
    )


def join(command: Command, batches: Sequence[Batch[Any, Any]]) -> Batch[Any, Any]:
    """Returns one lenient batch, whose rows are those of the batches in their order. Each row says itself what the head of its
    batch said."""
    first = batches[0]
    return Batch(
        command.input(entries=[]),
        [(n, _complete(batch)) for n, batch in enumerate(batches)],
        len(batches),
        lenient=True,
        name=first.name,
        may_repeat=first.may_repeat,
        operation=first.operation,
        companions={name: other.copy_unchanged() for name, other in first.companions.items()},
        suggestions=first.suggestions,
    )


def _complete(batch: Batch[Any, Any]) -> Any:
    entry = batch.rows[0][1]
    said = {name: getattr(batch.head, name, UNSET) for name in HEAD_FIELDS if getattr(entry, name, None) is UNSET}
    said = {name: value for name, value in said.items() if value is not UNSET}
    return structs.replace(entry, **said) if said else entry


def split_off(joined: Batch[Any, Any], n: int, own: Batch[Any, Any]) -> Batch[Any, Any] | None:
    """Returns the batch `own`, whose row is the row `n` of the joined batch, with its outcome and warnings; None if the row was
    rejected."""
    result = joined.results.get(n)
    if result is None or joined.is_rejected(n):
        return None
    batch = own.copy_unchanged()
    batch.results[0] = structs.replace(result, at=batch.make_pointer(0))
    batch.locations[0] = joined.locations[n]
    pointer = joined.make_pointer(n)
    for warning in joined.warnings:
        if warning.at == pointer or warning.at.startswith(f"{pointer}/"):
            path = warning.at[len(pointer) :]
            is_of_head = path.startswith("/school") and own.rows[0][1].school is UNSET
            batch.warnings.append(structs.replace(warning, at=path if is_of_head else batch.make_pointer(0) + path))
    return batch


def make_receipt(batch: Batch[Any, Any]) -> Receipt:
    """Returns the receipt of a batch of one row, which was accepted."""
    return (batch.operation, batch.locations[0]), Counter({batch.results[0].outcome: 1})
