"""What the authorization server and the resource publish of themselves: RFC 8414, RFC 9728 and the public keys. It lists what exists and nothing else."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.http.auth import get_authenticator
from api.http.jwt import CLIENT_ASSERTION
from api.oauth.client_auth import METHODS
from api.oauth.server import GRANT_TYPES
from domain.declare.scopes import Scope

CACHED = {"Cache-Control": "public, max-age=60"}


async def server_metadata(request: Request) -> Response:
    """RFC 8414. Its list of response types is required, and empty while there is no authorization endpoint."""
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
