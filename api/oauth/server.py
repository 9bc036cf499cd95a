"""Authlib's authorization server, for one request: what it asks is answered from Facts, and what it does becomes Effects. Nothing here waits.

A new grant is a class in GRANTS, a new way to authenticate a method in client_auth.METHODS. What Authlib leaves open is decided here: an access token
is an at+jwt (RFC 9068) of ten minutes by the database's clock for this installation, and carries never less than the scope that was asked for.
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

logging.getLogger("authlib").setLevel(logging.INFO)  # at DEBUG it logs whole tokens


class TokenRequest(OAuth2Request):
    """A request to the token endpoint as Authlib reads it. Authlib notes in it what it finds, so it serves one decision."""

    def __init__(self, issuer: str, form: Form, client_auth: ClientAuth) -> None:
        # Authlib takes no URL but https; whether TLS is used, and where it ends, is for the installation to decide
        super().__init__("POST", f"https://{issuer.partition('://')[2]}/oauth/token")
        self.payload: Any = BasicOAuth2Payload(form)
        self.client_auth = client_auth


class RegisteredClient(ClientMixin):
    """A client as Authlib asks about it."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def get_client_id(self) -> str:
        return str(self.facts.client.client_id)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """A client has secrets or keys, never both, so one that has authenticated has used its own method."""
        return True

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == ClientCredentials.GRANT_TYPE

    def get_allowed_scope(self, scope: str | None) -> str:
        """What was asked for, or all that the grants in force give. Never less than was asked for without saying so."""
        in_force = self.facts.client.scopes
        if not in_force:
            raise TokenError("invalid_scope", "No grant in force gives this client any scope.")
        if scope is None:
            return " ".join(sorted(in_force))
        if not SCOPES.fullmatch(scope):
            raise TokenError("invalid_scope", "The scope is a list of names with one space between them.")
        names = dict.fromkeys(scope.split(" "))
        if missing := [name for name in names if name not in in_force]:
            raise TokenError("invalid_scope", f"No grant in force gives this client {', '.join(missing)}.")
        return " ".join(sorted(names))


class ClientCredentials(ClientCredentialsGrant):
    """RFC 6749 section 4.4."""

    TOKEN_ENDPOINT_AUTH_METHODS = METHODS


GRANTS: list[type[BaseGrant]] = [ClientCredentials]
GRANT_TYPES = [grant.GRANT_TYPE for grant in GRANTS]


class TokenAnswer(NamedTuple):
    """What Authlib answers where there is no error, in its own words: an endpoint says which headers it sends."""

    status: int
    body: dict[str, Any]
    headers: list[tuple[str, str]]


class TokenServer(AuthorizationServer):
    """Authlib's server over the facts of one request. What it answers is an Answer or an OAuth2Error."""

    def __init__(self, issuer: str, secret: bytes, facts: Facts, effects: Effects) -> None:
        super().__init__()
        self.issuer, self.secret, self.facts, self.effects = issuer, secret, facts, effects
        self.register_token_generator("default", BearerTokenGenerator(self._sign_access_token, None, TOKEN_SECONDS))
        for grant in GRANTS:
            self.register_grant(grant)
        for method in METHODS:
            self.register_client_auth_method(method, partial(self._authenticate, method))

    def _authenticate(self, method: str, query_client: Any, request: TokenRequest) -> RegisteredClient | None:
        """The client, where the request uses this method. Raises TokenError where it proves nothing."""
        if request.client_auth.method != method:
            return None
        self.effects.used_assertion = request.client_auth.verify(self.facts.client)
        return self.query_client(str(request.client_auth.client_id))

    def _sign_access_token(self, client: RegisteredClient, grant_type: str, user: Any, scope: str) -> str:
        """RFC 9068. The issuer and the resource are one installation and share its URL. The times are those of the database's clock, while those of
        Authlib's JWTBearerTokenGenerator are this machine's."""
        key, client_id, now = self.facts.decrypt_key(self.secret), client.get_client_id(), int(self.facts.client.now.timestamp())
        claims = {
            "iss": self.issuer,
            "sub": client_id,
            "aud": self.issuer,
            "client_id": client_id,
            "scope": scope,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "jti": secrets.token_urlsafe(16),
        }
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": self.facts.kid}, claims, key, ["ES256"])

    def query_client(self, client_id: str) -> RegisteredClient:
        """The client of the facts, which are those of the client that the request names."""
        return RegisteredClient(self.facts)

    def save_token(self, token: dict[str, Any], request: TokenRequest) -> None:
        """An access token is not stored: it says itself all that verifies it."""

    def create_oauth2_request(self, request: TokenRequest) -> TokenRequest:
        return request

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens."""

    def handle_response(self, status: int, body: dict[str, Any], headers: list[tuple[str, str]]) -> TokenAnswer:
        return TokenAnswer(status, body, headers)

    def handle_error_response(self, request: TokenRequest, error: OAuth2Error) -> OAuth2Error:
        return error
