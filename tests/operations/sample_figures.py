"""`python -m tests.operations.sample_figures`: the text of /metrics with a series of every figure."""

import sys

from api.watch.board import Board, create_memory
from api.watch.exposition import Totals, write_figures
from api.watch.figures import FIGURES

if __name__ == "__main__":
    totals, memory = Totals(), create_memory()
    board = Board(memory)
    for name, figure in FIGURES.items():
        board.values[board.find(name, *figure.labels)] = 1.0
    totals.add(memory)
    sys.stdout.buffer.write(write_figures(totals.read(), "")[0])
