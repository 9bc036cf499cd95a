"""A 304 is never wrong, whatever happens in the suite: whoever GETs a URL of the application again is first asked for it on condition that it has changed."""

from typing import Any

import httpx2

from tests.conftest import Statements


class Exact(httpx2.ASGITransport):
    """Sends each repeated GET twice, the first time with the entity tags of all answers before, whosever they were, but for those whose statements are
    counted. No tag has two bodies."""

    def __init__(self, app: Any, statements: Statements) -> None:
        super().__init__(app=app)
        self._statements = statements
        self._known: dict[tuple[str, str], dict[str, bytes]] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "GET" or self._statements.are_counted or "if-none-match" in request.headers:
            return await super().handle_async_request(request)
        known = self._known.setdefault((str(request.url), request.headers.get("accept", "")), {})
        unchanged = None
        if known:
            conditional = httpx2.Request("GET", request.url, headers={**request.headers, "if-none-match": ", ".join(known)})
            answer = await super().handle_async_request(conditional)
            await answer.aread()
            unchanged = answer.headers["etag"] if answer.status_code == 304 else None
        answer = await super().handle_async_request(request)
        body = await answer.aread()
        assert unchanged is None or body == known[unchanged], f"304, and yet it has changed: {request.url}"
        if tag := answer.headers.get("etag"):
            assert known.setdefault(tag, body) == body, f"one tag of two answers: {request.url}"
        return answer
