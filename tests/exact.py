"""A 304 is never wrong, whatever happens in the suite: whoever GETs a URL of the application again is first asked for it on condition that it has changed."""

from typing import Any

import httpx2

from tests.conftest import Statements


class Exact(httpx2.ASGITransport):
    """Sends each repeated GET twice, the first time with the entity tag of the last answer, but for those whose statements are counted."""

    def __init__(self, app: Any, statements: Statements) -> None:
        super().__init__(app=app)
        self._statements = statements
        self._known: dict[tuple[str, str, str], tuple[str, bytes]] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method != "GET" or self._statements.are_counted or "if-none-match" in request.headers:
            return await super().handle_async_request(request)
        who = (str(request.url), request.headers.get("authorization", ""), request.headers.get("accept", ""))
        unchanged = False
        if who in self._known:
            headers = {**request.headers, "if-none-match": self._known[who][0]}
            conditional = httpx2.Request("GET", request.url, headers=headers)
            answer = await super().handle_async_request(conditional)
            await answer.aread()
            unchanged = answer.status_code == 304
        answer = await super().handle_async_request(request)
        body = await answer.aread()
        assert not unchanged or body == self._known[who][1], f"304, and yet it has changed: {request.url}"
        if tag := answer.headers.get("etag"):
            self._known[who] = tag, body
        return answer
