"""The authorization server: discovery (RFC 8414, RFC 9728), the public keys and the token endpoint for client_credentials (RFC 6749).

A client proves itself by client_secret_basic, client_secret_post or private_key_jwt (RFC 7523 with draft-ietf-oauth-rfc7523bis: the issuer
is the sole audience) and gets an `at+jwt` (RFC 9068) of ten minutes. The metadata lists what exists and nothing else. Attempts are
limited by the client they name, good and bad ones alike, so that nobody can guess for long. joserfc reads and
writes the JWTs; the decisions are here and every fact they rest on comes from one transaction of `domain.consent.clients`.
"""

import asyncio
import base64
import json
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote_plus

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.auth import LEEWAY, verified
from api.quota import QuotaExceeded
from domain.consent.clients import TOKEN_LIFE, Applicant, Assertion, Replayed, admit, public_keys
from domain.engine.access import Scope
from domain.engine.ids import NIL, parse_id

ALGORITHMS = ("ES256", "RS256", "PS256", "EdDSA", "Ed25519")
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_TYPES = ("jwt", "client-authentication+jwt", "application/client-authentication+jwt")
ASSERTION_LIFE = 300
MAX_BODY, MAX_PARAMETERS = 16_384, 32
DEADLINE = 10  # seconds for the body
CACHED = {"Cache-Control": "public, max-age=60"}

SCOPES = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
"""RFC 6749 section 3.3. What does not match may not be repeated in an error_description either."""

Form: TypeAlias = dict[str, str]
Prove: TypeAlias = Callable[[Applicant], Assertion | None]


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
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
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
    async with request.app.state.database.register() as connection:
        return JSONResponse(await public_keys(connection), headers=CACHED)


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
    client_id, prove = _credentials(request.headers.getlist("authorization"), form, state.settings.base_url)
    known_as = parse_id(client_id) or NIL
    try:
        state.attempts.of(str(known_as)).take()
        applicant = await admit(state.database, known_as, prove)
    except QuotaExceeded as problem:  # RFC 6749 has no word for it; this one it has for the authorization endpoint
        description = "This client asks for too many tokens; each of them lasts for minutes."
        raise Refused("temporarily_unavailable", description, 429, wait=problem.wait) from problem
    except Replayed as problem:
        raise Refused(
            "invalid_client", "The jti of this assertion was used before. Sign a new one for each request.", 401
        ) from problem
    scope = " ".join(sorted(_scopes(form.get("scope"), applicant.scopes)))
    return {
        "access_token": _access_token(applicant, scope, state.settings.base_url, state.settings.secret),
        "token_type": "Bearer",
        "expires_in": int(TOKEN_LIFE.total_seconds()),
        "scope": scope,
    }


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


def _credentials(authorization: list[str], form: Form, issuer: str) -> tuple[str, Prove]:
    """Who the client says it is, and how that is proved. It uses one method and names itself one way (RFC 6749 section 2.3)."""
    by_assertion = "client_assertion" in form or "client_assertion_type" in form
    methods = len(authorization) + ("client_secret" in form) + by_assertion
    if methods > 1:
        raise Refused("invalid_request", "Use one method of client authentication, once.")
    if methods == 0:
        raise Refused("invalid_client", "The client must authenticate.", 401)
    if authorization:
        client_id, secret = _basic(authorization[0])
        prove = _by_secret(secret, basic=True)
    elif by_assertion:
        if form.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in form:
            raise Refused("invalid_request", f"A client_assertion goes with the client_assertion_type {ASSERTION_TYPE}.")
        client_id = _claimed_subject(form["client_assertion"])
        prove = _by_assertion(form["client_assertion"], issuer)
    else:
        client_id, prove = form.get("client_id", ""), _by_secret(form["client_secret"], basic=False)
    if form.get("client_id", client_id) != client_id:
        raise Refused("invalid_request", "The client_id is not the one that authenticates.")
    return client_id, prove


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
    def prove(applicant: Applicant) -> None:
        if not applicant.has_secret(secret):
            raise Refused("invalid_client", "The client is not known or its secret is not right.", 401, basic=basic)

    return prove


def _by_assertion(assertion: str, issuer: str) -> Prove:
    """What is said of a claim is said only to who holds the key; to all others, an unknown client and a wrong signature are the same."""

    def prove(applicant: Applicant) -> Assertion:
        try:
            read = verified(assertion, KeySet.import_key_set(applicant.jwks or {"keys": []}), ALGORITHMS)
        except JoseError as problem:
            description = (
                "The client is not known, or none of its keys (named by kid, where there are several) made this signature."
            )
            raise Refused("invalid_client", description, 401) from problem
        if wrong := _wrong_claim(read, str(applicant.client_id), issuer, applicant.now.timestamp()):
            raise Refused("invalid_client", f"The client assertion is refused: {wrong}.", 401)
        return Assertion(read.claims["jti"], datetime.fromtimestamp(read.claims["exp"] + LEEWAY, UTC))

    return prove


def _wrong_claim(read: jwt.Token, client_id: str, issuer: str, now: float) -> str | None:
    """What is wrong with a client assertion (RFC 7523 section 3), or None. `jti` is required: without it a replay cannot be told."""
    claims, jti = read.claims, read.claims.get("jti")
    if str(read.header.get("typ", "JWT")).lower() not in ASSERTION_TYPES:
        return "its typ is that of another kind of token"
    if claims.get("iss") != client_id:  # sub is: it named the client whose keys verified this
        return "iss and sub are both the client_id"
    if claims.get("aud") not in (issuer, [issuer]):
        return f"aud is the issuer, {issuer}, and nothing else"
    if not isinstance(jti, str) or not jti.isprintable() or not 0 < len(jti) <= 255:
        return "jti is a text of 1 to 255 characters, new for each assertion"
    times: jwt.ClaimsOption = {"essential": True}
    try:
        jwt.JWTClaimsRegistry(int(now), LEEWAY, exp=times, iat=times).validate(claims)
    except JoseError as problem:
        return problem.description.rstrip(".") if problem.description else "its times are not right"
    return f"exp is at most {ASSERTION_LIFE} seconds ahead" if claims["exp"] > now + ASSERTION_LIFE + LEEWAY else None


def _claimed_subject(assertion: str) -> str:
    """The sub of an assertion nobody has verified yet: it picks the keys to verify with and decides nothing. Empty where it cannot be read."""
    try:
        subject = json.loads(jws.extract_compact(assertion.encode()).payload)["sub"]
    except Exception:  # whatever a malformed token makes joserfc and json raise
        return ""
    return subject if isinstance(subject, str) else ""
