"""Errors of the authorization server, and the responses that they become (RFC 6749 section 5.2)."""

import re

from authlib.oauth2.rfc6749 import OAuth2Error
from starlette.responses import JSONResponse, Response

NO_STORE = {"Cache-Control": "no-store"}
FORBIDDEN = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
"""Characters that an error_description must not contain. Authlib raises ValueError for them, which would be a 500."""


class TokenError(OAuth2Error):
    """An error of the token endpoint. `is_basic`: the Authorization header is refused, so the 401 needs a
    WWW-Authenticate header."""

    def __init__(
        self, error: str, description: str, status: int = 400, *, is_basic: bool = False, retry_after: int | None = None
    ) -> None:
        super().__init__(FORBIDDEN.sub("?", description), status_code=status, error=error)
        self.headers: dict[str, str] = {}
        if is_basic:
            self.headers["WWW-Authenticate"] = 'Basic realm="markonce", charset="UTF-8"'
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)


def respond(error: OAuth2Error) -> Response:
    """Returns the response for an error."""
    headers = error.headers if isinstance(error, TokenError) else {}
    return JSONResponse(dict(error.get_body()), error.status_code, NO_STORE | headers)
