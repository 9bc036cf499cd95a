"""How many random requests a test makes: few in `make test`, all of them in `make attack`, which sets MARKONCE_FULL."""

import os


def choose_size(small: int, full: int) -> int:
    """Returns the number for the suite, or for the full run."""
    return full if os.environ.get("MARKONCE_FULL") else small
