"""The authorization server: Authlib's, with the strictness that it leaves open (RFC 6749, RFC 7523, RFC 8414, RFC 9068, RFC 9728).

A request to the token endpoint is read strictly (form.py, client_auth.py). Authlib then decides in memory (server.py) over the facts of one load, and
the effects of its decision are persisted (domain.clients.tokens). token.py is the endpoint, errors.py makes responses of errors, metadata.py tells
what there is.
"""

from starlette.routing import Route

from api.oauth.metadata import jwks, resource_metadata, server_metadata
from api.oauth.token import token


def routes() -> list[Route]:
    """The endpoints; they find `database`, `settings` (base_url, secret) and `attempts` in the application's state."""
    return [
        Route("/.well-known/oauth-authorization-server", server_metadata, methods=["GET"]),
        Route("/.well-known/oauth-protected-resource", resource_metadata, methods=["GET"]),
        Route("/oauth/jwks", jwks, methods=["GET"]),
        Route("/oauth/token", token, methods=["POST"]),
    ]
