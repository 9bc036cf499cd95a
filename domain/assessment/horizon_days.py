"""The days of the horizons that the sector shares, as dated data (horizons.json)."""

import json
from datetime import date
from functools import cache
from pathlib import Path

from msgspec import Struct, convert


class HorizonDays(Struct, frozen=True):
    """Points with the same day. `day` is month and day in every academic year, but those of which `days` says another."""

    points: list[str]
    day: str
    source: str
    days: list[date] = []


@cache
def load_horizons() -> list[HorizonDays]:
    """Returns the points that the sector shares, of this program."""
    return convert(json.loads((Path(__file__).parent / "horizons.json").read_text()), list[HorizonDays])


def find_usual_day(point: str) -> tuple[int, int]:
    """Returns month and day of a point that the sector shares."""
    return next(read_day(horizon.day) for horizon in load_horizons() if point in horizon.points)


def read_day(day: str) -> tuple[int, int]:
    """Returns month and day of a text such as 08-31."""
    month, number = map(int, day.split("-"))
    return month, number
