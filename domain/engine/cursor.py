"""Cursors: a row's place in an order, encrypted (AES-SIV, RFC 5297) and bound to the client and the query, so that neither can be told or swapped.

The database writes a row's place into the answer as `~nonce.binding:hex~`, with a nonce made for the request, and `seal` replaces each by its token
in one pass over the bytes: the rows never become objects.
"""

import base64
import binascii
import hashlib
import json
import os
import re
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from domain.engine.errors import BadRequest, Issue

_MARKER = re.compile(rb"~([0-9a-f]{16})\.(\d+):([0-9a-f]*)~")


def new_nonce() -> str:
    return os.urandom(8).hex()


class Cursors:
    """Seals and opens cursors with a key derived from the installation's secret."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESSIV(hashlib.sha512(b"markonce cursor" + secret).digest())

    def seal(self, place: bytes, client_id: UUID, fingerprint: str) -> str:
        sealed = self._cipher.encrypt(place, [client_id.bytes, fingerprint.encode()])
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, token: str, client_id: UUID, fingerprint: str, at: str = "after") -> tuple[str | None, ...]:
        """The place a cursor stands for; BadRequest for one that was made for another client or query, or altered."""
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            place = json.loads(self._cipher.decrypt(sealed, [client_id.bytes, fingerprint.encode()]))
        except (InvalidTag, ValueError, binascii.Error) as problem:
            message = "This cursor was not made for this client, resource, filters and order. Start again without it."
            raise BadRequest(message, code="cursor-invalid", issues=(Issue(at, "cursor-invalid", message),)) from problem
        return tuple(place)

    def seal_all(self, body: bytes, nonce: str, client_id: UUID, fingerprints: list[str]) -> bytes:
        """The body with every marker replaced by its cursor."""

        made = nonce.encode()

        def sealed(match: re.Match[bytes]) -> bytes:
            if match[1] != made:  # somebody's text that looks like a marker
                return match[0]
            return self.seal(bytes.fromhex(match[3].decode()), client_id, fingerprints[int(match[2])]).encode()

        return _MARKER.sub(sealed, body)
