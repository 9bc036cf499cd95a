"""What `migrate` does after the migrations, also where there was none to run."""

from collections.abc import Callable
from typing import Any

from domain.assessment.reference_data import write_reference_data


async def run(connection: Any, report: Callable[[str], None]) -> None:
    """Brings the reference data up to this program. `connection` is asyncpg's, as the owner."""
    await write_reference_data(connection, report)
