"""Requests that have been read, by their form: what one was read as serves the next that differs in its values alone.

A form is a request without the texts that stand for values (ids, cursors, what is filtered by), and with the scopes that decide what is shown.
What is kept is how such texts are read and where they go, never a text.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 1000


class Forms(Generic[T]):
    """What the forms of a door are read as; the one used longest ago is forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, form: Hashable) -> T | None:
        known = self._known.get(form)
        if known is not None:
            self._known.move_to_end(form)
        return known

    def keep(self, form: Hashable, read: T) -> None:
        self._known[form] = read
        if len(self._known) > MOST:
            self._known.popitem(last=False)
