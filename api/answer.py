"""The answer of most requests, whose header fields are all known beforehand."""

from starlette.responses import Response

JSON = (b"content-type", b"application/json")
PRIVATE = ((b"cache-control", b"private, no-store"), (b"vary", b"Accept, Authorization"))
TAG = b"etag"


class Json(Response):
    """JSON about somebody, which nobody else may keep."""

    def __init__(self, body: bytes, *fields: tuple[bytes, bytes], kind: tuple[bytes, bytes] = JSON, status: int = 200) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [(b"content-length", str(len(body)).encode()), kind, *PRIVATE, *fields]

    @property
    def tag(self) -> str:
        """Its entity tag, empty where it has none."""
        return next((value.decode("latin-1") for name, value in self.raw_headers if name == TAG), "")


def tagged(answer: Json, tag: str) -> Json:
    answer.raw_headers.append((TAG, tag.encode("latin-1")))
    return answer


def unchanged(tag: str) -> Response:
    """304: the client has the answer of this tag (RFC 9110 section 15.4.5)."""
    response = Response(status_code=304)
    response.raw_headers = [(TAG, tag.encode("latin-1")), *PRIVATE]
    return response
