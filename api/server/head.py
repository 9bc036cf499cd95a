"""Checks of a request head in addition to those of its parser, llhttp (RFC 9112 sections 3 to 6).

A head that two parsers may read differently is refused, since a proxy in front of the server may be one of them: a
Transfer-Encoding together with a Content-Length, a second Host, a request line without a version. RFC 9112 allows a
server to repair or ignore some of these; valid clients never send them.
"""

import re
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

MAX_TARGET = 65_535
"""Bytes of a request target."""
MAX_HEAD = 131_072
"""Bytes of a head."""
MAX_FIELDS = 100
MAX_HOST = 261
"""Bytes of a Host: of a name (RFC 1035) and a port."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([^ \r\n]+) HTTP/([0-9]\.[0-9])\r\n")
_TARGET = re.compile(rb"([A-Za-z0-9\-._~!$&'()*+,;=:@/%]*)(?:\?[!$-;=?-~]*)?")
_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"(https?)://([^/?#]*)(.*)", re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BARE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*(?=\r\n)", re.IGNORECASE)

_SINGLE = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"expect"})
"""Fields that may appear only once, because recipients differ in whether the first or the last counts."""
_NOT_IN_TRAILERS = _SINGLE | {b"authorization"}
"""Fields that are needed before the content (RFC 9110 section 6.5.1)."""
UNKNOWN_METHOD = ("There is no such method here.", HTTPStatus.NOT_IMPLEMENTED, "method-not-implemented")
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


class MalformedRequest(Exception):
    """A request that is refused whatever its URL. `code` is that of the problem."""

    def __init__(self, detail: str, status: int = HTTPStatus.BAD_REQUEST, code: str = "request-malformed") -> None:
        super().__init__(detail)
        self.detail, self.status, self.code = detail, int(status), code
        self.phrase = HTTPStatus(status).phrase.encode()


class UpgradeOffered(MalformedRequest):
    """A request with an Upgrade field."""


RequestLine = tuple[bytes, bytes, bool]
"""Method, target, and whether the version is HTTP/1.1, not 1.0."""


def check_incomplete(head: bytes, since: int) -> None:
    """Refuses bytes that cannot become a valid head, before its end arrives. Bytes before `since` were checked already."""
    if not head[:1].isalpha() and head[:2] not in (b"", b"\r", b"\r\n"):
        raise MalformedRequest("A request begins with its method.")
    if _BARE.search(head, max(since - 1, 0)):
        raise MalformedRequest("Lines end in CRLF, and neither CR nor LF appears elsewhere.")
    if len(head) > MAX_TARGET and head.find(b"\r\n", 2, MAX_TARGET + 32) < 0:
        raise _make_too_long_error()
    if len(head) > MAX_HEAD:
        raise _make_too_large_error(f"A head has at most {MAX_HEAD:,} bytes.")


def check_lines(head: bytes) -> RequestLine:
    """Checks the size of a head and its first line, before it is parsed. Raises MalformedRequest."""
    match = _REQUEST_LINE.match(head)
    if match is None:
        raise MalformedRequest("The request line is a method, a target and HTTP/1.1, with one space between each two.")
    method, target, version = match.groups()
    if version not in (b"1.1", b"1.0"):
        raise MalformedRequest("The server supports HTTP/1.1.", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "version-not-supported")
    if method == b"CONNECT" or not (method.isalpha() and method.isupper()):
        raise MalformedRequest(*UNKNOWN_METHOD)
    if len(target) > MAX_TARGET:
        raise _make_too_long_error()
    if len(head) > MAX_HEAD:
        raise _make_too_large_error(f"A head has at most {MAX_HEAD:,} bytes.")
    return method, target, version == b"1.1"


def drop_upgrade(head: bytes) -> bytes:
    """Returns the head without its Upgrade field, which a server may ignore (RFC 9110 section 7.8)."""
    return _UPGRADE.sub(b"", head)


def check_fields(fields: list[tuple[bytes, bytes]], line: RequestLine) -> tuple[int | None, bytes, bool]:
    """Checks the parsed fields of a head. Their names are in lower case.

    Returns the length of the body, or None where it is chunked; the target without scheme and host; and whether the
    client waits for 100 (Continue). Raises MalformedRequest.
    """
    if len(fields) > MAX_FIELDS:
        raise _make_too_large_error(f"A request has at most {MAX_FIELDS} header fields.")
    by_name = dict(fields)
    if len(by_name) < len(fields):
        _check_single(fields)
    expectation = by_name.get(b"expect")
    if expectation is not None and expectation.lower() != b"100-continue":
        raise MalformedRequest("The one expectation here is 100-continue.", HTTPStatus.EXPECTATION_FAILED, "expectation-failed")
    method, target, is_modern = line
    host = by_name.get(b"host")
    if host is None:
        if is_modern:
            raise MalformedRequest("A request has a Host field.")
    elif len(host) > MAX_HOST or _HOST.fullmatch(host) is None:
        raise MalformedRequest("Host is a name or an address, and a port if need be.")
    length = _read_length(by_name.get(b"transfer-encoding"), by_name.get(b"content-length"), is_modern)
    return length, _read_target(target, method, host), expectation is not None and is_modern


def _check_single(fields: list[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in fields]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise MalformedRequest(f"A request has one {name.decode()} field.")


def check_trailer(name: bytes) -> None:
    """Raises MalformedRequest for a field that is not allowed in a trailer section."""
    if name.lower() in _NOT_IN_TRAILERS:
        raise MalformedRequest("This field is not allowed in a trailer section.")


def _read_length(coding: bytes | None, length: bytes | None, is_modern: bool) -> int | None:
    """Returns the length of the body, or None where it is chunked (RFC 9112 section 6.3)."""
    if coding is not None:
        if not is_modern:
            raise MalformedRequest("HTTP/1.0 has no Transfer-Encoding.")
        if length is not None:
            raise MalformedRequest("A request has a Content-Length or a Transfer-Encoding, not both.")
        if coding.lower() != b"chunked":
            raise MalformedRequest("The one transfer coding here is chunked.")
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > 18:
        raise MalformedRequest("Content-Length is a number of bytes.")
    return int(length)


def _read_target(target: bytes, method: bytes, host: bytes | None) -> bytes:
    """Returns the target in origin form. A target in absolute form must name the same host as Host (RFC 9112 section
    3.2.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            raise MalformedRequest("The target is a path that begins with / and perhaps a query.")
        port = _DEFAULT_PORTS[absolute[1].lower()]
        if host is None or absolute[2].lower().removesuffix(port) != host.lower().removesuffix(port):
            raise MalformedRequest("The target's host is not that of the Host field.")
        target = absolute[3] if absolute[3].startswith(b"/") else b"/" + absolute[3]
    parts = _TARGET.fullmatch(target)
    if parts is None or (b"%" in target and _NO_ESCAPE.search(target)):
        raise MalformedRequest("The target holds characters that a URL escapes (RFC 3986).")
    if b"%" in parts[1]:
        _check_path(parts[1])
    return target


def _check_path(path: bytes) -> None:
    try:
        text = unquote_to_bytes(path).decode()
    except UnicodeDecodeError as problem:
        raise MalformedRequest("The path is UTF-8.") from problem
    if _CONTROL.search(text):
        raise MalformedRequest("The path holds a control character.")


def _make_too_long_error() -> MalformedRequest:
    return MalformedRequest(f"A URL has at most {MAX_TARGET:,} bytes.", HTTPStatus.REQUEST_URI_TOO_LONG, "url-too-long")


def _make_too_large_error(detail: str) -> MalformedRequest:
    return MalformedRequest(detail, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large")
