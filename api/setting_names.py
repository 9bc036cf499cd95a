"""Compares the names of environment variables with those of the settings, so that a slip of the pen is not passed over."""

import re
from collections.abc import Iterable

_PREFIX = "MARKONCE_"
_ORCHESTRATOR = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)$")
"""Kubernetes and Docker give each process the addresses of services: a service called markonce makes MARKONCE_PORT."""
_SHORT = 5
"""Of a name with at most so many letters after the prefix only one letter may differ."""


def compare_names(names: Iterable[str], settings: Iterable[str]) -> tuple[list[str], list[str]]:
    """Returns what is wrong with names of variables, and what is only unknown, as sentences.

    Wrong is a name that is near that of a setting: one letter or two differ, case or separators differ, a word is missing
    or one too many, or the prefix stands before a setting that has none. A name near that of a setting without the prefix
    is wrong where the setting is not set: else it may be another program's.
    """
    faults, warnings = [], []
    present, settings = set(names), sorted(settings)
    for name in sorted(present - set(settings)):
        near = None if _ORCHESTRATOR.search(name) else _find_near(name, settings, present)
        if near is not None:
            faults.append(f"{name} is no setting; did you mean {near}?")
        elif name.upper().startswith(_PREFIX):
            warnings.append(f"{name} is no setting, and has no effect")
    return faults, warnings


def _find_near(name: str, settings: list[str], present: set[str]) -> str | None:
    plain = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    if not plain.startswith("MAR"):
        unset = (setting for setting in settings if not setting.startswith(_PREFIX) and setting not in present)
        return next((setting for setting in unset if setting[0] == plain[:1] and _count_edits(plain, setting) <= 2), None)
    rest = plain.removeprefix(_PREFIX)
    for setting in settings:
        if not setting.startswith(_PREFIX):
            if rest == setting:
                return setting
            continue
        suffix = setting.removeprefix(_PREFIX)
        if plain.startswith(_PREFIX) and (rest.startswith(f"{suffix}_") or suffix.startswith(f"{rest}_")):
            return setting
        if _count_edits(plain, setting) <= (1 if len(suffix) <= _SHORT else 2):
            return setting
    return None


def _count_edits(first: str, second: str) -> int:
    """Returns how many letters are inserted, left out, replaced or exchanged with their neighbour (Damerau, 1964)."""
    before, row = list[int](), list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        earlier, before, row = before, row, [i]
        for j, other in enumerate(second, 1):
            cost = min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
    return row[-1]
