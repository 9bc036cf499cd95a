"""Metadata of the authorization server (RFC 8414) and of the resource server (RFC 9728), and the public keys (RFC
7517)."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.http.auth import get_authenticator
from api.http.jwt import CLIENT_ASSERTION
from api.oauth.client_auth import METHODS
from api.oauth.server import GRANT_TYPES
from domain.declare.scopes import Scope

CACHED = {"Cache-Control": "public, max-age=60"}


async def serve_server_metadata(request: Request) -> Response:
    """GET /.well-known/oauth-authorization-server (RFC 8414). The required list of response types is empty without an
    authorization endpoint."""
    issuer = request.app.state.settings.base_url
    document = {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth/token",
        "jwks_uri": f"{issuer}/oauth/jwks",
        "scopes_supported": list(Scope),
        "response_types_supported": [],
        "grant_types_supported": GRANT_TYPES,
        "token_endpoint_auth_methods_supported": METHODS,
        "token_endpoint_auth_signing_alg_values_supported": CLIENT_ASSERTION.allowed,
    }
    return JSONResponse(document, headers=CACHED)


async def serve_resource_metadata(request: Request) -> Response:
    """GET /.well-known/oauth-protected-resource (RFC 9728). The resource, and so the audience of its tokens, is the
    whole installation."""
    resource = request.app.state.settings.base_url
    document = {
        "resource": resource,
        "resource_name": "Markonce",
        "authorization_servers": [resource],
        "scopes_supported": list(Scope),
        "bearer_methods_supported": ["header"],
    }
    return JSONResponse(document, headers=CACHED)


async def serve_jwks(request: Request) -> Response:
    """GET /oauth/jwks: the public keys of all access tokens in force."""
    return JSONResponse(await get_authenticator(request.app.state).read_public_keys(), headers=CACHED)
