"""Reads through the response cache: the version of the data, the cached answer, else the read itself, which is stored.

A cached answer is served only after its version was read again (PreparedQuery), so it is never outdated. Both interfaces read this way.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import Response

from api.http.context import get_context
from api.http.etag import make_etag, make_not_modified, match_etag, or_not_modified
from api.http.field_values import join_lines
from api.http.response import HeaderField, JsonResponse
from domain.access.caller import Caller
from domain.declare.errors import NotFound
from domain.read.cursors import Cursors
from domain.read.groups_read import GroupsRead
from domain.read.prepared import PreparedQuery
from domain.store.database import Database
from domain.support.lru import Lru

SEPARATOR = b"\x00"
"""Separates the bodies of several queries: no JSON text contains this byte."""
Headers = tuple[HeaderField, ...]
Run = Callable[[], Awaitable[tuple[bytes, Headers, GroupsRead | None]]]
"""Makes the body of an answer, the header fields that belong to it, and the groups of collected values that it holds."""


class Answer(NamedTuple):
    """The body of a read, its header fields, the version of the data it was made from, if that has one, and the groups of
    collected values that it holds, if it holds any.

    `current_tag` is the entity tag in If-None-Match that is current. The body is empty then, and the groups are those of the body that the
    client has, if that is cached.
    """

    body: bytes
    headers: Headers = ()
    version: bytes | None = None
    current_tag: str | None = None
    groups: GroupsRead | None = None


class ReadServices(Protocol):
    """What a read needs of the application."""

    @property
    def database(self) -> Database: ...
    @property
    def cursors(self) -> Cursors: ...
    @property
    def response_cache(self) -> Lru[bytes, Answer]: ...


def make_response_cache(limit: int) -> Lru[bytes, Answer]:
    """A cache of recent answers by the key of their request (`make_key`), of at most so many bytes."""
    return Lru("answers", limit, weigh=_weigh)


def _weigh(key: bytes, answer: Answer) -> int:
    headers = sum(150 + len(name) + len(value) for name, value in answer.headers)
    groups = 0 if answer.groups is None else answer.groups.weight
    return 200 + len(key) + len(answer.version or b"") + len(answer.body) + headers + groups


def make_key(*parts: bytes) -> bytes:
    """The key of a request: a short digest of what distinguishes it from others.

    The parts are separated by a byte that no UTF-8 has, so that two requests never join to the same bytes. Only the last part may be other than
    UTF-8, and the first, which always begins with an id.
    """
    return hashlib.blake2b(b"\xff".join(parts), digest_size=32).digest()


async def answer(
    services: ReadServices,
    caller: Caller,
    key: bytes,
    query: PreparedQuery,
    texts: Sequence[str] = (),
    run: Run | None = None,
    if_none_match: str | None = None,
) -> Answer:
    """The answer to a request with this key, from the cache where its version is current.

    Without `run` the body is that of the query, whose statement reads the version as well. With it, the version of the query is read first, so that
    it is not newer than the body. Raises what the query and `run` raise, and stores nothing then.
    """
    snapshot, cached, version = caller.snapshot, services.response_cache.get(key), None
    if snapshot is not None and (cached is not None or if_none_match is not None or run is not None):
        cached_version = None if cached is None else cached.version
        version = await query.read_version(services.database, caller.client_id, services.cursors, snapshot, texts, cached_version)
        if version is not None:
            if if_none_match is not None and (tag := match_etag(make_etag(version, key), if_none_match)) is not None:
                groups = cached.groups if cached is not None and cached_version == version else None
                return Answer(b"", version=version, current_tag=tag, groups=groups)
            if cached is not None and cached_version == version:
                return cached
    if run is None:
        bodies, version, groups = await query.read(services.database, caller.client_id, services.cursors, snapshot, texts)
        made = Answer(SEPARATOR.join(body or b"" for body in bodies), (), version, groups=groups)
    else:
        body, headers, groups = await run()
        made = Answer(body, headers, version, groups=groups)
    if version is not None:
        services.response_cache.put(key, made)
    return made


async def respond_conditionally(
    request: Request,
    caller: Caller,
    texts: Sequence[str],
    query: PreparedQuery,
    media_type: HeaderField,
    make_response: Callable[[Answer], Awaitable[JsonResponse]],
    run: Run | None = None,
) -> Response:
    """The response to a GET with its ETag, or a 304. Raises NotFound where the body is empty, and what `answer` raises.

    Requests are the same where caller, path, media type and query string are. A row that can be changed has an ETag also without a version of the
    data, since If-Match needs one.
    """
    scope = request.scope
    if_none_match = join_lines(scope, b"if-none-match")
    path = scope["path"].encode(errors="surrogatepass")
    key = make_key(caller.cache_key, path, media_type[1], scope["query_string"])
    found = await answer(request.app.state, caller, key, query, texts, run, if_none_match)
    if found.current_tag is not None:
        get_context(scope).charge(values=0)  # nothing that was asked for is read or sent
        if found.groups is not None:
            count_read(request, caller, found.groups)
        elif (query.holds_groups or run is not None) and request.method != "HEAD":
            request.app.state.read_counts.count_not_modified(caller.client_id)
        return make_not_modified(found.current_tag)
    if not found.body:
        raise NotFound()
    response = await make_response(found)
    if found.groups is not None:
        count_read(request, caller, found.groups)
    if version := found.version or (response.version and found.body):
        response.set_etag(make_etag(version, key))
    return response if if_none_match is None else or_not_modified(response, if_none_match)


def count_read(request: Request, caller: Caller, groups: GroupsRead) -> None:
    """Counts that the client of a request has a body that holds these groups. HEAD asks for none."""
    if request.method != "HEAD":
        request.app.state.read_counts.count(caller.client_id, groups)
