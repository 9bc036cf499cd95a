"""A Board is memory that one worker writes its figures in and its supervisor reads, also when the worker has been killed.

Counting is one addition to a number in it: no lock, no message, no file on a disk. Each worker has a board of its own. The
supervisor adds the counters of boards whose worker has ended to those of the present one, so that no counter goes back.

    bytes 0 to 7        length of the text
    bytes 8 to 63       free
    then                SLOTS numbers (double precision)
    then                the text: for each series a line of JSON with its name, labels and number of slots
"""

import json
import mmap
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

from api.watch.figures import FIGURES, HISTOGRAM, SUM

SLOTS = 131_072
TEXT_BYTES = 4_194_304
_HEAD = 64
_SIZE = _HEAD + 8 * SLOTS + TEXT_BYTES
_SCRAP = SUM + 1
"""The first slots belong to no series: what finds no room is written there."""
UNREAD = 0
"""A position that nobody reads."""
DROPPED = "markonce_figures_dropped_total"


class Series(NamedTuple):
    """One series: a counter or gauge with one number, or a histogram with its buckets and its sum."""

    name: str
    labels: tuple[str, ...]
    numbers: tuple[float, ...]


def create_memory() -> int:
    """Returns the descriptor of empty memory for a board, which processes may share. Pages that nobody writes take none."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("markonce figures")
    else:
        import tempfile  # here, since its modules take memory

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _SIZE)
    return descriptor


class Board:
    """The board in the memory of this descriptor. `values` are its numbers, which the worker changes by their positions."""

    def __init__(self, descriptor: int) -> None:
        view = memoryview(mmap.mmap(descriptor, _SIZE))
        self._length = view[:8].cast("Q")
        self.values = view[_HEAD : _HEAD + 8 * SLOTS].cast("d")
        self._text = view[_HEAD + 8 * SLOTS :]
        self._next = _SCRAP
        self._positions: dict[tuple[str, tuple[str, ...]], int] = {}
        self._dropped = self.find(DROPPED)

    def find(self, name: str, *labels: str) -> int:
        """Returns the position of a series, which is made if there is none. Where there is no room it is a position that nobody reads."""
        key = name, labels
        position = self._positions.get(key)
        if position is not None:
            return position
        slots = SUM + 1 if FIGURES[name].kind == HISTOGRAM else 1
        line = json.dumps([name, *labels]).encode() + b"\n"
        length = self._length[0]
        if self._next + slots > SLOTS or length + len(line) > TEXT_BYTES:
            self.values[self._dropped] += 1
            return UNREAD
        position, self._next = self._next, self._next + slots
        self._text[length : length + len(line)] = line
        self._length[0] = length + len(line)  # last, since the supervisor reads so far
        self._positions[key] = position
        return position

    def put(self, name: str, number: float, *labels: str) -> None:
        """Sets a number."""
        self.values[self.find(name, *labels)] = number


def read_board(descriptor: int) -> Iterator[Series]:
    """Returns every series of a board, as they are now."""
    with mmap.mmap(descriptor, _SIZE, prot=mmap.PROT_READ) as memory, memoryview(memory) as view:
        length = int.from_bytes(view[:8], sys.byteorder)
        text = bytes(view[_HEAD + 8 * SLOTS :][:length])
        position = _SCRAP
        with view[_HEAD : _HEAD + 8 * SLOTS] as part, part.cast("d") as values:
            for line in text.splitlines():
                name, *labels = json.loads(line)
                slots = SUM + 1 if FIGURES[name].kind == HISTOGRAM else 1
                yield Series(name, tuple(labels), tuple(values[position : position + slots]))
                position += slots
