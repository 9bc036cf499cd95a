"""Cursors: a row's place in an order, encrypted (AES-SIV, RFC 5297) and bound to the client and the query, so that neither can be told or swapped.

The database writes a row's place into the answer as a marker (query.py), and its token is put there in one pass over the bytes: the rows never
become objects.
"""

import base64
import binascii
import hashlib
import json
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from domain.declare.errors import BadRequest, Issue


class Cursors:
    """Seals and opens cursors with a key derived from the installation's secret."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESSIV(hashlib.sha512(b"markonce cursor" + secret).digest())

    def encrypt_position(self, place: bytes, client_id: UUID, fingerprint: str) -> str:
        sealed = self._cipher.encrypt(place, [client_id.bytes, fingerprint.encode()])
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, token: str, client_id: UUID, fingerprint: str, at: str = "after") -> tuple[str | None, ...]:
        """The place a cursor stands for; BadRequest for one that was made for another client or query, or altered."""
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(sealed).rstrip(b"=") != token.encode():
                raise ValueError("another spelling of the same bytes")
            place = json.loads(self._cipher.decrypt(sealed, [client_id.bytes, fingerprint.encode()]))
        except (InvalidTag, ValueError, binascii.Error) as problem:
            message = "This cursor was not made for this client, resource, filters and order. Start again without it."
            raise BadRequest(message, code="cursor-invalid", issues=(Issue(at, "cursor-invalid", message),)) from problem
        return tuple(place)
