"""The laboratory of `make faults`, with a small and always the same share of each trial; and its proxy, on which they rest.

`python -m tests.faults TRIAL --seed N` repeats one of them, or does all of it.
"""

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.catalogue import TRIALS
from tests.faults.laboratory.proxy import TO_DATABASE, TO_SERVER, Parser
from tests.faults.laboratory.result import ignore_progress
from tests.faults.laboratory.site import Laboratory, laboratory

SEED = 11
SECONDS = 400
GROUPS = {
    "laboratory 1": ("kills", "freezes", "clock", "shapes", "singles"),
    "laboratory 2": ("cuts", "refusals", "starved", "load", "orders"),
}
"""Each group runs in one process, on one PostgreSQL; they take about as long."""


@pytest_asyncio.fixture(scope="module")
async def lab() -> AsyncIterator[Laboratory]:
    async with laboratory(durable=True) as made:
        yield made


def test_every_trial_has_its_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(TRIALS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group(group)) for group, names in GROUPS.items() for name in names]
)
async def test_no_promise_is_broken(lab: Laboratory, name: str) -> None:
    trial = TRIALS[name]
    async with asyncio.timeout(SECONDS):
        result = await trial.run(lab, trial.small, SEED, ignore_progress)
    assert not result.broken, str(result)


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_the_proxy_finds_messages_in_bytes_that_arrive_in_any_pieces(step: int) -> None:
    def message(kind: str, body: bytes) -> bytes:
        return kind.encode() + struct.pack("!i", len(body) + 4) + body

    tls = asyncio.Event()
    sent = [struct.pack("!ii", 8, 80877103), struct.pack("!ii", 13, 196608) + b"user\0", message("Q", b"COMMIT;\0")]
    sent.append(message("P", b"name\0SELECT\n1\0\0\0"))
    found = _split(Parser(TO_DATABASE, tls), b"".join(sent), step)
    assert [size for _, size in found] == [len(one) for one in sent]
    assert [str(one) for one, _ in found] == ["→tls?", "→startup", "→Q 'COMMIT;'", "→P 'SELECT 1'"]
    assert [one.is_commit for one, _ in found] == [False, False, True, False]
    answered = b"N" + message("R", b"\0\0\0\0") + message("Z", b"I")
    assert [str(one) for one, _ in _split(Parser(TO_SERVER, tls), answered, step)] == ["←tls", "←R", "←Z"]


def _split(parser: Parser, data: bytes, step: int) -> list[tuple[object, int]]:
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    return [(message, len(whole)) for piece in pieces for message, whole in parser.split(piece)]
