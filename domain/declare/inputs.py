"""What every command takes and answers is made of: strict inputs, outputs in camel case, and the texts and instants in them."""

from datetime import datetime
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from domain.declare.value_types import MAX_TEXT

Instant = Annotated[datetime, Meta(tz=True)]
Text = Annotated[str, Meta(min_length=1, max_length=200)]
LongText = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


def describe(text: str) -> Meta:
    """The description of a field, in both interfaces: `Annotated[Text, describe("…")]`."""
    return Meta(description=text)


class Input(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What a command takes. Unknown fields are refused, never dropped; `unknown` is what is told of them, with the known ones for {fields}."""

    unknown: ClassVar[str] = "There is no such field."


class Output(Struct, rename="camel", kw_only=True):
    """What a command answers."""
