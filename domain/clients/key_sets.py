"""Checks the public keys that a client registers (RFC 7517) to authenticate by private_key_jwt."""

from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet, OctKey, RSAKey, import_key

from domain.declare.errors import Issue

MAX_KEYS = 10


def read_key_set(jwks: object) -> tuple[KeySet | None, list[Issue]]:
    """Returns the public keys of a JWKS; or None, and every issue, where the client could not authenticate with all of
    them."""
    registered = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(registered, list) or not 0 < len(registered) <= MAX_KEYS:
        return None, [
            Issue(
                "/jwks/keys",
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
            issues.append(Issue(f"/jwks/keys/{i}", "wrong-value", "This is not a JSON Web Key of a known type."))
            continue
        if problem := _find_key_problem(key):
            issues.append(Issue(f"/jwks/keys/{i}", "wrong-value", problem))
        keys.append(key)
    if not issues and len({key.kid for key in keys}) < len(keys):
        issues.append(Issue("/jwks/keys", "wrong-value", "Each of several keys needs a kid of its own."))
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
