"""Authlib's authorization server for one request. It reads from Facts and writes to Effects, and does no I/O.

A new grant type is a class in GRANTS. A new authentication method is added to client_auth.METHODS. An access token is
an at+jwt (RFC 9068), valid for ten minutes by the database's clock. It has exactly the scopes requested, or there is an
error.
"""

import logging
import secrets
from functools import partial
from typing import Any, NamedTuple

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749.grants import BaseGrant, ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from joserfc import jwt

from api.http.auth import SCOPES
from api.oauth.client_auth import METHODS, ClientAuth
from api.oauth.errors import TokenError
from api.oauth.form import Form
from domain.clients.signing_keys import TOKEN_LIFE
from domain.clients.tokens import Effects, Facts

TOKEN_SECONDS = int(TOKEN_LIFE.total_seconds())

logging.getLogger("authlib").setLevel(logging.INFO)  # at DEBUG it logs tokens


class TokenRequest(OAuth2Request):
    """A token request as Authlib reads it. Authlib stores what it finds in it, so each decision needs a new one."""

    def __init__(self, issuer: str, form: Form, client_auth: ClientAuth) -> None:
        # Authlib accepts https URLs only. Whether TLS is used, and where it ends, is the operator's decision.
        super().__init__("POST", f"https://{issuer.partition('://')[2]}/oauth/token")
        self.payload: Any = BasicOAuth2Payload(form)
        self.client_auth = client_auth


class RegisteredClient(ClientMixin):
    """A client as Authlib reads it."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def get_client_id(self) -> str:
        return str(self.facts.client.client_id)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Always true: a client has secrets or keys, never both, so an authenticated client has used its own method."""
        return True

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == ClientCredentials.GRANT_TYPE

    def get_allowed_scope(self, scope: str | None) -> str:
        """Returns the scopes requested or, where none are, all that the grants in force give. Raises TokenError where
        one is not granted.

        A client without a grant in force gets a token without a scope, so that /v1/me tells it which grants have ended.
        """
        in_force = self.facts.client.scopes
        if scope is None:
            return " ".join(sorted(in_force))
        if not SCOPES.fullmatch(scope):
            raise TokenError("invalid_scope", "The scope is a list of names with one space between them.")
        names = dict.fromkeys(scope.split(" "))
        if missing := [name for name in names if name not in in_force]:
            raise TokenError(
                "invalid_scope", f"No grant in force gives this client {', '.join(missing)}. GET /v1/me lists its grants."
            )
        return " ".join(sorted(names))


class ClientCredentials(ClientCredentialsGrant):
    """RFC 6749 section 4.4."""

    TOKEN_ENDPOINT_AUTH_METHODS = METHODS


GRANTS: list[type[BaseGrant]] = [ClientCredentials]
GRANT_TYPES = [grant.GRANT_TYPE for grant in GRANTS]


class TokenAnswer(NamedTuple):
    """Authlib's response where there is no error. The endpoint decides which headers it sends."""

    status: int
    body: dict[str, Any]
    headers: list[tuple[str, str]]


class TokenServer(AuthorizationServer):
    """Authlib's server for one request. Its response is a TokenAnswer or an OAuth2Error."""

    def __init__(self, issuer: str, secrets: tuple[bytes, ...], facts: Facts, effects: Effects) -> None:
        super().__init__()
        self.issuer, self.secrets, self.facts, self.effects = issuer, secrets, facts, effects
        self.register_token_generator("default", BearerTokenGenerator(self._sign_access_token, None, TOKEN_SECONDS))
        for grant in GRANTS:
            self.register_grant(grant)
        for method in METHODS:
            self.register_client_auth_method(method, partial(self._authenticate, method))

    def _authenticate(self, method: str, query_client: Any, request: TokenRequest) -> RegisteredClient | None:
        """Returns the client where the request uses this method. Raises TokenError where the credentials are wrong."""
        if request.client_auth.method != method:
            return None
        self.effects.used_assertion = request.client_auth.verify(self.facts.client)
        return self.query_client(str(request.client_auth.client_id))

    def _sign_access_token(self, client: RegisteredClient, grant_type: str, user: Any, scope: str) -> str:
        """Returns a signed access token (RFC 9068). The issuer and the audience are both this installation's URL.

        Its times are by the database's clock. Authlib's JWTBearerTokenGenerator would use the machine's.
        """
        key, client_id, now = self.facts.decrypt_key(*self.secrets), client.get_client_id(), int(self.facts.client.now.timestamp())
        claims = {
            "iss": self.issuer,
            "sub": client_id,
            "aud": self.issuer,
            "client_id": client_id,
            **({"scope": scope} if scope else {}),
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "jti": secrets.token_urlsafe(16),
        }
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": self.facts.kid}, claims, key, ["ES256"])

    def query_client(self, client_id: str) -> RegisteredClient:
        """Returns the client of the facts, which is the one that the request names."""
        return RegisteredClient(self.facts)

    def save_token(self, token: dict[str, Any], request: TokenRequest) -> None:
        """Does nothing: an access token is verified by its signature and is not stored."""

    def create_oauth2_request(self, request: TokenRequest) -> TokenRequest:
        return request

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Does nothing: no signals are used."""

    def handle_response(self, status: int, body: dict[str, Any], headers: list[tuple[str, str]]) -> TokenAnswer:
        return TokenAnswer(status, body, headers)

    def handle_error_response(self, request: TokenRequest, error: OAuth2Error) -> OAuth2Error:
        return error
