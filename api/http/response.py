"""The answer of most requests, whose header fields are all known beforehand."""

from starlette.responses import Response

JSON = (b"content-type", b"application/json")
PRIVATE = ((b"cache-control", b"private, no-store"), (b"vary", b"Accept, Authorization"))
TAG = b"etag"


class JsonResponse(Response):
    """JSON about somebody, which nobody else may keep; of a row that can be changed it tells the version."""

    def __init__(
        self, body: bytes, *fields: tuple[bytes, bytes], kind: tuple[bytes, bytes] = JSON, status: int = 200, version: str = ""
    ) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [(b"content-length", str(len(body)).encode()), kind, *PRIVATE, *fields]
        self.version, self.digest, self.tag = version, "", ""

    def tagged(self, digest: str) -> "JsonResponse":
        """With an entity tag: what the answer is known by, after the version that a change of the row may name in If-Match."""
        self.digest, self.tag = digest, f'"{self.version}.{digest}"' if self.version else f'"{digest}"'
        self.raw_headers.append((TAG, self.tag.encode()))
        return self


def make_not_modified(tag: str) -> Response:
    """304: the client has the answer of this tag (RFC 9110 section 15.4.5)."""
    response = Response(status_code=304)
    response.raw_headers = [(TAG, tag.encode("latin-1")), *PRIVATE]
    return response
