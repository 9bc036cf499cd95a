"""'Did you mean …?' where a name is unknown. Comparing names takes time, so that one request has a budget of comparisons and asks about no name twice."""

from collections.abc import Sequence
from difflib import get_close_matches

MAX_SUGGESTIONS = 50
"""Unknown names of one request that are compared with the known ones."""
MAX_NAME_LENGTH = 100
"""Characters of a name that are compared: a name of megabytes would take seconds."""


class Suggestions:
    """Those of one request. Beyond the budget a name has none."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, tuple[str, ...]], str] = {}

    def suggest(self, name: str, among: Sequence[str]) -> str:
        """' Did you mean X?' where one of the names is near, else nothing."""
        key = name[:MAX_NAME_LENGTH], tuple(among)
        if (made := self._made.get(key)) is not None:
            return made
        if len(self._made) >= MAX_SUGGESTIONS:
            return ""
        near = get_close_matches(*key, n=1)
        self._made[key] = f" Did you mean {near[0]}?" if near else ""
        return self._made[key]
