"""The answer of most requests, whose header fields are all known beforehand."""

from starlette.responses import Response

JSON = (b"content-type", b"application/json")
PRIVATE = ((b"cache-control", b"private, no-store"), (b"vary", b"Accept, Authorization"))


class Json(Response):
    """JSON about somebody, which nobody else may keep."""

    def __init__(self, body: bytes, *fields: tuple[bytes, bytes], kind: tuple[bytes, bytes] = JSON, status: int = 200) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [(b"content-length", str(len(body)).encode()), kind, *PRIVATE, *fields]
