"""What `migrate` does after the migrations, also where there was none to run."""

from collections.abc import Callable
from typing import Any

from domain.assessment.reference_data import write_reference_data
from domain.roster.main_spells import fill_main_spells
from domain.roster.stored_texts import renew_texts
from domain.roster.text_order import write_text_order


async def run(connection: Any, report: Callable[[str], None]) -> None:
    """Brings the data up to this program. `connection` is asyncpg's, as the owner."""
    await write_reference_data(connection, report)
    await renew_texts(connection, report)
    await write_text_order(connection, report)
    await fill_main_spells(connection, report)
