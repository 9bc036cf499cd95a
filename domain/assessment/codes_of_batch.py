"""The codes that a batch of judgements names, and those among them that the tenant does not have."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET

from domain.assessment.codes import CodeTable, name_windows, read_codes
from domain.assessment.templates import describe_unknown_code
from domain.store.database import Connection
from domain.write.batch import Batch


async def read_codes_of_batch(connection: Connection, tenant_id: UUID, batch: Batch[Any, Any]) -> tuple[CodeTable, datetime]:
    """Returns the codes and the database's time. Adds an unknown window of the head to the faults of the batch, and unknown
    codes of rows that could not be decoded to theirs, so that one fault hides no other.
    """
    named = {str(code) for code in (batch.head.window, *(entry.window for _, entry in batch.rows)) if code is not UNSET}
    undecoded = {at: value for at, value in batch.undecoded.items() if isinstance(value, dict)}
    named |= {value["window"] for value in undecoded.values() if isinstance(value.get("window"), str)}
    codes, now = await read_codes(connection, tenant_id, named)
    if named - codes.windows.keys():
        codes = await name_windows(connection, tenant_id, codes)
    if batch.head.window is not UNSET and batch.head.window not in codes.windows:
        batch.fault("/window", "window-unknown", codes.describe_unknown_window())
    reject_unknown_words(batch, {"subject": codes.subjects, "aspect": codes.aspects, "window": codes.windows}, codes)
    return codes, now


def reject_unknown_words(batch: Batch[Any, Any], codes_of: Mapping[str, Collection[str]], codes: CodeTable | None = None) -> None:
    """Adds the unknown codes of rows that could not be decoded, so that their other faults hide none. `codes_of` are those that there
    are, by the name of the field; `codes` describes unknown windows.
    """
    faulty = {issue.at for issue in batch.issues}
    for at, value in batch.undecoded.items():
        for name, words in codes_of.items():
            word = value.get(name) if isinstance(value, dict) else None
            if not isinstance(word, str) or word.strip() in words or f"{batch.make_pointer(at)}/{name}" in faulty:
                continue
            if name == "window" and codes is not None:
                batch.reject(at, name, "window-unknown", codes.describe_unknown_window())
            else:
                batch.reject(at, name, *describe_unknown_code(name, word.strip(), words))
