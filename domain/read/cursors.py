"""Cursors: the position of a row in a sorted list, encrypted with AES-SIV (RFC 5297) and bound to the client and the
query.

PostgreSQL writes the position into the JSON as a placeholder (read/placeholders.py). PreparedQuery replaces it by the
cursor in one pass over the bytes, so that the rows never become Python objects.
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
    """Encrypts and decrypts cursors with a key derived from the installation's secret."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESSIV(hashlib.sha512(b"markonce cursor" + secret).digest())

    def encrypt_position(self, position: bytes, client_id: UUID, fingerprint: str) -> str:
        """Returns the cursor of a position. `fingerprint` identifies the query (ListQuery.fingerprint)."""
        encrypted = self._cipher.encrypt(position, [client_id.bytes, fingerprint.encode()])
        return base64.urlsafe_b64encode(encrypted).rstrip(b"=").decode()

    def decrypt_position(self, cursor: str, client_id: UUID, fingerprint: str, at: str = "after") -> tuple[str | None, ...]:
        """Returns the position of a cursor. `at` names the parameter that holds the cursor.

        Raises BadRequest if the cursor was made for another client or query, or was altered.
        """
        try:
            encrypted = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            if base64.urlsafe_b64encode(encrypted).rstrip(b"=") != cursor.encode():
                raise ValueError("another spelling of the same bytes")
            position = json.loads(self._cipher.decrypt(encrypted, [client_id.bytes, fingerprint.encode()]))
        except (InvalidTag, ValueError, binascii.Error) as problem:
            message = "This cursor was not made for this client, resource, filters and order. Start again without it."
            raise BadRequest(message, code="cursor-invalid", issues=(Issue(at, "cursor-invalid", message),)) from problem
        return tuple(position)
