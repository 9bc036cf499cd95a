"""Checks the public keys that a client registers (RFC 7517) to authenticate by private_key_jwt."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet, OctKey, RSAKey, import_key
from msgspec import structs

from domain.declare.errors import Issue
from domain.declare.inputs import Input, LongText, Text, describe

MAX_KEYS = 10


class JsonWebKey(Input, kw_only=True):
    """A public key of a client, as a JSON Web Key (RFC 7517): EC on P-256, OKP on Ed25519, or RSA of 2048 to 4096 bits. A private key has
    members that this has not: whoever sends one treats it as disclosed."""

    kty: Literal["EC", "OKP", "RSA"]
    kid: Annotated[Text | None, describe("Its name, which each of several keys needs. An assertion names its key by it.")] = None
    use: Literal["sig"] | None = None
    alg: Annotated[Text | None, describe("The algorithm, such as ES256. It is not needed: kty and crv say it.")] = None
    crv: Annotated[Text | None, describe("The curve of EC and OKP.")] = None
    x: Annotated[Text | None, describe("Of EC and OKP.")] = None
    y: Annotated[Text | None, describe("Of EC.")] = None
    n: Annotated[LongText | None, describe("The modulus of RSA.")] = None
    e: Annotated[Text | None, describe("The exponent of RSA.")] = None


def find_key_issues(keys: Sequence[JsonWebKey], at: str) -> list[Issue]:
    """Returns every issue of public keys, of which there are one or more. `at` is the JSON pointer of their list."""
    return read_key_set(make_key_set(keys), at)[1]


def make_key_set(keys: Sequence[JsonWebKey]) -> dict[str, Any]:
    """Returns the JWKS of public keys."""
    return {"keys": [{name: value for name, value in structs.asdict(key).items() if value is not None} for key in keys]}


def read_key_set(jwks: object, at: str = "/jwks/keys") -> tuple[KeySet | None, list[Issue]]:
    """Returns the public keys of a JWKS; or None, and every issue, where the client could not authenticate with all of
    them. `at` is the JSON pointer of the keys."""
    registered = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(registered, list) or not 0 < len(registered) <= MAX_KEYS:
        return None, [
            Issue(
                at,
                "wrong-value",
                f"A JWKS is an object whose keys are an array of 1 to {MAX_KEYS} public keys (RFC 7517).",
            )
        ]
    keys: list[Key] = []
    issues: list[Issue] = []
    for i, data in enumerate(registered):
        try:
            key = import_key(data)
        except (JoseError, ValueError, KeyError, TypeError, AttributeError):  # joserfc does not catch errors of its own parts
            issues.append(Issue(f"{at}/{i}", "wrong-value", "This is not a JSON Web Key of a known type."))
            continue
        if problem := _find_key_problem(key):
            issues.append(Issue(f"{at}/{i}", "wrong-value", problem))
        keys.append(key)
    if not issues and len({key.kid for key in keys}) < len(keys):
        issues.append(Issue(at, "wrong-value", "Each of several keys needs a kid of its own."))
    return (None, issues) if issues else (KeySet(keys), [])


def _find_key_problem(key: Key) -> str | None:
    """Returns why this key cannot verify a client assertion by ES256, RS256, PS256 or Ed25519, or None where it can."""
    if isinstance(key, OctKey) or key.is_private:
        return "This holds a secret. Register the public key, and treat this one as disclosed."
    if key.get("use", "sig") != "sig":
        return "This key is not for signatures: its use is not sig."
    if isinstance(key, RSAKey):
        return None if 2048 <= key.raw_value.key_size <= 4096 else "An RSA key has 2048 to 4096 bits."
    return None if key.curve_name in ("P-256", "Ed25519") else "The curve is P-256 or Ed25519."
