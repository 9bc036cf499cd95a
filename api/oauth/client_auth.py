"""Client authentication (RFC 6749 section 2.3): client_secret_basic, client_secret_post, or private_key_jwt (RFC 7523
with draft-ietf-oauth-rfc7523bis, where the issuer is the only audience).

The request's credentials are read first. They name a client, and are then verified against that client's stored
credentials. An unknown or revoked client is refused with the same error, after the same work, as a client whose
credentials are wrong.
"""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeAlias, TypeGuard
from urllib.parse import unquote_plus

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import ECKey, OKPKey, import_key
from joserfc.util import urlsafe_b64encode

from api.http.auth import LEEWAY
from api.http.jwt import CLIENT_ASSERTION, Jwt, read_jwt, verify_signature
from api.oauth.errors import TokenError
from api.oauth.form import Form
from domain.clients.tokens import Assertion, Attempt, Credentials
from domain.declare.ids import NIL, parse_id

BASIC, POST, JWT = METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_TYPES = ("jwt", "client-authentication+jwt", "application/client-authentication+jwt")
MAX_ASSERTION_SECONDS = 300
"""How far ahead the exp of an assertion may be."""

NOT_SIGNED = "The client is not known, or none of its keys (named by kid, where there are several) made this signature."
NOT_AUTHENTICATED = "The client must authenticate, by HTTP Basic with its id and secret, or by private_key_jwt."
REPLAYED = "The jti of this assertion was used before. Sign a new one for each request."


@dataclass(frozen=True)
class SecretAuth:
    """A client's id and secret, from the Authorization header or from the body."""

    method: str
    client_id: str
    secret: str

    @property
    def attempt(self) -> Attempt:
        return Attempt(parse_id(self.client_id) or NIL)

    def verify(self, credentials: Credentials) -> None:
        """Raises TokenError where this is not a secret of the client."""
        if not credentials.has_secret(self.secret):
            description = "The client is not known or its secret is not right."
            raise TokenError("invalid_client", description, 401, is_basic=self.method == BASIC)


@dataclass(frozen=True)
class AssertionAuth:
    """A client assertion (RFC 7523). `client_id` is its sub, which names the client whose keys verify it."""

    method: ClassVar[str] = JWT
    client_id: str
    token: Jwt
    issuer: str

    @property
    def attempt(self) -> Attempt:
        jti = self.token.claims.get("jti")
        return Attempt(parse_id(self.client_id) or NIL, jti if _is_jti(jti) else "")

    def verify(self, credentials: Credentials) -> Assertion:
        """Returns the assertion to store, so that it is accepted only once. Raises TokenError.

        The error names a wrong claim only where the signature is valid.
        """
        try:
            _verify_signature(self.token, credentials)
        except JoseError as problem:
            raise TokenError("invalid_client", NOT_SIGNED, 401) from problem
        if reason := _find_wrong_claim(self.token, str(credentials.client_id), self.issuer, credentials.now.timestamp()):
            raise TokenError("invalid_client", f"The client assertion is refused: {reason}.", 401)
        if credentials.is_used:
            raise TokenError("invalid_client", REPLAYED, 401)
        claims = self.token.claims
        return Assertion(claims["jti"], datetime.fromtimestamp(claims["exp"] + LEEWAY, UTC))


ClientAuth: TypeAlias = SecretAuth | AssertionAuth


def read_client_auth(authorization: list[str], form: Form, issuer: str) -> ClientAuth:
    """Reads the client's credentials from the values of the Authorization header and from the form.

    Raises TokenError, also where the request uses several methods or names several clients.
    """
    has_assertion = "client_assertion" in form or "client_assertion_type" in form
    methods = len(authorization) + ("client_secret" in form) + has_assertion
    if methods > 1:
        raise TokenError("invalid_request", "Use one method of client authentication, once.")
    if methods == 0:
        raise TokenError("invalid_client", NOT_AUTHENTICATED, 401)
    client_auth: ClientAuth
    if authorization:
        client_auth = _read_basic(authorization[0])
    elif has_assertion:
        client_auth = _read_assertion(form, issuer)
    else:
        client_auth = SecretAuth(POST, form.get("client_id", ""), form["client_secret"])
    if form.get("client_id", client_auth.client_id) != client_auth.client_id:
        raise TokenError("invalid_request", "The client_id is not the one that authenticates.")
    return client_auth


def _read_basic(authorization: str) -> SecretAuth:
    """Reads id and secret from HTTP Basic. The client has form-urlencoded both before joining them (RFC 6749 section
    2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        joined = base64.b64decode(encoded.strip(), validate=True).decode("ascii")
        client_id, colon, secret = joined.partition(":")
        if scheme.lower() != "basic" or not colon:
            raise ValueError(scheme)
        return SecretAuth(BASIC, unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict"))
    except ValueError as problem:
        description = "The Authorization header is not that of HTTP Basic."
        raise TokenError("invalid_client", description, 401, is_basic=True) from problem


def _read_assertion(form: Form, issuer: str) -> AssertionAuth:
    if form.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in form:
        raise TokenError("invalid_request", f"A client_assertion goes with the client_assertion_type {ASSERTION_TYPE}.")
    try:
        token = read_jwt(form["client_assertion"], CLIENT_ASSERTION)
    except JoseError as problem:
        raise TokenError("invalid_client", NOT_SIGNED, 401) from problem
    client_id = token.claims.get("sub")
    if not isinstance(client_id, str):
        raise TokenError("invalid_client", NOT_SIGNED, 401)
    return AssertionAuth(client_id, token, issuer)


def _verify_signature(token: Jwt, credentials: Credentials) -> None:
    """Verifies an assertion with the key that its kid names, or with the client's only key. Raises JoseError.

    Without such a key it is verified with a key that nobody has, so that the time of a refusal does not disclose
    whether the client exists.
    """
    registered = credentials.jwks["keys"] if credentials.jwks else []
    candidates = [key for key in registered if token.header.get("kid", key.get("kid")) == key.get("kid")]
    has_key = len(candidates) == 1
    try:
        key = import_key(dict(candidates[0]) if has_key else dict(DUMMY_KEYS[token.header["alg"][:2]]))
    except (ValueError, TypeError, KeyError, AttributeError) as problem:  # joserfc does not catch errors of its own parts
        raise BadSignatureError from problem
    verify_signature(token, key, CLIENT_ASSERTION)
    if not has_key:
        raise BadSignatureError


_DUMMY_RSA = {"kty": "RSA", "e": "AQAB", "n": urlsafe_b64encode(b"\xff" + secrets.token_bytes(254) + b"\xff").decode()}
DUMMY_KEYS: Mapping[str, Mapping[str, Any]] = {
    "ES": ECKey.generate_key("P-256").as_dict(private=False),
    "Ed": OKPKey.generate_key("Ed25519").as_dict(private=False),
    "RS": _DUMMY_RSA,
    "PS": _DUMMY_RSA,
}
"""Public keys without a private key, by the first letters of an algorithm. They are new in each process."""


def _is_jti(jti: object) -> TypeGuard[str]:
    return isinstance(jti, str) and jti.isprintable() and 0 < len(jti) <= 255


def _find_wrong_claim(token: Jwt, client_id: str, issuer: str, now: float) -> str | None:
    """Returns what is wrong with a client assertion (RFC 7523 section 3), or None. `jti` is required, to detect
    replays."""
    claims = token.claims
    if token.type not in ASSERTION_TYPES:
        return "its typ is that of another kind of token"
    if claims.get("iss") != client_id:  # sub is the client_id already: it named the client whose keys verified the assertion
        return "iss and sub are both the client_id"
    if claims.get("aud") not in (issuer, [issuer]):
        return f"aud is the issuer, {issuer}, and nothing else"
    if not _is_jti(claims.get("jti")):
        return "jti is a text of 1 to 255 characters, new for each assertion"
    times: jwt.ClaimsOption = {"essential": True}
    try:
        jwt.JWTClaimsRegistry(int(now), LEEWAY, exp=times, iat=times).validate(claims)
    except JoseError as problem:
        return problem.description.rstrip(".") if problem.description else "its times are not right"
    if claims["exp"] > now + MAX_ASSERTION_SECONDS + LEEWAY:
        return f"exp is at most {MAX_ASSERTION_SECONDS} seconds ahead"
    return None if token.is_json else "its claims are not JSON, which has no NaN and no Infinity"
