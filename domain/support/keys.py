"""Keys made from MARKONCE_SECRET, and secrets that are shown once: of those the hash alone is stored."""

import hashlib
import secrets

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def make_cipher(secret: bytes, purpose: str) -> AESGCM:
    """Returns the cipher of one purpose: each has a key of its own, which tells nothing of the others (RFC 5869)."""
    return AESGCM(HKDF(SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret))


def make_secret() -> tuple[str, bytes]:
    """Returns a new secret of 256 random bits, and its hash to be stored."""
    secret = secrets.token_urlsafe(32)
    return secret, hash_secret(secret)


def hash_secret(secret: str) -> bytes:
    """Returns the hash of a secret. It needs no salt, since nobody can guess 256 random bits."""
    return hashlib.sha256(secret.encode()).digest()
