"""Suggests similar names for unknown ones: ' Did you mean …?'.

The number of comparisons of one request is limited, since they take time.
"""

from collections.abc import Sequence
from difflib import get_close_matches

MAX_SUGGESTIONS = 50
"""Unknown names of one request that are compared with the valid ones."""
MAX_NAME_LENGTH = 100
"""Characters of a name that are compared."""


class Suggestions:
    """The suggestions of one request. Beyond MAX_SUGGESTIONS names there are none."""

    def __init__(self) -> None:
        self._suggestions: dict[tuple[str, tuple[str, ...]], str] = {}

    def suggest(self, name: str, among: Sequence[str]) -> str:
        """Returns ' Did you mean X?' if one of the names is similar, else an empty text."""
        key = name[:MAX_NAME_LENGTH], tuple(among)
        if (suggestion := self._suggestions.get(key)) is not None:
            return suggestion
        if len(self._suggestions) >= MAX_SUGGESTIONS:
            return ""
        matches = get_close_matches(*key, n=1)
        self._suggestions[key] = f" Did you mean {matches[0]}?" if matches else ""
        return self._suggestions[key]
