"""The head of an HTTP/1.1 request (RFC 9112 sections 3 to 6): the request line and the header fields.

Whatever two parsers may read differently is refused, since a proxy in front of the server may be one of them: a line that ends in a bare LF, two
lengths, a transfer coding beside a length, a second Host. RFC 9112 allows some of it to be mended or ignored; nobody sends it in good faith.
"""

import re
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

MAX_TARGET = 65_535
"""Bytes of a request target."""
MAX_HEAD = 131_072
"""Bytes of a head."""
MAX_FIELDS = 100

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([^ \r\n]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rb"^(" + _TOKEN + rb"):([\t -~\x80-\xff]*)\r\n", re.MULTILINE)
_TARGET = re.compile(rb"([A-Za-z0-9\-._~!$&'()*+,;=:@/%]*)(?:\?([!$-;=?-~]*))?")
_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"(https?)://([^/?#]*)(.*)", re.IGNORECASE)
_HOST = re.compile(rb"(?:[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BARE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")
_METHOD = re.compile(rb"[A-Z]{1,20}")

_LINE_ENDS = "Lines end in CRLF, and neither CR nor LF stands elsewhere."

_SINGLE = (b"host", b"content-length", b"transfer-encoding", b"content-type", b"content-encoding", b"expect")
"""Fields that a request has once: recipients differ in whether the first or the last counts."""
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


class MalformedRequest(Exception):
    """A request that cannot be taken, whatever its URL. `code` is that of the problem."""

    def __init__(self, detail: str, status: int = HTTPStatus.BAD_REQUEST, code: str = "request-malformed") -> None:
        super().__init__(detail)
        self.detail, self.status, self.code = detail, int(status), code


class Section(NamedTuple):
    """What the header fields of a request say. `length` is None where the body is chunked."""

    fields: tuple[tuple[bytes, bytes], ...]
    host: bytes | None
    length: int | None
    keeps_alive: bool
    expects_continue: bool


class Head(NamedTuple):
    """A head that can be read in one way only. Names of fields are in lower case."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    version: str
    section: Section


def read_head(head: bytes) -> Head:
    """Reads a head: its lines, each with its CRLF, without the empty line at the end. Raises MalformedRequest."""
    line, _, rest = head.partition(b"\r\n")
    request_line = _REQUEST_LINE.fullmatch(line)
    if request_line is None:
        raise MalformedRequest("The request line is a method, a target and HTTP/1.1, with one space between each two.")
    method, target, major, minor = request_line.groups()
    if major != b"1" or minor not in b"01":
        raise MalformedRequest("HTTP/1.1 is spoken here.", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "version-not-supported")
    if method == b"CONNECT" or _METHOD.fullmatch(method) is None:
        raise MalformedRequest("There is no such method here.", HTTPStatus.NOT_IMPLEMENTED, "method-not-implemented")
    if len(target) > MAX_TARGET:
        raise _too_long()
    if len(head) > MAX_HEAD:
        raise _too_large(f"A head has at most {MAX_HEAD:,} bytes.")
    modern = minor == b"1"
    section = _known_section(rest, modern) if len(rest) <= _KNOWN_SIZE else _read_section(rest, modern)
    raw_path, query = _read_target(target, method, section.host)
    path = raw_path.decode() if b"%" not in raw_path else _unescape(raw_path)
    return Head(method.decode(), path, raw_path, query, "1.1" if modern else "1.0", section)


def _read_section(lines: bytes, modern: bool) -> Section:
    fields = read_fields(lines)
    by_name = dict(fields)
    connection = by_name.get(b"connection", b"")
    if len(by_name) < len(fields):
        _check_single(fields)
        connection = b",".join(value for name, value in fields if name == b"connection")
    options = [option.strip().lower() for option in connection.split(b",")]
    expectation = by_name.get(b"expect")
    if expectation is not None and expectation.lower() != b"100-continue":
        raise MalformedRequest("The one expectation here is 100-continue.", HTTPStatus.EXPECTATION_FAILED, "expectation-failed")
    return Section(
        tuple(fields),
        _read_host(by_name, modern),
        _read_length(by_name, modern),
        modern and b"close" not in options,
        modern and expectation is not None,
    )


_KNOWN_SIZE = 2_048
_known_section = lru_cache(512)(_read_section)
"""Clients repeat their header fields from one request to the next: all but the request line."""


def read_fields(section: bytes) -> list[tuple[bytes, bytes]]:
    """Reads header fields, or those of a trailer section: names in lower case, values without the space around them. Raises MalformedRequest."""
    lines = section.count(b"\r\n")
    if lines != section.count(b"\n") or lines != section.count(b"\r"):
        raise MalformedRequest(_LINE_ENDS)
    if lines > MAX_FIELDS:
        raise _too_large(f"A request has at most {MAX_FIELDS} header fields.")
    found = _FIELD.findall(section)
    if len(found) != lines:
        raise MalformedRequest("A header field is a name, a colon and a value on one line, without a space before the colon.")
    return [(name.lower(), value.strip(b" \t")) for name, value in found]


def check_incomplete(head: bytes | bytearray, since: int) -> None:
    """Refuses what will not become a head, so that nobody waits for its end. What stands before `since` was checked before."""
    if not head[:1].isalpha() and head[:2] not in (b"", b"\r", b"\r\n"):
        raise MalformedRequest("A request begins with its method.")
    check_line_ends(head, since)
    if len(head) > MAX_TARGET and (b"\r\n" not in head[: MAX_TARGET + 32]):
        raise _too_long()
    if len(head) > MAX_HEAD:
        raise _too_large(f"A head has at most {MAX_HEAD:,} bytes.")


def check_line_ends(lines: bytes | bytearray, since: int = 0) -> None:
    """Refuses a bare LF, and a CR that LF does not follow, unless it is the last byte."""
    if _BARE.search(lines, max(since - 1, 0)):
        raise MalformedRequest(_LINE_ENDS)


def _check_single(fields: list[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in fields]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise MalformedRequest(f"A request has one {name.decode()} field.")


def _read_length(by_name: dict[bytes, bytes], modern: bool) -> int | None:
    """The bytes of the body, or None where it is chunked (RFC 9112 section 6.3, with nothing ignored)."""
    coding, length = by_name.get(b"transfer-encoding"), by_name.get(b"content-length")
    if coding is not None:
        if not modern:
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


def _read_host(by_name: dict[bytes, bytes], modern: bool) -> bytes | None:
    host = by_name.get(b"host")
    if host is None:
        if modern:
            raise MalformedRequest("A request has a Host field.")
    elif _HOST.fullmatch(host) is None:
        raise MalformedRequest("Host is a name or an address, and a port if need be.")
    return host


def _read_target(target: bytes, method: bytes, host: bytes | None) -> tuple[bytes, bytes]:
    """The path, still escaped, and the query. A target in absolute form is for the Host that the request names (RFC 9112 section 3.2.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target, b""
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
    return parts[1], parts[2] or b""


def _unescape(raw_path: bytes) -> str:
    try:
        path = unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError as problem:
        raise MalformedRequest("The path is UTF-8.") from problem
    if _CONTROL.search(path):
        raise MalformedRequest("The path holds a control character.")
    return path


def _too_long() -> MalformedRequest:
    return MalformedRequest(f"A URL has at most {MAX_TARGET:,} bytes.", HTTPStatus.REQUEST_URI_TOO_LONG, "url-too-long")


def _too_large(detail: str) -> MalformedRequest:
    return MalformedRequest(detail, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large")
