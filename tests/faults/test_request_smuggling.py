"""A request that two parsers may read differently is refused, with its connection: a proxy in front of the server may be the other parser.

Each is sent as raw bytes to a real server, with a second request behind it that must not be answered.
"""

import asyncio
import json
import random
import re
import socket
from typing import Any

import pytest

from tests.faults.raw import LAST, connect, exchange, read_to_end, request
from tests.faults.serving import answer, make_server
from tests.fixtures.server import Server

LIVE, READY = "GET /health/live HTTP/1.1", "GET /health/ready HTTP/1.1"
POST = "POST /graphql HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"
END = b"0\r\n\r\n"

LINES = {
    "every line ends in LF": request().replace(b"\r\n", b"\n"),
    "every line of ready ends in LF": request(READY).replace(b"\r\n", b"\n"),
    "the request line ends in LF": b"GET /health/live HTTP/1.1\nHost: x\r\n\r\n",
    "a field ends in LF": b"GET /health/live HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "a field after LF hides a length": b"POST /graphql HTTP/1.1\r\nHost: x\r\nA: b\nContent-Length: 2\r\n\r\n{}",
    "the empty line is LF": b"GET /health/live HTTP/1.1\r\nHost: x\r\n\n",
    "a field ends in CR": b"GET /health/live HTTP/1.1\r\nHost: x\rA: b\r\n\r\n",
    "CR CR LF": b"GET /health/live HTTP/1.1\r\nHost: x\r\r\n\r\n",
    "a field goes on in the next line": request(LIVE, "A: b", " c"),
    "a field goes on after a tab": request(LIVE, "A: b", "\tc"),
    "the first field is indented": b"GET /health/live HTTP/1.1\r\n Host: x\r\n\r\n",
    "a space before the colon": request(LIVE, "A : b"),
    "a tab before the colon": request(LIVE, "Content-Length\t: 0"),
    "no colon": request(LIVE, "A"),
    "no name": request(LIVE, ": b"),
    "a name that is no token": request(LIVE, "A(b: c"),
    "a name that is not ASCII": request(LIVE, "\xe9: c"),
    "NUL in a value": request(LIVE, "A: b\x00c"),
    "a control character in a value": request(LIVE, "A: b\x0bc"),
    "DEL in a value": request(LIVE, "A: b\x7fc"),
    "an LF before the request": b"\n" + request(),
    "many empty lines before the request": b"\r\n" * 100 + request(),
    "a space before the request": b" " + request(),
    "two spaces in the request line": request("GET  /health/live HTTP/1.1"),
    "a tab in the request line": request("GET\t/health/live HTTP/1.1"),
    "a space after the version": request("GET /health/live HTTP/1.1 "),
    "no version": request("GET /health/live"),
    "a version in lower case": request("GET /health/live http/1.1"),
    "a version of three digits": request("GET /health/live HTTP/1.01"),
    "a method that is no token": request("G@T /health/live HTTP/1.1"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
}
HOSTS = {
    "no Host": request(host=None),
    "no Host for ready": request(READY, host=None),
    "two Hosts": request(LIVE, "Host: y"),
    "the same Host twice": request(LIVE, "Host: x"),
    "an empty Host": request(host=""),
    "a Host of spaces": request(host="  "),
    "a user before the Host": request(host="a@b"),
    "a space in the Host": request(host="a b"),
    "a path in the Host": request(host="a/b"),
    "two Hosts in one": request(host="a, b"),
    "a port that is none": request(host="a:b"),
    "a Host that is not ASCII": request(host="\xe9"),
    "two Hosts of an older version": request("GET /health/live HTTP/1.0", "Host: y"),
    "a target for another host": request("GET http://other/health/live HTTP/1.1"),
    "a target for another port": request("GET http://x:8/health/live HTTP/1.1"),
    "a user in the target": request("GET http://a@x/health/live HTTP/1.1"),
    "a target without Host": request("GET http://x/health/live HTTP/1.1", host=None),
}
TARGETS = {
    "another scheme": request("GET ftp://x/health/live HTTP/1.1"),
    "an authority": request("GET x:80 HTTP/1.1"),
    "an asterisk": request("GET * HTTP/1.1"),
    "a relative path": request("GET health/live HTTP/1.1"),
    "a fragment": request("GET /health/live#a HTTP/1.1"),
    "a path that is not ASCII": request("GET /\xc3\xa9 HTTP/1.1"),
    "a backslash": request("GET /health\\live HTTP/1.1"),
    "brackets": request('GET /<"{}"> HTTP/1.1'),
    "NUL": request("GET /health/live\x00 HTTP/1.1"),
    "escaped NUL": request("GET /health/live%00 HTTP/1.1"),
    "an escaped line end": request("GET /health/live%0d%0a HTTP/1.1"),
    "an escape that is none": request("GET /%zz HTTP/1.1"),
    "an escape cut short": request("GET /health/live?a=%4 HTTP/1.1"),
    "an escape that is not UTF-8": request("GET /%ff HTTP/1.1"),
}
LENGTHS = {
    "a coding beside chunked": request(POST, "Transfer-Encoding: gzip, chunked", body=END),
    "chunked twice": request(POST, "Transfer-Encoding: chunked, chunked", body=END),
    "two codings in two fields": request(POST, CHUNKED, CHUNKED, body=END),
    "another coding": request(POST, "Transfer-Encoding: gzip", body=END),
    "identity and a length": request(POST, "Transfer-Encoding: identity", "Content-Length: 2", body=b"{}"),
    "almost chunked": request(POST, "Transfer-Encoding: xchunked", body=END),
    "chunked in quotes": request(POST, 'Transfer-Encoding: "chunked"', body=END),
    "chunked with a parameter": request(POST, "Transfer-Encoding: chunked;a=b", body=END),
    "an empty coding": request(POST, "Transfer-Encoding:", body=END),
    "a coding and a length": request(POST, CHUNKED, "Content-Length: 5", body=END),
    "a length and a coding": request(POST, "Content-Length: 5", CHUNKED, body=END),
    "a coding and a length to health": request(LIVE, CHUNKED, "Content-Length: 5", body=END),
    "chunks in HTTP/1.0": request("POST /graphql HTTP/1.0", CHUNKED, body=END),
    **{
        f"a length of {text!r}": request(POST, f"Content-Length: {text}", body=b"{}")
        for text in ("+2", "-2", "0x2", "2, 2", "2,3", "2 2", "1_0", "2.0", "", "9" * 30, "\xb2")
    },
    "two lengths": request(POST, "Content-Length: 2", "Content-Length: 3", body=b"{}"),
    "one length twice": request(POST, "Content-Length: 2", "Content-Length: 2", body=b"{}"),
    "two media types": request(POST, "Content-Type: application/json", "Content-Type: text/plain", "Content-Length: 2", body=b"{}"),
}
CHUNKS = {
    "a size ends in LF": b"2\n{}\r\n" + END,
    "content ends in LF": b"2\r\n{}\n" + END,
    "the end is LF": b"2\r\n{}\r\n0\n\n",
    "a space after the size": b"2 \r\n{}\r\n" + END,
    "a size with a sign": b"+2\r\n{}\r\n" + END,
    "a size with a prefix": b"0x2\r\n{}\r\n" + END,
    "a size beyond reason": b"f" * 17 + b"\r\n{}\r\n" + END,
    "a size that is none": b"x\r\n{}\r\n" + END,
    "more than the size": b"2\r\n{}}\r\n" + END,
    "an extension ends in LF": b"2;a\n{}\r\n" + END,
    "a CR in an extension": b"2;a\rb\r\n{}\r\n" + END,
    "an extension that is none": b"2;=\r\n{}\r\n" + END,
    "an extension too long": b"2;" + b"a" * 5_000 + b"\r\n{}\r\n" + END,
    "chunks too small": b"1\r\n \r\n" * 20_000 + END,
    "a trailer ends in LF": b"2\r\n{}\r\n0\r\nA: b\n\r\n",
    "a trailer that is none": b"2\r\n{}\r\n0\r\nA b\r\n\r\n",
    "a length in the trailers": b"2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n",
    "trailers too long": b"2\r\n{}\r\n0\r\n" + b"A: b\r\n" * 5_000 + b"\r\n",
}
REFUSED = {
    **LINES,
    **HOSTS,
    **TARGETS,
    **LENGTHS,
    **{name: request(POST, CHUNKED, "Content-Type: application/json", body=body) for name, body in CHUNKS.items()},
}

OTHERWISE = {
    "a URL too long": (request(f"GET /health/live?{'a' * 70_000} HTTP/1.1"), 414),
    "a URL far too long": (request(f"GET /{'a' * 1_000_000} HTTP/1.1"), 414),
    "a field too long": (request(LIVE, f"A: {'a' * 200_000}"), 431),
    "too many fields": (request(LIVE, *["A: b"] * 150), 431),
    "far too many fields": (request(LIVE, *["A: b"] * 50_000), 431),
    "a method in lower case": (request("get /health/live HTTP/1.1"), 501),
    "CONNECT": (request("CONNECT x:80 HTTP/1.1"), 501),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", 505),
    "HTTP/2 as a version": (request("GET /health/live HTTP/2.0"), 505),
    "another expectation": (request(POST, "Expect: 200-ok", "Content-Length: 2", body=b"{}"), 417),
}

TAKEN = {
    "plain": request(),
    "an empty line before the request": b"\r\n" + request(),
    "an address and a port": request(host="127.0.0.1:8000"),
    "an address of version 6": request(host="[::1]:8000"),
    "a target in absolute form": request("GET http://x/health/live HTTP/1.1"),
    "a target with the port that is meant": request("GET http://x:80/health/live HTTP/1.1"),
    "an offer of HTTP/2": request(LIVE, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
    "an offer of HTTP/2 before a body": request(
        LIVE, "Connection: Upgrade, HTTP2-Settings", "uPGRADE: h2c", "HTTP2-Settings: AAMAAABk", "Content-Length: 2", body=b"{}"
    ),
    "an offer of WebSocket before chunks": request(
        LIVE, "Connection: Upgrade", "Upgrade: websocket", CHUNKED, body=b"2\r\n{}\r\n" + END
    ),
    "a body that nobody reads": request(LIVE, "Content-Length: 2", body=b"{}"),
    "chunks that nobody reads": request(LIVE, CHUNKED, body=b"2\r\n{}\r\n" + END),
    "an extension": request(LIVE, CHUNKED, body=b'2;a=b;c="d e"\r\n{}\r\n' + END),
    "a trailer": request(LIVE, CHUNKED, body=b"2\r\n{}\r\n0\r\nA: b\r\n\r\n"),
    "a coding in capitals": request(LIVE, "Transfer-Encoding: Chunked", body=END),
    "spaces around a value": request(LIVE, "A: \t b \t "),
    "a value that is not ASCII": request(LIVE, "A: \xe9"),
    "a hundred fields": request(LIVE, *["A: b"] * 99),
    "a query of odd characters": request("GET /health/live?a[]=b|c HTTP/1.1"),
}


def is_problem(data: bytes, status: int) -> bool:
    problem = json.loads(data)
    assert problem["status"] == status
    return bool(problem["type"].rsplit("/", 2)[1] == "problems" and problem["title"] and problem["detail"])


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_nothing_after_it_is_read(server: Server, name: str) -> None:
    reply = exchange(server.base_url, REFUSED[name] + LAST)
    assert reply.statuses == [400], reply.data[:300]
    assert reply.is_closed
    assert "connection: close" in reply.head
    assert "content-type: application/problem+json" in reply.head
    assert "x-request-id: " in reply.head
    assert is_problem(reply.body, 400)


@pytest.mark.parametrize("name", ["every line ends in LF", "an LF before the request", "TLS"])
def test_the_end_of_a_head_that_cannot_come_is_not_waited_for(server: Server, name: str) -> None:
    assert exchange(server.base_url, REFUSED[name]).statuses == [400]


@pytest.mark.parametrize("name", OTHERWISE)
def test_it_is_refused_with_a_status_of_its_own(server: Server, name: str) -> None:
    data, status = OTHERWISE[name]
    reply = exchange(server.base_url, data + LAST)
    assert reply.statuses == [status], reply.data[:300]
    assert reply.is_closed
    assert is_problem(reply.body, status)


@pytest.mark.parametrize("name", TAKEN)
def test_what_means_one_thing_is_answered_and_so_is_the_next_request(server: Server, name: str) -> None:
    reply = exchange(server.base_url, TAKEN[name] + LAST)
    assert reply.statuses == [200, 200], reply.data[:600]
    assert reply.is_closed


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/openapi.json", "/v1/schools", "/graphql", "/oauth/token", "/docs"]
)
def test_no_path_is_excepted(server: Server, path: str) -> None:
    for method in ("GET", "POST"):
        for data in (
            request(f"{method} {path} HTTP/1.1").replace(b"\r\n", b"\n"),
            request(f"{method} {path} HTTP/1.1", host=None),
            request(f"{method} {path} HTTP/1.1", CHUNKED, "Content-Length: 5", body=END),
        ):
            assert exchange(server.base_url, data + LAST).statuses == [400]


def test_an_older_version_needs_no_host_and_ends_the_connection(server: Server) -> None:
    reply = exchange(server.base_url, request("GET /health/live HTTP/1.0", host=None) + LAST)
    assert reply.statuses == [200]
    assert reply.is_closed


def test_a_body_is_asked_for_only_where_it_is_wanted(server: Server) -> None:
    """Expect: 100-continue (RFC 9110 section 10.1.1): a refusal comes before the body, which then is not a request of its own."""
    body = b"grant_type=client_credentials"
    fields = ("Expect: 100-continue", f"Content-Length: {len(body)}", "Content-Type: application/x-www-form-urlencoded")
    with connect(server.base_url) as sock:
        sock.sendall(request("POST /oauth/token HTTP/1.1", *fields, "Connection: close"))
        assert sock.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert read_to_end(sock).statuses == [401]
    unwanted = exchange(server.base_url, request("GET /health/live HTTP/1.1", *fields))
    assert unwanted.statuses == [200]
    assert "connection: close" in unwanted.head
    assert unwanted.is_closed


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """What a request was read as; 400 where its body breaks off."""
    body, status, more = b"", 200, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            status, more = 400, False
        else:
            body, more = body + message["body"], message["more_body"]
    read = [scope["method"], scope["path"], scope["query_string"], scope["http_version"], scope["headers"], body]
    await answer(send, repr(read).encode(), status)


async def answers(*pieces: bytes) -> list[bytes]:
    """The statuses and bodies of the responses to what arrives in these pieces."""
    server = make_server(echo)
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    await loop.connect_accepted_socket(lambda: server.make_protocol(server.config, server.server_state, {}), theirs)
    ours.setblocking(False)
    received = b""
    for piece in pieces:
        await loop.sock_sendall(ours, piece)
        await asyncio.sleep(0)
    while data := await loop.sock_recv(ours, 1_000_000):
        received += data
    ours.close()
    return [part.partition(b" ")[0] + part.partition(b"\r\n\r\n")[2] for part in re.split(rb"HTTP/1\.1 (?=\d{3} )", received)[1:]]


@pytest.mark.parametrize("name", [*TAKEN, *REFUSED])
async def test_where_a_request_is_cut_makes_no_difference(name: str) -> None:
    data = {**TAKEN, **REFUSED}[name]
    whole = await answers(data + LAST)
    assert [each[:3] for each in whole] == ([b"200", b"200"] if name in TAKEN else [b"400"])
    draw = random.Random(name)
    cuts = [sorted(draw.sample(range(1, len(data)), min(len(data) - 1, draw.randint(1, 9)))) for _ in range(5)]
    for cut in cuts:
        pieces = [data[begin:end] for begin, end in zip([0, *cut], [*cut, len(data)], strict=True)]
        found = await answers(*pieces, LAST)
        assert found == whole if name in TAKEN else [each[:3] for each in found] == [b"400"]


async def test_a_request_that_arrives_byte_by_byte() -> None:
    data = (
        request("POST /a%20b?c=d HTTP/1.1", "Transfer-Encoding: chunked", body=b"2;a=b\r\nhi\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n") + LAST
    )
    assert await answers(*(data[at : at + 1] for at in range(len(data)))) == await answers(data)
    assert b"'POST', '/a b', b'c=d', '1.1'" in (await answers(data))[0]
    assert b"b'hi!'" in (await answers(data))[0]
