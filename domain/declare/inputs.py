"""Base classes of the inputs and outputs of commands, and the types of their texts, numbers and instants."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, ClassVar, Self

from msgspec import Meta, Struct, UnsetType

from domain.declare.errors import Issue
from domain.declare.value_types import MAX_NAME, MAX_SHORT_TEXT, MAX_TEXT
from domain.declare.vocabulary import LEAST_NUMBER, MOST_NUMBER

Instant = Annotated[datetime, Meta(tz=True)]
Text = Annotated[str, Meta(min_length=1, max_length=MAX_SHORT_TEXT)]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
"""A name of a person."""
LongText = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
"""Sentences. They may hold formatting characters, which any other text may not."""


@dataclass(frozen=True)
class Form:
    """The form of a text, such as that of a UPN, which the command checks. Marks the field, so that its fault is told also
    where another one keeps the input from being decoded. `parse` raises ValueError; `code` is that of the issue.
    """

    code: str
    parse: Callable[[str], object]


class ExactNumber(Decimal):
    """A number with every digit that was sent, which no float keeps beyond the 15th."""

    @classmethod
    def convert(cls, value: object) -> "ExactNumber":
        """Returns the number of a JSON value. Raises ValueError that says what it has to be."""
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise ValueError("Expected a number")
        number = cls(str(value))
        if not LEAST_NUMBER <= number <= MOST_NUMBER:
            raise ValueError(f"Expected a number from {LEAST_NUMBER:,} to {MOST_NUMBER:,}")
        return number


def convert_custom(type_: type, value: object) -> Any:
    """Returns a value of a type that msgspec does not know. Raises ValueError."""
    if type_ is ExactNumber:
        return ExactNumber.convert(value)
    raise NotImplementedError(type_.__name__)


def describe_custom(type_: type) -> dict[str, Any]:
    """Returns the JSON schema of a type that msgspec does not know."""
    if type_ is ExactNumber:
        return {"type": "number", "minimum": LEAST_NUMBER, "maximum": MOST_NUMBER}
    raise NotImplementedError(type_.__name__)


def round_half_up(number: Decimal, decimals: int) -> Decimal:
    """Returns a number with so many decimals; a half is rounded away from zero, as PostgreSQL rounds numeric."""
    return number.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)


def describe(text: str) -> Meta:
    """The description of a field, in both interfaces: `Annotated[Text, describe("…")]`."""
    return Meta(description=text)


Warnings = Annotated[list[Issue], describe("What became of rows that were not rejected, where the sender should know of it.")]
"""A field of outputs."""


class Input(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """The input of a command. Unknown fields are rejected, with the message `unknown` ({fields} lists the known ones).

    `may_repeat` decides, of a text that a row of a batch has as its `reference`, whether issues and results of the row
    repeat it. Of no other field is a value ever repeated, and without the function none is.
    """

    unknown: ClassVar[str] = "There is no such field."
    may_repeat: ClassVar[Callable[[str], bool] | None] = None


Rule = Callable[[Any], str | None]
"""A rule of a whole input: it returns what is wrong with the input, None if nothing is."""


class RuledInput(Input, kw_only=True):
    """An input with rules that its fields must meet together. A rule reads only the fields that it needs: it is also made of
    an input of which other fields cannot be read.
    """

    rules: ClassVar[tuple[Rule, ...]] = ()

    def __post_init__(self) -> None:
        for rule in self.rules:
            if (problem := rule(self)) is not None:
                raise ValueError(problem)


DryRun = Annotated[bool | UnsetType, describe("true in the answer to a dry run, which wrote nothing; in no other answer.")]
"""A field of the outputs of commands about one row."""


class Output(Struct, rename="camel", kw_only=True):
    """The output of a command."""

    @property
    def has_written(self) -> bool:
        """Whether the command may have changed a row."""
        return True

    def drop_secrets(self) -> Self:
        """Returns what is stored of it under an Idempotency-Key, and answered again: nothing that is shown once alone."""
        return self
