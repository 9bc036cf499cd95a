"""Who asks: from the bearer token of a request (RFC 6750, RFC 9068) to a Caller.

A token is verified once and remembered until it expires; how its client stands (that it is not revoked, the origins of its apps, how many tenants
it reaches) is asked of the database again every few seconds. A token that is refused spends no client's quota, and causes a statement at most once in
a few seconds.

Tokens are issued and verified by the same clock, which is the database's. Its time is read with the public keys and advanced by the monotonic clock,
so the clock of the API's machine does not matter.
"""

import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, InvalidKeyIdError, JoseError, SecurityWarning
from joserfc.jwk import KeySet, KeySetSerialization
from starlette.requests import Request

from api.http.jwt import ACCESS_TOKEN, Jwt, read, verify
from api.http.rate_limit import Buckets
from api.settings import Settings
from domain.access.caller import Caller, ReachSnapshot
from domain.clients.clients import ClientStatus, read_client_status
from domain.clients.signing_keys import TOKEN_LIFE, read_issuing_clock, read_public_keys
from domain.declare.ids import parse_id
from domain.store.database import Database, database_use
from domain.store.shared_reads import SharedReads
from domain.support.lru import Lru

# RFC 9864 renames EdDSA to Ed25519; clients may still say the older name, which is as safe with the one curve they may register
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)

LEEWAY = 30
"""Seconds by which clocks may differ."""

MAX_TOKENS = 6_000_000
"""Bytes of the tokens remembered: about 1,500 with every scope."""
STANDS_FOR = 5.0
KEYS_FOR = 60.0
MISS_EVERY = 3.0
"""Seconds between two readings of the keys and the clock that tokens which are refused may cause."""

SCOPES = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
"""RFC 6749 section 3.3. What does not match may not be repeated in an error_description either."""


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


async def authenticate(request: Request) -> Caller:
    """The caller of a request, which counts against its quota. The access token stands in the Authorization header and nowhere else.

    `standing` and `bucket` are noted in the scope, for what is told with the answer. Raises Unauthorised, QuotaExceeded.
    """
    authenticator = get_authenticator(request.app.state)
    caller = await authenticator.caller(
        [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"authorization"]
    )
    stands = await authenticator.standing(caller.client_id)
    bucket = authenticator.buckets.of(caller.client_id, stands.tenants)
    request.scope.update(standing=stands, bucket=bucket)
    bucket.take()
    if use := database_use.get():
        use.client = caller.client_id
    return authenticator.asking(caller, stands.snapshot)


def _weigh(caller: Caller, asking: Caller) -> int:
    snapshot = asking.snapshot
    scopes = len(caller.scopes) + (0 if snapshot is None else len(snapshot.scopes))
    return 1000 + 200 * scopes + (0 if snapshot is None else 80 * len(snapshot.tenants or ()))


class Authenticator:
    """Verifies access tokens. Its memory is bounded and never outlives a token, a key's retirement by a minute or a client by 5 seconds."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._base_url = base_url = settings.base_url
        self.buckets = Buckets(settings.rate, settings.burst)
        self._tokens: Lru[str, tuple[Caller, float]] = Lru("access tokens", MAX_TOKENS)
        self._asking: Lru[Caller, Caller] = Lru("callers", 8_000_000, weigh=_weigh)
        self._standing: Lru[UUID, tuple[ClientStatus | None, float]] = Lru("clients", 4_000_000)
        self._keys: KeySet | None = None
        self._key_reads = SharedReads(self._read_keys)
        self._read_at = self._missed_at = float("-inf")
        self._ahead = time.time() - time.monotonic()
        """Seconds by which the database's clock is ahead of this process's monotonic one."""
        essential: jwt.ClaimsOption = {"essential": True}
        ours: jwt.ClaimsOption = {"essential": True, "value": base_url}
        self._claims = jwt.JWTClaimsRegistry(
            lambda: int(self.now), LEEWAY, iss=ours, aud=ours, sub=essential, exp=essential, client_id=essential, scope=essential
        )

    @property
    def now(self) -> float:
        """The time by the database's clock, in seconds since 1970."""
        return time.monotonic() + self._ahead

    async def caller(self, authorization: list[str]) -> Caller:
        """The caller named by the values of the Authorization header. Raises Unauthorised."""
        schemes = [value.partition(" ") for value in authorization]
        if not any(scheme.lower() == "bearer" for scheme, _, _ in schemes):
            raise Unauthorised(self._base_url, "Send an access token in the Authorization header.", sent=False)
        if len(schemes) > 1:
            raise Unauthorised(self._base_url, "Send one Authorization header.")
        token = schemes[0][2].lstrip(" ")
        caller, expires_at = self._tokens.get(token) or (None, 0.0)
        if caller is None or expires_at <= self.now:
            self._tokens.discard(token)
            caller = await self._verify(token)
        return caller

    def asking(self, caller: Caller, snapshot: ReachSnapshot) -> Caller:
        """The caller with its reach as it is now."""
        known = self._asking.get(caller)
        if known is None or known.snapshot is not snapshot:
            known = self._asking.put(caller, replace(caller, snapshot=snapshot))
        return known

    async def _verify(self, text: str) -> Caller:
        try:
            caller, expires_at = await self._read(text)
        except ExpiredTokenError as problem:
            raise Unauthorised(self._base_url, "The access token has expired.") from problem
        except JoseError as problem:
            raise Unauthorised(self._base_url, "The access token is not valid here.") from problem
        self._tokens.put(text, (caller, expires_at))
        return caller

    async def _read(self, text: str) -> tuple[Caller, float]:
        """The caller that a token names, and the time from which it is refused. Raises JoseError.

        An unknown key may be a new one, and a wrong time may be right since the database's clock was set: keys and clock are read again, at most
        once in MISS_EVERY seconds.
        """
        token = read(text, ACCESS_TOKEN)
        if token.type not in ("at+jwt", "application/at+jwt"):
            raise InvalidClaimError("typ")
        if time.monotonic() - self._read_at >= KEYS_FOR:
            await self._key_reads.get(None)
        try:
            return self._check(token)
        except (InvalidKeyIdError, ExpiredTokenError, InvalidClaimError):
            if time.monotonic() - self._missed_at < MISS_EVERY:
                raise
            self._missed_at = time.monotonic()
            await self._key_reads.get(None)
            return self._check(token)

    def _check(self, token: Jwt) -> tuple[Caller, float]:
        """Checks the signature, and the type and value of every claim, by the keys and the clock as they are. Answers what `_read` does."""
        verify(token, self._keys or KeySet([]), ACCESS_TOKEN)
        claims = token.claims
        self._claims.validate(claims)
        client_id, scope, exp = claims["client_id"], claims["scope"], claims["exp"]
        named = parse_id(client_id) if isinstance(client_id, str) else None
        if named is None or claims["sub"] != client_id or not isinstance(scope, str) or not SCOPES.fullmatch(scope):
            raise InvalidClaimError("client_id, sub or scope")
        # joserfc accepts other audiences beside ours, and any exp in the future
        if claims["aud"] not in (self._base_url, [self._base_url]) or not token.is_json:
            raise InvalidClaimError("aud")
        if exp > self.now + TOKEN_LIFE.total_seconds() + LEEWAY:
            raise InvalidClaimError("exp")
        return Caller(named, frozenset(scope.split(" "))), exp + LEEWAY

    async def read_public_keys(self) -> KeySetSerialization:
        """The keys in force now."""
        return await self._key_reads.get(None)

    async def _read_keys(self, _: Sequence[None]) -> dict[None, KeySetSerialization]:
        async with self._database.without_caller() as connection:
            found = await read_public_keys(connection)
            self._set_clock(await read_issuing_clock(connection))
        self._keys = KeySet.import_key_set(found) if found["keys"] else KeySet([])
        self._read_at = time.monotonic()
        return {None: found}

    def note_issued(self, kid: str, now: datetime) -> None:
        """Takes note of a token that this process has just issued: of the database's time, and of a key that is new, so that the keys are read again.
        Tokens that are refused may use up the readings that MISS_EVERY allows; a new key does not depend on these."""
        self._set_clock(now)
        if self._keys is not None and kid not in [key.kid for key in self._keys]:
            self._read_at = float("-inf")

    def _set_clock(self, now: datetime) -> None:
        self._ahead = now.timestamp() - time.monotonic()

    async def standing(self, client_id: UUID) -> ClientStatus:
        """How the client stands. Raises Unauthorised when it is revoked. That is remembered as long, so that its tokens cost no statement each."""
        now = time.monotonic()
        found, read_at = self._standing.get(client_id) or (None, float("-inf"))
        if now - read_at > STANDS_FOR:
            if read_at > 0:  # while it is asked again by one request, the others go on
                self._standing.put(client_id, (found, now))
            async with self._database.without_caller() as connection:
                found = await read_client_status(connection, client_id)
            self._standing.put(client_id, (found, now))
        if found is None:
            raise Unauthorised(self._base_url, "The client is revoked.")
        return found
