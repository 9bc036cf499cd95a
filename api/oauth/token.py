"""The token endpoint (RFC 6749 section 3.2), with rate limits.

Credentials are verified before an attempt is counted. A failed attempt counts against the client that it names together
with the address it came from. A successful one counts against the client alone. So guesses never cause a 429 for the
client itself, whatever address they come from. Unknown clients are counted and answered like known ones. One small read
serves all attempts that wait at the same time.
"""

from functools import partial
from typing import Any

from authlib.oauth2.rfc6749 import OAuth2Error
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.http.auth import get_authenticator
from api.http.context import get_context
from api.http.rate_limit import QuotaExceeded, find_network
from api.oauth.client_auth import ClientAuth, read_client_auth
from api.oauth.errors import NO_STORE, TokenError, respond
from api.oauth.form import Form, read_form
from api.oauth.server import GRANT_TYPES, TokenAnswer, TokenRequest, TokenServer
from domain.clients.tokens import Attempt, Credentials, Effects, Facts, exchange, read_credentials
from domain.store.shared_reads import SharedReads


async def issue_token(request: Request) -> Response:
    """POST /oauth/token."""
    try:
        form = await read_form(request)
        if "grant_type" not in form:
            raise TokenError("invalid_request", "The parameter grant_type is required.")
        if form["grant_type"] not in GRANT_TYPES:
            raise TokenError("unsupported_grant_type", "The one grant type is client_credentials.")
        client_auth = read_client_auth(request.headers.getlist("authorization"), form, request.app.state.settings.base_url)
        answer = await _issue_within_limits(request, client_auth, form)
    except OAuth2Error as error:
        return respond(error)
    return JSONResponse({"access_token": answer.body["access_token"], **answer.body}, answer.status, NO_STORE)


async def _issue_within_limits(request: Request, client_auth: ClientAuth, form: Form) -> TokenAnswer:
    """Issues a token. A failed attempt takes from the bucket of client and address, a successful one from the client's
    own."""
    attempts, client_id = request.app.state.token_rate_limits, client_auth.attempt.client_id
    try:
        credentials = await _get_credential_reads(request.app.state).get(client_auth.attempt)
        if credentials.is_known:
            get_context(request.scope).named_client = str(client_id)
        client_auth.verify(credentials)
        attempts.find(client_id).take()
        return await _exchange(request.app.state, client_auth, form)
    except QuotaExceeded as problem:
        raise _make_rate_limit_error(
            "This client requests too many tokens. Use each of them until it expires.", problem
        ) from problem
    except OAuth2Error as error:
        if error.error != "invalid_client":
            raise
        failure = error
    try:
        attempts.find((client_id, find_network(request.client.host if request.client else ""))).take()
    except QuotaExceeded as problem:
        description = (
            "There are too many failed attempts for this client from this address. Valid credentials are accepted at any time."
        )
        raise _make_rate_limit_error(description, problem) from problem
    raise failure


def _make_rate_limit_error(description: str, problem: QuotaExceeded) -> TokenError:
    """RFC 6749 has no such error for the token endpoint. This is its error for the authorization endpoint."""
    return TokenError("temporarily_unavailable", description, 429, retry_after=problem.wait)


def _get_credential_reads(state: Any) -> SharedReads[Attempt, Credentials]:
    """Returns the application's shared reads of credentials, which are created at the first request."""
    if not hasattr(state, "credential_reads"):
        state.credential_reads = SharedReads(partial(read_credentials, state.database), state.database.explain_late)
    reads: SharedReads[Attempt, Credentials] = state.credential_reads
    return reads


async def _exchange(state: Any, client_auth: ClientAuth, form: Form) -> TokenAnswer:
    """Reads the facts, lets Authlib decide, and writes the effects. Raises OAuth2Error."""
    settings = state.settings

    def decide(facts: Facts, effects: Effects) -> tuple[TokenAnswer | OAuth2Error, Facts]:
        server = TokenServer(settings.base_url, settings.secrets, facts, effects)
        return server.create_token_response(TokenRequest(settings.base_url, form, client_auth)), facts

    answer, facts = await exchange(state.database, client_auth.attempt, decide)
    if isinstance(answer, OAuth2Error):
        raise answer
    get_authenticator(state).note_issued(str(facts.kid), facts.client.now)
    return answer
