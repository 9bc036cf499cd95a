"""Bodies of recent answers, and their entity tags (RFC 9110 section 8.8.3): both by the state of what was read, which a tiny read tells (Prepared).

A body is served again, or a 304 in its place, only after that read: an answer is as true as if it had been made anew.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Hashable

Fields = tuple[tuple[bytes, bytes], ...]
_TAGS = re.compile(r'(?:W/)?"([!#-~\x80-\xff]*)"')


class Kept:
    """The bodies of a process, no more than so many bytes of them; the one used longest ago goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._bodies: OrderedDict[Hashable, tuple[bytes, bytes, Fields]] = OrderedDict()

    def state_of(self, key: Hashable) -> bytes | None:
        """The state of which there is a body."""
        known = self._bodies.get(key)
        return None if known is None else known[0]

    def whole(self, key: Hashable, state: bytes) -> tuple[bytes, Fields] | None:
        """The body of this state, and the header fields that were kept with it."""
        known = self._bodies.get(key)
        if known is None or known[0] != state:
            return None
        self._bodies.move_to_end(key)
        return known[1:]

    def body(self, key: Hashable, state: bytes) -> bytes | None:
        found = self.whole(key, state)
        return None if found is None else found[0]

    def keep(self, key: Hashable, state: bytes, body: bytes, fields: Fields = ()) -> None:
        if len(body) > self._most // 10:  # no answer drives out all others
            return
        self._forget(key)
        self._bodies[key] = state, body, fields
        self._bytes += len(body)
        while self._bytes > self._most:
            self._forget(next(iter(self._bodies)))

    def _forget(self, key: Hashable) -> None:
        if (known := self._bodies.pop(key, None)) is not None:
            self._bytes -= len(known[1])


def digest_of(*parts: bytes) -> str:
    """What an answer to this request, of this state, is known by: the last part of its entity tag, after the version of a row that can be changed."""
    return hashlib.blake2b(b"\x00".join(parts), digest_size=12).hexdigest()


def known_by(digest: str, if_none_match: str) -> str | None:
    """The entity tag by which If-None-Match names the answer, compared weakly, whatever the content coding of the answer that the client has.

    A `*` names none: it is of whatever there is, which is known only when there is an answer.
    """
    named = (opaque.removesuffix("-gzip") for opaque in _TAGS.findall(if_none_match))
    return next((f'"{opaque}"' for opaque in named if opaque.rpartition(".")[2] == digest), None)
