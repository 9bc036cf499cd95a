"""Who asks: from the bearer token of a request (RFC 6750, RFC 9068) to a Caller.

A token is verified once and remembered until it expires; how its client stands (that it is not revoked, the origins of its apps, how many tenants
it reaches) is asked of the database again every few seconds.
"""

import time
import warnings
from collections.abc import Collection
from dataclasses import replace
from uuid import UUID

from joserfc import jwt
from joserfc.errors import BadSignatureError, ExpiredTokenError, InvalidKeyIdError, JoseError, SecurityWarning
from joserfc.jwk import KeySet
from starlette.requests import Request

from api.quota import Buckets
from api.settings import Settings
from domain.consent.clients import Standing, public_keys, standing
from domain.engine.access import Caller, Uniform
from domain.engine.database import Database
from domain.engine.lru import Lru

# RFC 9864 renames EdDSA to Ed25519; clients may still say the older name, which is as safe with the one curve they may register
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)

LEEWAY = 30
"""Seconds by which clocks may differ."""

MAX_TOKENS = 6_000_000
"""Bytes of the tokens remembered: about 1,500 with every scope."""
STANDS_FOR = 5.0
KEYS_FOR = 60.0
MISS_EVERY = 3.0


class Unauthorised(Exception):
    """There is no valid access token. `challenge` is the value of WWW-Authenticate (RFC 6750, RFC 9728 section 5.1)."""

    def __init__(self, base_url: str, description: str, *, sent: bool = True) -> None:
        super().__init__(description)
        self.challenge = f'Bearer resource_metadata="{base_url}/.well-known/oauth-protected-resource"'
        if sent:
            self.challenge += f', error="invalid_token", error_description="{description}"'


async def authenticate(request: Request) -> Caller:
    """The caller of a request, which counts against its quota. The access token stands in the Authorization header and nowhere else.

    `standing` and `bucket` are noted in the scope, for what is told with the answer. Raises Unauthorised, QuotaExceeded.
    """
    state = request.app.state
    if not hasattr(state, "authenticator"):
        state.authenticator = Authenticator(state.database, state.settings)
    authenticator: Authenticator = state.authenticator
    caller = await authenticator.caller(
        [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"authorization"]
    )
    stands = await authenticator.standing(caller.client_id)
    bucket = authenticator.buckets.of(caller.client_id, stands.tenants)
    request.scope.update(standing=stands, bucket=bucket)
    bucket.take()
    return authenticator.asking(caller, stands.uniform)


def verified(token: str, keys: KeySet, algorithms: Collection[str]) -> jwt.Token:
    """A JWT whose signature one of the keys made, by one of the algorithms. Raises JoseError, whatever is wrong with the token."""
    try:
        return jwt.decode(token, keys, algorithms)
    except JoseError:
        raise
    except Exception as problem:  # what joserfc lets through of malformed tokens: ValueError, TypeError, RecursionError and others
        raise BadSignatureError from problem


def _weight(caller: Caller, asking: Caller) -> int:
    uniform = asking.uniform
    scopes = len(caller.scopes) + (0 if uniform is None else len(uniform.scopes))
    return 1000 + 200 * scopes + (0 if uniform is None else 80 * len(uniform.tenants or ()))


class Authenticator:
    """Verifies access tokens. Its memory is bounded and never outlives a token, a key's retirement by a minute or a client by 5 seconds."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._base_url = base_url = settings.base_url
        self.buckets = Buckets(settings.rate, settings.burst)
        self._tokens: Lru[str, tuple[Caller, float]] = Lru("access tokens", MAX_TOKENS)
        self._asking: Lru[Caller, Caller] = Lru("callers", 8_000_000, weigh=_weight)
        self._standing: Lru[UUID, tuple[Standing, float]] = Lru("clients", 4_000_000)
        self._keys: KeySet | None = None
        self._read_at = self._missed_at = float("-inf")
        ours: jwt.ClaimsOption = {"essential": True, "value": base_url}
        there: jwt.ClaimsOption = {"essential": True}
        self._claims = jwt.JWTClaimsRegistry(leeway=LEEWAY, iss=ours, aud=ours, exp=there, client_id=there, scope=there)

    async def caller(self, authorization: list[str]) -> Caller:
        """The caller named by the values of the Authorization header. Raises Unauthorised."""
        schemes = [value.partition(" ") for value in authorization]
        if not any(scheme.lower() == "bearer" for scheme, _, _ in schemes):
            raise Unauthorised(self._base_url, "Send an access token in the Authorization header.", sent=False)
        if len(schemes) > 1:
            raise Unauthorised(self._base_url, "Send one Authorization header.")
        token = schemes[0][2].strip()
        caller, expires_at = self._tokens.get(token) or (None, 0.0)
        if caller is None or expires_at <= time.time():
            self._tokens.discard(token)
            caller = await self._verify(token)
        return caller

    def asking(self, caller: Caller, uniform: Uniform) -> Caller:
        """The caller with its reach as it is now."""
        known = self._asking.get(caller)
        if known is None or known.uniform is not uniform:
            known = self._asking.put(caller, replace(caller, uniform=uniform))
        return known

    async def _verify(self, token: str) -> Caller:
        try:
            read = await self._read(token)
            if str(read.header.get("typ")).lower() not in ("at+jwt", "application/at+jwt"):
                raise Unauthorised(self._base_url, "This is not an access token.")
            self._claims.validate(read.claims)
        except ExpiredTokenError as problem:
            raise Unauthorised(self._base_url, "The access token has expired.") from problem
        except JoseError as problem:
            raise Unauthorised(self._base_url, "The access token is not valid here.") from problem
        caller = Caller(UUID(read.claims["client_id"]), frozenset(read.claims["scope"].split()))
        self._tokens.put(token, (caller, read.claims["exp"] + LEEWAY))
        return caller

    async def _read(self, token: str) -> jwt.Token:
        """The token, once its signature holds. A key that is not known may be new: the keys are read again, at most once in a few seconds."""
        known = self._keys if time.monotonic() - self._read_at < KEYS_FOR else None
        try:
            return verified(token, known or await self._read_keys(), ("ES256",))
        except InvalidKeyIdError:
            if time.monotonic() - self._missed_at < MISS_EVERY:
                raise
            self._missed_at = time.monotonic()
            return verified(token, await self._read_keys(), ("ES256",))

    async def _read_keys(self) -> KeySet:
        async with self._database.register() as connection:
            self._keys = KeySet.import_key_set(await public_keys(connection))
        self._read_at = time.monotonic()
        return self._keys

    async def standing(self, client_id: UUID) -> Standing:
        """How the client stands. Raises Unauthorised when it is revoked."""
        now = time.monotonic()
        known, read_at = self._standing.get(client_id) or (None, float("-inf"))
        if known is not None and now - read_at <= STANDS_FOR:
            return known
        if known is not None:  # while it is asked again by one request, the others go on
            self._standing.put(client_id, (known, now))
        async with self._database.register() as connection:
            found = await standing(connection, client_id)
        if found is None:
            self._standing.discard(client_id)
            raise Unauthorised(self._base_url, "The client is revoked.")
        self._standing.put(client_id, (found, now))
        return found
