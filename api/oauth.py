"""The authorization server: discovery (RFC 8414, RFC 9728), the public keys and the token endpoint for client_credentials (RFC 6749).

A client proves itself by client_secret_basic, client_secret_post or private_key_jwt (RFC 7523 with draft-ietf-oauth-rfc7523bis: the issuer
is the sole audience) and gets an `at+jwt` (RFC 9068) of ten minutes. The metadata lists what exists and nothing else. joserfc writes and verifies
the JWTs; the decisions are here and every fact they rest on comes from `domain.consent.clients`.

Credentials are verified before anything is counted. A wrong attempt counts against the client that it names together with its address, and is 429
beyond the limit. A right one counts against the client alone. So guesses never make the client's own requests 429, whatever address they come from.
Unknown clients are counted and answered like known ones. All attempts that wait at the same time are verified against one small read.
"""

import asyncio
import base64
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias, TypeGuard
from urllib.parse import parse_qsl, unquote_plus

from joserfc import jwt
from joserfc.errors import BadSignatureError, JoseError
from joserfc.jwk import ECKey, OKPKey, import_key
from joserfc.util import urlsafe_b64encode
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.auth import LEEWAY, SCOPES, get_authenticator
from api.jose import CLIENT_ASSERTION, Jwt, read, verify
from api.quota import QuotaExceeded, find_network
from domain.consent.clients import (
    TOKEN_LIFE,
    Applicant,
    Assertion,
    Attempt,
    Credentials,
    Replayed,
    admit,
    read_credentials,
)
from domain.engine.access import Scope
from domain.engine.ids import NIL, parse_id
from domain.engine.shared_reads import SharedReads

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_TYPES = ("jwt", "client-authentication+jwt", "application/client-authentication+jwt")
ASSERTION_LIFE = 300
MAX_BODY, MAX_PARAMETERS = 16_384, 32
DEADLINE = 10  # seconds for the body
CACHED = {"Cache-Control": "public, max-age=60"}

NOT_SIGNED = "The client is not known, or none of its keys (named by kid, where there are several) made this signature."
REPLAYED = "The jti of this assertion was used before. Sign a new one for each request."

Form: TypeAlias = dict[str, str]
Prove: TypeAlias = Callable[[Credentials], Assertion | None]


class Refused(Exception):
    """An error response of the token endpoint (RFC 6749 section 5.2); `basic` when the client came with an Authorization header."""

    def __init__(self, error: str, description: str, status: int = 400, *, basic: bool = False, wait: int | None = None) -> None:
        super().__init__(description)
        self.error, self.status, self.basic, self.wait = error, status, basic, wait


def routes() -> list[Route]:
    """The endpoints; they find `database` and `settings` (base_url, secret) in the application's state."""
    return [
        Route("/.well-known/oauth-authorization-server", server_metadata, methods=["GET"]),
        Route("/.well-known/oauth-protected-resource", resource_metadata, methods=["GET"]),
        Route("/oauth/jwks", jwks, methods=["GET"]),
        Route("/oauth/token", token, methods=["POST"]),
    ]


async def server_metadata(request: Request) -> Response:
    """RFC 8414. Its list of response types is required, and empty while there is no authorization endpoint."""
    issuer = request.app.state.settings.base_url
    document = {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth/token",
        "jwks_uri": f"{issuer}/oauth/jwks",
        "scopes_supported": list(Scope),
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": CLIENT_ASSERTION.allowed,
    }
    return JSONResponse(document, headers=CACHED)


async def resource_metadata(request: Request) -> Response:
    """RFC 9728. The resource, and so the audience of its tokens, is the whole installation."""
    resource = request.app.state.settings.base_url
    document = {
        "resource": resource,
        "resource_name": "Markonce",
        "authorization_servers": [resource],
        "scopes_supported": list(Scope),
        "bearer_methods_supported": ["header"],
    }
    return JSONResponse(document, headers=CACHED)


async def jwks(request: Request) -> Response:
    """The keys of access tokens in force (RFC 7517)."""
    return JSONResponse(await get_authenticator(request.app.state).read_public_keys(), headers=CACHED)


async def token(request: Request) -> Response:
    """RFC 6749 section 4.4."""
    try:
        answer = await _answer(request)
    except Refused as refused:
        headers = {"Cache-Control": "no-store"}
        if refused.status == 401 and refused.basic:
            headers["WWW-Authenticate"] = 'Basic realm="markonce", charset="UTF-8"'
        if refused.wait is not None:
            headers["Retry-After"] = str(refused.wait)
        return JSONResponse({"error": refused.error, "error_description": str(refused)}, refused.status, headers)
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


async def _answer(request: Request) -> dict[str, Any]:
    state = request.app.state
    form = await _form(request)
    if "grant_type" not in form:
        raise Refused("invalid_request", "The parameter grant_type is required.")
    if form["grant_type"] != "client_credentials":
        raise Refused("unsupported_grant_type", "The one grant type is client_credentials.")
    attempt, prove = _credentials(request.headers.getlist("authorization"), form, state.settings.base_url)
    applicant = await _authenticate_client(request, attempt, prove)
    scope = " ".join(sorted(_scopes(form.get("scope"), applicant.scopes)))
    access_token = _access_token(applicant, scope, state.settings.base_url, state.settings.secret)
    get_authenticator(state).note_issued(str(applicant.kid), applicant.now)
    return {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": int(TOKEN_LIFE.total_seconds()),
        "scope": scope,
    }


async def _authenticate_client(request: Request, attempt: Attempt, prove: Prove) -> Applicant:
    """The client, if the attempt proves it. A wrong attempt takes from the bucket of client and address, a right one from the client's own."""
    state, (client_id, _) = request.app.state, attempt
    if not hasattr(state, "credential_reads"):
        state.credential_reads = SharedReads(partial(read_credentials, state.database))
    reads: SharedReads[Attempt, Credentials] = state.credential_reads
    try:
        prove(await reads.get(attempt))  # this refuses what is wrong; what is right is decided by admit
        state.attempts.of(client_id).take()
        return await admit(state.database, client_id, prove)
    except QuotaExceeded as problem:  # RFC 6749 has no word for it; this one it has for the authorization endpoint
        description = "This client asks for too many tokens; each of them lasts for minutes."
        raise Refused("temporarily_unavailable", description, 429, wait=problem.wait) from problem
    except Replayed:
        wrong = Refused("invalid_client", REPLAYED, 401)
    except Refused as refused:
        wrong = refused
    try:
        state.attempts.of((client_id, find_network(request.client.host if request.client else ""))).take()
    except QuotaExceeded as problem:
        description = "There are too many wrong attempts for this client from this address. A right one is taken at any time."
        raise Refused("temporarily_unavailable", description, 429, wait=problem.wait) from problem
    raise wrong


def _access_token(applicant: Applicant, scope: str, base_url: str, secret: bytes) -> str:
    """RFC 9068. The issuer and the resource are one installation and share its URL."""
    key, client_id, now = applicant.signing_key(secret), str(applicant.client_id), int(applicant.now.timestamp())
    claims = {
        "iss": base_url,
        "sub": client_id,
        "aud": base_url,
        "client_id": client_id,
        "scope": scope,
        "iat": now,
        "exp": now + int(TOKEN_LIFE.total_seconds()),
        "jti": secrets.token_urlsafe(16),
    }
    return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": applicant.kid}, claims, key, ["ES256"])


def _scopes(asked: str | None, held: frozenset[str]) -> frozenset[str]:
    """What the token carries: what was asked for, or all that the grants in force give. Never less than was asked without saying so."""
    if not held:
        raise Refused("invalid_scope", "No grant in force gives this client any scope.")
    if asked is None:
        return held
    if not SCOPES.fullmatch(asked):
        raise Refused("invalid_scope", "The scope is a list of names with one space between them.")
    if missing := [scope for scope in dict.fromkeys(asked.split(" ")) if scope not in held]:
        raise Refused("invalid_scope", f"No grant in force gives this client {', '.join(missing)}.")
    return frozenset(asked.split(" "))


async def _form(request: Request) -> Form:
    """The parameters of the body. One without a value counts as left out, one given twice is an error (RFC 6749 section 3.2)."""
    if request.scope["query_string"]:
        raise Refused("invalid_request", "Parameters stand in the body, never in the URL.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise Refused("invalid_request", "The body is application/x-www-form-urlencoded.")
    body = b""
    try:
        async with asyncio.timeout(DEADLINE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise Refused("invalid_request", f"The body has at most {MAX_BODY} bytes.", 413)
    except TimeoutError as problem:
        raise Refused("invalid_request", f"The body arrives within {DEADLINE} seconds.", 408) from problem
    except (ClientDisconnect, OSError, RuntimeError) as problem:
        raise Refused("invalid_request", "The body ended before it was whole.") from problem
    try:
        pairs = parse_qsl(body.decode("ascii"), True, True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError as problem:
        raise Refused("invalid_request", "The body cannot be read as application/x-www-form-urlencoded.") from problem
    if len(dict(pairs)) < len(pairs):
        raise Refused("invalid_request", "A parameter is given twice.")
    return {name: value for name, value in pairs if value}


def _credentials(authorization: list[str], form: Form, issuer: str) -> tuple[Attempt, Prove]:
    """Who the client says it is, and how that is proved. It uses one method and names itself one way (RFC 6749 section 2.3)."""
    by_assertion = "client_assertion" in form or "client_assertion_type" in form
    methods = len(authorization) + ("client_secret" in form) + by_assertion
    if methods > 1:
        raise Refused("invalid_request", "Use one method of client authentication, once.")
    if methods == 0:
        raise Refused("invalid_client", "The client must authenticate.", 401)
    jti = ""
    if authorization:
        client_id, secret = _basic(authorization[0])
        prove = _by_secret(secret, basic=True)
    elif by_assertion:
        if form.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in form:
            raise Refused("invalid_request", f"A client_assertion goes with the client_assertion_type {ASSERTION_TYPE}.")
        client_id, jti, prove = _read_assertion(form["client_assertion"], issuer)
    else:
        client_id, prove = form.get("client_id", ""), _by_secret(form["client_secret"], basic=False)
    if form.get("client_id", client_id) != client_id:
        raise Refused("invalid_request", "The client_id is not the one that authenticates.")
    return (parse_id(client_id) or NIL, jti), prove


def _basic(authorization: str) -> tuple[str, str]:
    """Id and secret, each of which was form-urlencoded before they were joined (RFC 6749 section 2.3.1)."""
    scheme, _, credentials = authorization.partition(" ")
    try:
        joined = base64.b64decode(credentials.strip(), validate=True).decode("ascii")
        client_id, colon, secret = joined.partition(":")
        if scheme.lower() != "basic" or not colon:
            raise ValueError(scheme)
        return unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError as problem:
        raise Refused("invalid_client", "The Authorization header is not that of HTTP Basic.", 401, basic=True) from problem


def _by_secret(secret: str, *, basic: bool) -> Prove:
    def prove(credentials: Credentials) -> None:
        if not credentials.has_secret(secret):
            raise Refused("invalid_client", "The client is not known or its secret is not right.", 401, basic=basic)

    return prove


def _read_assertion(text: str, issuer: str) -> tuple[str, str, Prove]:
    """The sub and the jti of an assertion, which are not verified yet and only tell which credentials to read, and its proof."""
    try:
        token = read(text, CLIENT_ASSERTION)
    except JoseError as problem:
        raise Refused("invalid_client", NOT_SIGNED, 401) from problem
    client_id, jti = token.claims.get("sub"), token.claims.get("jti")
    if not isinstance(client_id, str):
        raise Refused("invalid_client", NOT_SIGNED, 401)
    return client_id, jti if _is_jti(jti) else "", _by_assertion(token, issuer)


def _by_assertion(token: Jwt, issuer: str) -> Prove:
    """What is said of a claim is said only to who holds the key; to all others, an unknown client and a wrong signature are the same."""

    def prove(credentials: Credentials) -> Assertion:
        try:
            _verify_by_own_key(token, credentials)
        except JoseError as problem:
            raise Refused("invalid_client", NOT_SIGNED, 401) from problem
        if wrong := _wrong_claim(token, str(credentials.client_id), issuer, credentials.now.timestamp()):
            raise Refused("invalid_client", f"The client assertion is refused: {wrong}.", 401)
        if credentials.is_used:
            raise Refused("invalid_client", REPLAYED, 401)
        return Assertion(token.claims["jti"], datetime.fromtimestamp(token.claims["exp"] + LEEWAY, UTC))

    return prove


def _verify_by_own_key(token: Jwt, credentials: Credentials) -> None:
    """Verifies an assertion with the key that it names, or with the only key there is. Raises JoseError.

    Without such a key it is verified with a key that nobody has, so that the time of a refusal does not tell whether the client exists.
    """
    registered = credentials.jwks["keys"] if credentials.jwks else []
    named = [key for key in registered if token.header.get("kid", key.get("kid")) == key.get("kid")]
    is_named = len(named) == 1
    try:
        key = import_key(dict(named[0]) if is_named else dict(NOBODYS_KEYS[token.header["alg"][:2]]))
    except (ValueError, TypeError, KeyError, AttributeError) as problem:  # joserfc lets through what its parts raise
        raise BadSignatureError from problem
    verify(token, key, CLIENT_ASSERTION)
    if not is_named:
        raise BadSignatureError


_NOBODYS_RSA = {"kty": "RSA", "e": "AQAB", "n": urlsafe_b64encode(b"\xff" + secrets.token_bytes(254) + b"\xff").decode()}
NOBODYS_KEYS: Mapping[str, Mapping[str, Any]] = {
    "ES": ECKey.generate_key("P-256").as_dict(private=False),
    "Ed": OKPKey.generate_key("Ed25519").as_dict(private=False),
    "RS": _NOBODYS_RSA,
    "PS": _NOBODYS_RSA,
}
"""By the first letters of an algorithm; new in each process."""


def _is_jti(jti: object) -> TypeGuard[str]:
    return isinstance(jti, str) and jti.isprintable() and 0 < len(jti) <= 255


def _wrong_claim(token: Jwt, client_id: str, issuer: str, now: float) -> str | None:
    """What is wrong with a client assertion (RFC 7523 section 3), or None. `jti` is required: without it a replay cannot be told."""
    claims = token.claims
    if token.type not in ASSERTION_TYPES:
        return "its typ is that of another kind of token"
    if claims.get("iss") != client_id:  # sub is: it named the client whose keys verified this
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
    if claims["exp"] > now + ASSERTION_LIFE + LEEWAY:
        return f"exp is at most {ASSERTION_LIFE} seconds ahead"
    return None if token.is_json else "its claims are not JSON, which has no NaN and no Infinity"
