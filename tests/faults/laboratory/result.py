"""What a trial found: its numbers, and the promises that were broken, each with what was seen."""

from collections.abc import Callable
from dataclasses import dataclass, field

Watch = Callable[[], None]
"""Called after each step of a trial, for its progress bar."""
EXAMPLES = 3


def ignore_progress() -> None:
    """The Watch of a test."""


@dataclass
class Result:
    """`numbers` are printed as they are. A trial fails where `broken` holds anything; of each promise it has how often, and a few examples."""

    trial: str
    seed: int
    numbers: dict[str, object] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add_break(self, promise: str, seen: object, times: int = 1) -> None:
        """Notes that a promise was broken."""
        self.broken[promise] = self.broken.get(promise, 0) + times
        examples = self.examples.setdefault(promise, [])
        if len(examples) < EXAMPLES:
            examples.append(str(seen)[:300])

    def expect(self, is_true: bool, promise: str, seen: object) -> None:
        """Notes a promise as broken unless it was kept."""
        if not is_true:
            self.add_break(promise, seen)

    def count(self, number: str, times: int = 1) -> None:
        """Adds to one of the numbers."""
        self.numbers[number] = int(str(self.numbers.get(number, 0))) + times

    def __str__(self) -> str:
        told = [f"{self.trial}, seed {self.seed}: " + ", ".join(f"{name} {value}" for name, value in self.numbers.items())]
        for promise, times in self.broken.items():
            told += [f"  broken {times} times: {promise}", *(f"    {example}" for example in self.examples[promise])]
        return "\n".join(told)
