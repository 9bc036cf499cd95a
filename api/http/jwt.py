"""Reads signed JWTs strictly (RFC 7515, RFC 7519): access tokens and client assertions.

joserfc checks the types of header parameters, the algorithm, the key and the signature. This module adds: a token has three parts of
bounded length; its header has only the parameters of its format (no `crit`, no `b64`, no key of its own); header and claims are JSON objects in UTF-8
without a byte order mark and without duplicate members. All errors are JoseError. No message quotes a token.
"""

import json
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import (
    BadSignatureError,
    DecodeError,
    ExceededSizeError,
    JoseError,
    UnsupportedAlgorithmError,
    UnsupportedHeaderError,
)
from joserfc.jwk import Key, KeySet
from joserfc.jws import JWSRegistry
from joserfc.registry import HeaderParameter, HeaderRegistryDict
from joserfc.util import urlsafe_b64decode

MAX_TOKEN_LENGTH = 8192
"""Characters of a token. joserfc allows its header 512 and its signature 1,024 of them."""


class TokenFormat(JWSRegistry):
    """The header parameters and algorithms that a kind of token may have."""

    default_header_registry: HeaderRegistryDict = {"alg": HeaderParameter("Algorithm", "str", required=True)}


ACCESS_TOKEN = TokenFormat(
    {"kid": HeaderParameter("Key ID", "str", required=True), "typ": HeaderParameter("Type", "str", required=True)}, ["ES256"]
)
CLIENT_ASSERTION = TokenFormat(
    {
        "kid": HeaderParameter("Key ID", "str"),
        "typ": HeaderParameter("Type", "str"),
        # some libraries send these beside kid; they name a key and contain none
        "x5t": HeaderParameter("X.509 Certificate SHA-1 Thumbprint", "str"),
        "x5t#S256": HeaderParameter("X.509 Certificate SHA-256 Thumbprint", "str"),
    },
    ["ES256", "RS256", "PS256", "EdDSA", "Ed25519"],
)


@dataclass(frozen=True)
class Jwt:
    """A JWT that was read but not verified. `is_json` is false where a claim is NaN or Infinity, which JSON does not have."""

    text: str
    header: dict[str, Any]
    claims: dict[str, Any]
    is_json: bool

    @property
    def type(self) -> str:
        """The media type in `typ`, in lower case; `jwt` where there is none."""
        typ: str = self.header.get("typ", "jwt")
        return typ.lower() if typ.isascii() else typ


def read_jwt(token: str, form: TokenFormat) -> Jwt:
    """Reads a token without verifying it. Raises JoseError where it does not have this format."""
    if len(token) > MAX_TOKEN_LENGTH:
        raise ExceededSizeError
    parts = token.split(".")
    try:
        header_part, claims_part, signature_part = (part.encode("ascii") for part in parts)
        form.validate_header_size(header_part)
        header, header_is_json = _decode_object(urlsafe_b64decode(header_part))
        claims, claims_are_json = _decode_object(urlsafe_b64decode(claims_part))
        if not urlsafe_b64decode(signature_part):
            raise DecodeError("There is no signature.")
    except (ValueError, RecursionError) as problem:  # of base64, UTF-8 and JSON
        raise DecodeError from problem
    if not header_is_json or not header.keys() <= form.header_registry.keys():
        raise UnsupportedHeaderError
    form.check_header(header)
    if header["alg"] not in (form.allowed or ()):
        raise UnsupportedAlgorithmError
    return Jwt(token, header, claims, claims_are_json)


def verify_signature(token: Jwt, keys: KeySet | Key, form: TokenFormat) -> None:
    """Verifies the signature with the key, or with the key of the set that kid names.

    Raises JoseError, which is InvalidKeyIdError where the set has no such key.
    """
    try:
        jws.deserialize_compact(token.text, keys, registry=form)
    except JoseError:
        raise
    except Exception as problem:  # joserfc does not wrap every error of cryptography
        raise BadSignatureError from problem


def _decode_object(text: bytes) -> tuple[dict[str, Any], bool]:
    """A JSON object, and whether all of it is JSON. Raises ValueError, RecursionError."""
    constants: list[str] = []

    def read_constant(word: str) -> float:
        constants.append(word)
        return float(word)

    value = json.loads(text.decode(), object_pairs_hook=_reject_duplicates, parse_constant=read_constant)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value, not constants


def _reject_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) < len(members):
        raise ValueError("a member occurs twice")
    return value
