"""Bodies of recent answers, and their entity tags (RFC 9110 section 8.8.3): both by the state of what was read, which a tiny read tells (Prepared).

A body is served again, or a 304 in its place, only after that read: an answer is as true as if it had been made anew.
"""

import hashlib
import re

from domain.support.lru import Lru

Fields = tuple[tuple[bytes, bytes], ...]
_TAGS = re.compile(r'(?:W/)?"([!#-~\x80-\xff]*)"')


class ResponseCache:
    """The bodies of a process by the keys of their requests (`key_of`), at most so many bytes in all."""

    def __init__(self, most: int) -> None:
        self._bodies: Lru[bytes, tuple[bytes, bytes, Fields]] = Lru("answers", most, weigh=_weight)

    def state_of(self, key: bytes) -> bytes | None:
        """The state of which there is a body."""
        known = self._bodies.get(key)
        return None if known is None else known[0]

    def whole(self, key: bytes, state: bytes) -> tuple[bytes, Fields] | None:
        """The body of this state, and the header fields that were kept with it."""
        known = self._bodies.get(key)
        return None if known is None or known[0] != state else known[1:]

    def body(self, key: bytes, state: bytes) -> bytes | None:
        found = self.whole(key, state)
        return None if found is None else found[0]

    def keep(self, key: bytes, state: bytes, body: bytes, fields: Fields = ()) -> None:
        self._bodies.put(key, (state, body, fields))


def _weight(key: bytes, answer: tuple[bytes, bytes, Fields]) -> int:
    state, body, fields = answer
    return 200 + len(key) + len(state) + len(body) + sum(150 + len(name) + len(value) for name, value in fields)


def make_key(*parts: bytes) -> bytes:
    """The key of an answer: a digest of what tells requests apart, which is small however long these are.

    The parts are separated by a byte that stands in no UTF-8, so that no two requests have the same text. Only the last part may be other than UTF-8,
    and the first, where it always begins with an id.
    """
    return hashlib.blake2b(b"\xff".join(parts), digest_size=32).digest()


def make_etag(*parts: bytes) -> str:
    """What an answer to this request, of this state, is known by: the last part of its entity tag, after the version of a row that can be changed."""
    return hashlib.blake2b(b"\x00".join(parts), digest_size=12).hexdigest()


def is_known_by(digest: str, if_none_match: str) -> str | None:
    """The entity tag by which If-None-Match names the answer, compared weakly, whatever the content coding of the answer that the client has.

    A `*` names none: it is of whatever there is, which is known only when there is an answer.
    """
    named = (opaque.removesuffix("-gzip") for opaque in _TAGS.findall(if_none_match))
    return next((f'"{opaque}"' for opaque in named if opaque.rpartition(".")[2] == digest), None)
