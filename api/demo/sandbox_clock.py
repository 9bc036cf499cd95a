"""The sandbox's clock: MARKONCE_NOW, which `demo` alone reads.

It moves the calendar and windows. Tokens, grants, keys, rate limits and the time at which a row is written go by the clocks of the
database and of the process, as everywhere.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from api.setting_names import compare_names
from api.settings import SETTINGS

NOW = "MARKONCE_NOW"
FIRST, LAST = datetime(2024, 9, 1, tzinfo=UTC), datetime(2035, 8, 31, tzinfo=UTC)
"""The instants between which the story of the demonstration has been tried."""


class SandboxError(Exception):
    """The environment variables of the sandbox are wrong. The message names each."""


def read_ahead(environment: Mapping[str, str]) -> timedelta:
    """Returns by how much MARKONCE_NOW moves the calendar from real time: nothing where it is not set. Raises SandboxError."""
    if faults := compare_names(environment, {*SETTINGS, NOW})[0]:
        raise SandboxError("; ".join(faults) + ".")
    text = environment.get(NOW)
    if not text:
        return timedelta(0)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = datetime.min
    if instant.tzinfo is None or not FIRST <= instant <= LAST:
        raise SandboxError(
            f"{NOW} is an instant with its zone, such as 2027-03-01T09:00:00Z, from {FIRST:%Y-%m-%d} to {LAST:%Y-%m-%d}."
        )
    return instant - datetime.now(UTC)
