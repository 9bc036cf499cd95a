"""Cursors: the position of a row in a sorted list, encrypted with AES-SIV (RFC 5297) and bound to the client and the
query.

PostgreSQL writes the position into the JSON as a placeholder (read/placeholders.py). PreparedQuery replaces it by the
cursor in one pass over the bytes, so that the rows never become Python objects.
"""

import base64
import binascii
import hashlib
import json
from contextlib import suppress
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from domain.declare.errors import BadRequest, Issue


class Cursors:
    """Encrypts cursors with a key derived from the installation's secret, and decrypts them with that or one of other secrets: the one before."""

    def __init__(self, secret: bytes, *others: bytes) -> None:
        self._ciphers = [AESSIV(hashlib.sha512(b"markonce cursor" + each).digest()) for each in (secret, *others)]

    def encrypt_position(self, position: bytes, client_id: UUID, fingerprint: str) -> str:
        """Returns the cursor of a position. `fingerprint` identifies the query (ListQuery.fingerprint)."""
        encrypted = self._ciphers[0].encrypt(position, [client_id.bytes, fingerprint.encode()])
        return base64.urlsafe_b64encode(encrypted).rstrip(b"=").decode()

    def decrypt_position(self, cursor: str, client_id: UUID, fingerprint: str, at: str = "after") -> tuple[str | None, ...]:
        """Returns the position of a cursor. `at` names the parameter that holds the cursor.

        Raises BadRequest if the cursor was made for another client or query, or was altered.
        """
        try:
            encrypted = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(encrypted).rstrip(b"=") != cursor.encode():
                raise ValueError("another spelling of the same bytes")
            position = json.loads(self._decrypt(encrypted, [client_id.bytes, fingerprint.encode()]))
        except (InvalidTag, ValueError, binascii.Error) as problem:
            message = "This cursor was not made for this client, resource, filters and order. Start again without it."
            raise BadRequest(message, code="cursor-invalid", issues=(Issue(at, "cursor-invalid", message),)) from problem
        return tuple(position)

    def _decrypt(self, encrypted: bytes, bound_to: list[bytes]) -> bytes:
        """Returns what was encrypted. Raises InvalidTag."""
        for cipher in self._ciphers[:-1]:
            with suppress(InvalidTag):
                return cipher.decrypt(encrypted, bound_to)
        return self._ciphers[-1].decrypt(encrypted, bound_to)
