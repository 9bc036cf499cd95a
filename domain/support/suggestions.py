"""Suggests similar names for unknown ones: ' Did you mean …?'.

The number of comparisons of one request is limited, since they take time.
"""

from collections.abc import Sequence
from difflib import get_close_matches

MAX_SUGGESTIONS = 50
"""Unknown names of one request that are compared with the valid ones."""
MAX_NAME_LENGTH = 100
"""Characters of a name that are compared."""


def list_first(names: Sequence[str], most: int) -> str:
    """Returns the first names, and that there are more where there are."""
    return f"{', '.join(names[:most])}{' and more' if len(names) > most else ''}"


class Suggestions:
    """The suggestions of one request. Beyond MAX_SUGGESTIONS names there are none."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, tuple[str, ...]], str | None] = {}

    def suggest(self, name: str, among: Sequence[str]) -> str:
        """Returns ' Did you mean X?' if one of the names is similar, else an empty text."""
        found = self.find_similar(name, among)
        return "" if found is None else f" Did you mean {found}?"

    def find_similar(self, name: str, among: Sequence[str]) -> str | None:
        """Returns the most similar one of the names, in whatever case, None if none is similar."""
        key = name[:MAX_NAME_LENGTH], tuple(among)
        if key not in self._found and len(self._found) < MAX_SUGGESTIONS:
            names = {each.casefold(): each for each in reversed(key[1])}  # the first one of those that differ in case alone
            similar = get_close_matches(key[0].casefold(), names, n=1)
            self._found[key] = names[similar[0]] if similar else None
        return self._found.get(key)
