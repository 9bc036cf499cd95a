"""Authentication: finds the Caller of a request by its bearer token (RFC 6750, RFC 9068).

A token is verified once and cached until it expires. The status of its client (whether it is revoked, the origins of its apps, its reach) is read from
the database every few seconds; what has changed meanwhile is noticed by the statements of the request (`domain/access/standing.py`). A rejected
token is not charged to any client's rate limit, and causes a statement at most once in a few seconds.

Tokens are issued and verified by the database's clock. Its time is read with the public keys and advanced by the monotonic clock, so the clock of the
API's machine does not matter.
"""

import re
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, InvalidKeyIdError, JoseError, SecurityWarning
from joserfc.jwk import KeySet, KeySetSerialization
from starlette.requests import Request
from starlette.types import Scope

from api.http.context import get_context
from api.http.jwt import ACCESS_TOKEN, Jwt, read_jwt, verify_signature
from api.http.rate_limit import Buckets, Quotas
from api.http.versions import read_seen_versions
from api.settings import Settings
from domain.access.caller import Caller
from domain.clients.clients import ClientStatus, read_client_status
from domain.clients.signing_keys import TOKEN_LIFE, read_issuing_clock, read_public_keys
from domain.declare.errors import DomainError, Forbidden
from domain.declare.ids import parse_id
from domain.roster.record_pupils.due_rolls import DueRolls
from domain.store.database import Database
from domain.store.replicas import ReadTerms
from domain.store.shared_reads import SharedReads
from domain.support.lru import Lru

# RFC 9864 renames EdDSA to Ed25519; clients may still use the older name, which is as safe with the one curve they may register
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)

LEEWAY = 30
"""Seconds by which clocks may differ."""

MAX_TOKEN_BYTES = 6_000_000
"""Memory of the cached tokens: about 1,500 with every scope."""
STATUS_SECONDS = 5.0
"""Seconds for which the status of a client is cached."""
KEYS_SECONDS = 60.0
"""Seconds for which the public keys and the clock are cached."""
RETRY_SECONDS = 3.0
"""Seconds between two reads of the keys and the clock that rejected tokens may cause."""

SCOPES = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
"""The value of `scope` (RFC 6749, section 3.3). What does not match must not be quoted in an error_description either."""

GET_TOKEN, GET_NEW = "Get one from POST /oauth/token.", "Get a new one from POST /oauth/token."
NO_SCOPE = ""
"""The scope of a token without the claim: of a client that no grant in force gives any (RFC 9068, section 2.2.3)."""


class Unauthorised(Exception):
    """There is no valid access token. `challenge` is the value of WWW-Authenticate (RFC 6750, RFC 9728 section 5.1)."""

    def __init__(self, base_url: str, description: str, *, sent: bool = True) -> None:
        super().__init__(description)
        self.challenge = f'Bearer resource_metadata="{base_url}/.well-known/oauth-protected-resource"'
        if sent:
            self.challenge += f', error="invalid_token", error_description="{description}"'


def get_authenticator(state: Any) -> "Authenticator":
    """The application's authenticator, made when it is first needed."""
    if not hasattr(state, "authenticator"):
        state.authenticator = Authenticator(state.database, state.settings)
    authenticator: Authenticator = state.authenticator
    return authenticator


async def confirm_client(scope: Scope, errors: Iterable[DomainError]) -> None:
    """Raises Unauthorised where the client of a request that is refused has been revoked since its status was cached, and no statement could notice it:
    the token does not have a scope, or the request was refused without the database.
    """
    use = get_context(scope).database_use
    if isinstance(use.client, UUID) and (use.seconds == 0 or any(isinstance(error, Forbidden) for error in errors)):
        await get_authenticator(scope["app"].state).confirm(use.client)


async def authenticate(request: Request) -> Caller:
    """The caller of a request, which is charged to the client's rate limit. The access token is read from the Authorization header only.

    Sets `client_status` and `quota` in the RequestContext, for the response's header fields. Planned rolls whose day has come are applied before the
    client is answered. Raises Unauthorised, QuotaExceeded and Busy.
    """
    authenticator = get_authenticator(request.app.state)
    caller = await authenticator.find_caller(
        [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"authorization"]
    )
    context = get_context(request.scope)
    context.seen_versions = read_seen_versions(request.scope)
    context.client_status = status = await authenticator.find_status(caller)
    context.quota = quota = authenticator.quotas.find(caller.client_id, status.tenants)
    quota.take()
    context.database_use.client = caller.client_id
    has_changed = bool(status.tenants) and await authenticator.due_rolls.apply(caller.client_id, status.snapshot.version)
    if request.scope.get("method") in ("GET", "HEAD") and not has_changed:  # a WebSocket has none
        allow_replicas(request)
    return authenticator.add_standing(caller, status)


def allow_replicas(request: Request) -> None:
    """Lets replicas answer the reads of an authenticated request from now on, if they have the client's present reach and the versions that the
    client has seen."""
    if request.app.state.database.replicas is not None:
        context = get_context(request.scope)
        if isinstance(client_id := context.database_use.client, UUID):
            context.database_use.terms = get_authenticator(request.app.state).make_terms(client_id, context.seen_versions)


def _weigh(caller: Caller, with_reach: Caller) -> int:
    snapshot = with_reach.snapshot
    scopes = len(caller.scopes) + (0 if snapshot is None else len(snapshot.scopes))
    return 1000 + 200 * scopes + (0 if snapshot is None else 80 * len(snapshot.tenants))


class Authenticator:
    """Verifies access tokens. Its caches are bounded. An entry outlives no token, a retired key by at most a minute and a revoked client by 5 seconds."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._base_url = base_url = settings.base_url
        self.due_rolls = DueRolls(database)
        self.quotas: Quotas = Buckets(settings.rate, settings.burst)
        self._tokens: Lru[str, tuple[Caller, float]] = Lru("access tokens", MAX_TOKEN_BYTES)
        self._callers: Lru[Caller, Caller] = Lru("callers", 8_000_000, weigh=_weigh)
        self._statuses: Lru[UUID, tuple[ClientStatus | None, float, float]] = Lru("clients", 4_000_000)
        """The status of each client, since when it counts as read, and when it was read, by time.monotonic."""
        self._keys: KeySet | None = None
        self._key_reads = SharedReads(self._read_keys, lambda: self._database.explain_late())
        self._read_at = self._missed_at = float("-inf")
        self._ahead = time.time() - time.monotonic()
        """Seconds by which the database's clock is ahead of this process's monotonic one."""
        essential: jwt.ClaimsOption = {"essential": True}
        ours: jwt.ClaimsOption = {"essential": True, "value": base_url}
        self._claims = jwt.JWTClaimsRegistry(
            lambda: int(self.now), LEEWAY, iss=ours, aud=ours, sub=essential, exp=essential, client_id=essential
        )

    @property
    def now(self) -> float:
        """The time by the database's clock, in seconds since 1970."""
        return time.monotonic() + self._ahead

    async def find_caller(self, authorization: list[str]) -> Caller:
        """The caller that the values of the Authorization header name. Raises Unauthorised."""
        schemes = [value.partition(" ") for value in authorization]
        if not any(scheme.lower() == "bearer" for scheme, _, _ in schemes):
            raise Unauthorised(self._base_url, f"Send an access token in the Authorization header. {GET_TOKEN}", sent=False)
        if len(schemes) > 1:
            raise Unauthorised(self._base_url, "Send one Authorization header.")
        token = schemes[0][2].lstrip(" ")
        caller, expires_at = self._tokens.get(token) or (None, 0.0)
        if caller is None or expires_at <= self.now:
            self._tokens.discard(token)
            caller = await self._verify(token)
        return caller

    def add_standing(self, caller: Caller, status: ClientStatus) -> Caller:
        """The caller with a snapshot of its reach, and without the scopes that no grant in force gives any more.

        `caller` is that of a token: all scopes of the token.
        """
        standing = self._callers.get(caller)
        if standing is None or standing.snapshot is not status.snapshot:
            scopes = caller.scopes & status.scopes
            of_installation = caller.scopes & status.of_installation
            without_school = caller.scopes & status.without_school
            ended = (caller.scopes - scopes - of_installation) | status.ended
            standing = Caller(caller.client_id, scopes, status.snapshot, without_school, ended, of_installation, caller.scopes)
            self._callers.put(caller, standing)
        return standing

    async def _verify(self, text: str) -> Caller:
        try:
            caller, expires_at = await self._read_token(text)
        except ExpiredTokenError as problem:
            raise Unauthorised(self._base_url, f"The access token has expired. {GET_NEW}") from problem
        except JoseError as problem:
            raise Unauthorised(self._base_url, f"The access token is not valid here. {GET_NEW}") from problem
        self._tokens.put(text, (caller, expires_at))
        self._statuses.discard(caller.client_id)  # it may be older than the token
        return caller

    async def _read_token(self, text: str) -> tuple[Caller, float]:
        """The caller that a token names, and the time at which it expires. Raises JoseError.

        An unknown key may be new, and the database's clock may have been set: after either error the keys and the clock are read again, at most once in
        RETRY_SECONDS.
        """
        token = read_jwt(text, ACCESS_TOKEN)
        if token.type not in ("at+jwt", "application/at+jwt"):
            raise InvalidClaimError("typ")
        if time.monotonic() - self._read_at >= KEYS_SECONDS:
            await self._key_reads.get(None)
        try:
            return self._check_claims(token)
        except (InvalidKeyIdError, ExpiredTokenError, InvalidClaimError):
            if time.monotonic() - self._missed_at < RETRY_SECONDS:
                raise
            self._missed_at = time.monotonic()
            await self._key_reads.get(None)
            return self._check_claims(token)

    def _check_claims(self, token: Jwt) -> tuple[Caller, float]:
        """Checks the signature and every claim with the cached keys and clock. Returns what `_read_token` does."""
        verify_signature(token, self._keys or KeySet([]), ACCESS_TOKEN)
        claims = token.claims
        self._claims.validate(claims)
        client_id, exp = claims["client_id"], claims["exp"]
        scope = claims.get("scope", NO_SCOPE)
        caller_id = parse_id(client_id) if isinstance(client_id, str) else None
        if caller_id is None or claims["sub"] != client_id:
            raise InvalidClaimError("client_id or sub")
        if scope is not NO_SCOPE and not (isinstance(scope, str) and SCOPES.fullmatch(scope)):
            raise InvalidClaimError("scope")
        # joserfc accepts other audiences beside ours, and any exp in the future
        if claims["aud"] not in (self._base_url, [self._base_url]) or not token.is_json:
            raise InvalidClaimError("aud")
        if exp > self.now + TOKEN_LIFE.total_seconds() + LEEWAY:
            raise InvalidClaimError("exp")
        return Caller(caller_id, frozenset(scope.split())), exp + LEEWAY

    async def read_public_keys(self) -> KeySetSerialization:
        """The current public keys."""
        return await self._key_reads.get(None)

    async def _read_keys(self, _: Sequence[None]) -> dict[None, KeySetSerialization]:
        async with self._database.without_caller() as connection:
            keys = await read_public_keys(connection)
            self._set_clock(await read_issuing_clock(connection))
        self._keys = KeySet.import_key_set(keys) if keys["keys"] else KeySet([])
        self._read_at = time.monotonic()
        return {None: keys}

    def note_issued(self, kid: str, now: datetime) -> None:
        """Notes a token that this process has just issued: the database's time, and whether its key is new, so that the keys are read again.

        Rejected tokens may use up the reads that RETRY_SECONDS allows; a new key does not depend on these.
        """
        self._set_clock(now)
        if self._keys is not None and kid not in [key.kid for key in self._keys]:
            self._read_at = float("-inf")

    def _set_clock(self, now: datetime) -> None:
        self._ahead = now.timestamp() - time.monotonic()

    async def find_status(self, caller: Caller) -> ClientStatus:
        """The status of a client, at most STATUS_SECONDS old; just read where scopes of the token have ended or reach no school, since that may have changed.

        Raises Unauthorised where the client is revoked, which is cached as well.
        """
        client_id, now = caller.client_id, time.monotonic()
        never = float("-inf")
        status, counted_at, read_at = self._statuses.get(client_id) or (None, never, never)
        has_ended = status is not None and (
            not caller.scopes <= status.scopes | status.of_installation or not caller.scopes.isdisjoint(status.without_school)
        )
        if now - counted_at > STATUS_SECONDS or has_ended:
            if counted_at > 0 and not has_ended:  # one request reads it again; the others use the cached one
                self._statuses.put(client_id, (status, now, read_at))
            async with self._database.without_caller() as connection:
                status = await read_client_status(connection, client_id)
            self._statuses.put(client_id, (status, now, now))
        return self._require(status)

    async def confirm(self, client_id: UUID) -> None:
        """Reads the status of a client again. Raises Unauthorised where it is revoked."""
        now = time.monotonic()
        async with self._database.without_caller() as connection:
            status = await read_client_status(connection, client_id)
        self._statuses.put(client_id, (status, now, now))
        self._require(status)

    def make_terms(self, client_id: UUID, seen: Mapping[UUID, int]) -> ReadTerms | None:
        """The terms of a read on a replica: the reach that the client had when its status was read, and the versions that it has seen."""
        status, _, read_at = self._statuses.get(client_id) or (None, 0.0, 0.0)
        return None if status is None else ReadTerms(client_id, status.snapshot.version, read_at, (*seen,), (*seen.values(),))

    def _require(self, status: ClientStatus | None) -> ClientStatus:
        if status is None:
            raise Unauthorised(self._base_url, "The client is revoked.")
        return status
