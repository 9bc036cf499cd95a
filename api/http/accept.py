"""Chooses the media type of a response by the Accept header (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Sequence

from api.http.field_values import split_elements, split_parameters
from domain.support.lru import Lru

_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_choices: Lru[tuple[str, tuple[str, ...]], str] = Lru("Accept headers", 100_000, weigh=lambda key, chosen: 200 + len(key[0]))


def read_weights(header: str) -> dict[str, float]:
    """The weight of each media range, in lower case and in their order. A range whose weight is malformed is left out; of a repeated one the first
    counts, and one without other parameters before one with them, since no representation here has any that matter."""
    found: dict[str, tuple[bool, float]] = {}
    for element in split_elements(header):
        media_range, parameters = split_parameters(element)
        weights = [value for name, value in parameters if name == "q"]
        if all(map(_WEIGHT.fullmatch, weights)):
            name, is_narrowed = media_range.lower(), len(parameters) > len(weights)
            if name not in found or (found[name][0] and not is_narrowed):
                found[name] = is_narrowed, min(map(float, weights), default=1.0)
    return {name: weight for name, (_, weight) in found.items()}


def choose_media_type(header: str, offered: Sequence[str]) -> str | None:
    """The offered media type with the highest weight, or None where none is acceptable.

    The most specific range that matches a type gives its weight. Of equal ones, a type that the header lists is chosen before one that a wildcard
    matches, and one listed earlier before one listed later; else the first that is offered.
    """
    key = header, tuple(offered)
    chosen = _choices.get(key)
    if chosen is None:
        chosen = _choices.put(key, _choose(header, offered))
    return chosen or None


def _choose(header: str, offered: Sequence[str]) -> str:
    """The chosen media type, or an empty text."""
    weights = read_weights(header)

    def weigh(media_type: str) -> float:
        ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((weights[each] for each in ranges if each in weights), 0.0)

    listed = [kind for kind in weights if kind in offered]
    best = max(dict.fromkeys([*listed, *offered]), key=weigh)
    return best if weigh(best) > 0 else ""
