"""gzip for who asks for it, and what an ETag becomes."""

import gzip

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.http.compression import Gzip, is_gzip_wanted
from tests.fixtures.server import Server


@pytest.mark.parametrize(
    ("accepted", "wants"),
    [
        ("gzip", True),
        ("br, GZip;q=0.5", True),
        ("*", True),
        ("x-gzip", True),
        ("gzip;q=0.5, identity;q=0.1", True),
        ("", False),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=0.5, identity", False),
        ("gzip;q=nonsense", False),
    ],
)
def test_who_wants_it(accepted: str, wants: bool) -> None:
    assert is_gzip_wanted(accepted) == wants


def test_a_large_answer_is_compressed_and_a_small_one_is_not(server: Server) -> None:
    url = f"{server.base_url}/openapi.json"
    plain, compressed = (httpx2.get(url, headers={"Accept-Encoding": coding}) for coding in ("identity", "gzip"))
    assert plain.content == compressed.content
    assert ("content-encoding" in plain.headers, compressed.headers["content-encoding"]) == (False, "gzip")
    assert int(compressed.headers["content-length"]) < int(plain.headers["content-length"]) / 4
    assert all("Accept-Encoding" in answer.headers["vary"].split(", ") for answer in (plain, compressed))
    with server.client("operator") as operator:
        assert "content-encoding" not in operator.get("/v1/pupils", headers={"Accept-Encoding": "gzip"}).headers
        large = operator.get("/v1/pupils?" + "&".join(f"x{i}=1" for i in range(100)), headers={"Accept-Encoding": "gzip"})
        assert (large.status_code, large.headers["content-encoding"], len(large.json()["issues"])) == (400, "gzip", 100)


def test_head_has_the_headers_of_get(server: Server) -> None:
    answers = [
        httpx2.request(method, f"{server.base_url}/openapi.json", headers={"Accept-Encoding": "gzip"}) for method in ("GET", "HEAD")
    ]
    names = ("content-encoding", "content-length", "content-type", "vary")
    got, told = ({name: answer.headers[name] for name in names} for answer in answers)
    assert (told, answers[1].content) == (got, b"")


async def answer(request: Request) -> Response:
    tag = request.headers.get("x-tag", '"7"')
    if tag.strip('"') in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(b"x" * int(request.query_params["size"]), headers={"ETag": tag})


async def test_the_etag_of_compressed_bytes_is_another_one() -> None:
    app = Gzip(Starlette(routes=[Route("/", answer)]))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x") as http:

        async def tag(size: int, coding: str, **headers: str) -> tuple[int, str]:
            sent = {"Accept-Encoding": coding, **{name.replace("_", "-"): value for name, value in headers.items()}}
            given = await http.get(f"/?size={size}", headers=sent)
            assert given.status_code == 304 or given.content == b"x" * size
            return given.status_code, given.headers["etag"]

        assert await tag(5000, "gzip") == (200, '"7-gzip"')
        assert await tag(5000, "identity") == (200, '"7"')
        assert await tag(50, "gzip") == (200, '"7"')
        assert await tag(5000, "gzip", x_tag='W/"7"') == (200, 'W/"7"')
        assert await tag(5000, "gzip", if_none_match='"7-gzip"') == (304, '"7-gzip"')
        assert await tag(5000, "gzip", if_none_match='"7"') == (304, '"7"')
        assert await tag(5000, "identity", if_none_match='"7-gzip"') == (304, '"7"')


def test_what_is_sent_is_gzip(server: Server) -> None:
    with httpx2.stream("GET", f"{server.base_url}/openapi.json", headers={"Accept-Encoding": "gzip"}) as got:
        raw = b"".join(got.iter_raw())
    assert gzip.decompress(raw).startswith(b'{"openapi"')
