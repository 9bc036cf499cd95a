"""The codes that a batch of judgements names."""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET

from domain.assessment.codes import CodeTable, name_windows, read_codes
from domain.store.database import Connection
from domain.write.batch import Batch


async def read_codes_of_batch(connection: Connection, tenant_id: UUID, batch: Batch[Any, Any]) -> tuple[CodeTable, datetime]:
    """Returns the codes and the database's time. Adds an unknown window of the head to the faults of the batch."""
    of_batch = getattr(batch.head, "window", UNSET)
    named = {str(code) for code in (of_batch, *(entry.window for _, entry in batch.rows)) if code is not UNSET}
    named |= {entry.window for _, entry in batch.partial_rows if isinstance(getattr(entry, "window", None), str)}
    codes, now = await read_codes(connection, tenant_id, named)
    if named - codes.windows.keys():
        codes = await name_windows(connection, tenant_id, codes)
    if of_batch is not UNSET and of_batch not in codes.windows:
        batch.fault("/window", "window-unknown", codes.describe_unknown_window(of_batch, batch.suggestions))
    return codes, now
