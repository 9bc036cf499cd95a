"""The OAuth authorization server, built on Authlib (RFC 6749, RFC 7523, RFC 8414, RFC 9068, RFC 9728).

token.py        the token endpoint, and its rate limits
form.py         reads the parameters of a token request strictly
client_auth.py  reads and verifies how the client authenticates
server.py       Authlib's server, which decides in memory; domain.clients.tokens reads its facts and writes its effects
errors.py       errors, and the responses they become
metadata.py     what the server publishes about itself
"""

from starlette.routing import Route

from api.oauth.metadata import serve_jwks, serve_resource_metadata, serve_server_metadata
from api.oauth.token import issue_token


def make_routes() -> list[Route]:
    """Returns the endpoints. They use `database`, `settings` (base_url, secret) and `token_rate_limits` of the
    application's state."""
    return [
        Route("/.well-known/oauth-authorization-server", serve_server_metadata, methods=["GET"]),
        Route("/.well-known/oauth-protected-resource", serve_resource_metadata, methods=["GET"]),
        Route("/oauth/jwks", serve_jwks, methods=["GET"]),
        Route("/oauth/token", issue_token, methods=["POST"]),
    ]
