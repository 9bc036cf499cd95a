"""Reads the Accept header (RFC 9110, section 12.5.1)."""

import re

_WEIGHT = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def read_weights(header: str) -> dict[str, float]:
    """The weight of each media range, in lower case and in their order. A range whose weight is malformed is left out; of a repeated one the first counts."""
    weights: dict[str, float] = {}
    for part in header.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        matches = [_WEIGHT.fullmatch(parameter) for parameter in parameters if parameter.startswith("q=")]
        if all(matches):
            weights.setdefault(media_range, min((float(match[1]) for match in matches if match), default=1.0))
    return weights
