"""Cache of recent response bodies, by the key of their request and the version of the data they were made from.

A body is served again only after the version was read again (PreparedQuery), so a cached response is never outdated.
"""

import hashlib

from domain.support.lru import Lru

Headers = tuple[tuple[bytes, bytes], ...]


class ResponseCache:
    """The cached bodies of a process, by `make_key`, of at most `most` bytes in all."""

    def __init__(self, most: int) -> None:
        self._entries: Lru[bytes, tuple[bytes, bytes, Headers]] = Lru("answers", most, weigh=_weigh)

    def find_version(self, key: bytes) -> bytes | None:
        """The version of the cached body of this request, or None."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def find(self, key: bytes, version: bytes) -> tuple[bytes, Headers] | None:
        """The body of this version, and the header fields stored with it, or None."""
        entry = self._entries.get(key)
        return None if entry is None or entry[0] != version else entry[1:]

    def find_body(self, key: bytes, version: bytes) -> bytes | None:
        """The body of this version, or None."""
        entry = self.find(key, version)
        return None if entry is None else entry[0]

    def put(self, key: bytes, version: bytes, body: bytes, headers: Headers = ()) -> None:
        """Stores a body in place of that of any other version."""
        self._entries.put(key, (version, body, headers))


def _weigh(key: bytes, entry: tuple[bytes, bytes, Headers]) -> int:
    version, body, headers = entry
    return 200 + len(key) + len(version) + len(body) + sum(150 + len(name) + len(value) for name, value in headers)


def make_key(*parts: bytes) -> bytes:
    """The key of a request: a short digest of what distinguishes it from others.

    The parts are separated by a byte that no UTF-8 has, so that two requests never join to the same bytes. Only the last part may be other than
    UTF-8, and the first, which always begins with an id.
    """
    return hashlib.blake2b(b"\xff".join(parts), digest_size=32).digest()
