"""Python loads this by itself where its folder is on PYTHONPATH: it notes which functions of the product are entered while BENCH_MARKS says so.

BENCH_MARKS is a folder with a file `phase` of one byte, which the bench writes. Functions are noted while it is odd; when it is even again, each
process writes what it has noted to PHASE-PID, a line for each function. Functions without a name of their own (lambdas, comprehensions) are not noted.
"""

import mmap
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType

MARKS, PRODUCT = Path(os.environ["BENCH_MARKS"]), tuple(f"{os.getcwd()}/{folder}/" for folder in ("api", "domain"))
with open(MARKS / "phase", "rb") as file:
    phase = mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_READ)
entered: set[tuple[str, str]] = set()


def note(frame: FrameType, event: str, _: object) -> None:
    if event == "call" and phase[0] % 2:
        code = frame.f_code
        if code.co_filename.startswith(PRODUCT) and not code.co_name.startswith("<"):
            entered.add((code.co_filename, code.co_qualname))


def tell() -> None:
    """Writes what was noted, after each phase."""
    before = phase[0]
    while True:
        now = phase[0]
        if now != before and now % 2 == 0:
            whole = MARKS / f"{now}-{os.getpid()}"
            part = whole.with_suffix(".part")
            part.write_text("".join(f"{path} {name}\n" for path, name in sorted(entered)))
            part.rename(whole)
            entered.clear()
        before = now
        time.sleep(0.005)


def begin() -> None:
    """In this process; one that is forked off has no thread that tells, and must begin again."""
    threading.Thread(target=tell, daemon=True).start()
    threading.setprofile(note)
    sys.setprofile(note)


os.register_at_fork(after_in_child=begin)
begin()
