"""Entity tags (RFC 9110, section 8.8.3) and If-None-Match.

The last part of an ETag is a digest of the version of the data and the request's key in the response cache. The ETag of a row that can be changed
begins with the row's version and a dot.
"""

import hashlib
import re

from starlette.responses import Response

from api.http.response import ETAG, PRIVATE, JsonResponse

ENTITY_TAG = re.compile(r'(W/)?"([!#-~\x80-\xff]*)"')
"""Whether the tag is weak, and its opaque part."""


def make_etag(*parts: bytes) -> str:
    """The digest of these parts."""
    return hashlib.blake2b(b"\x00".join(parts), digest_size=12).hexdigest()


def match_etag(digest: str, if_none_match: str) -> str | None:
    """The entity tag in If-None-Match that has this digest, or None. Tags are compared weakly and without regard to the content coding.

    `*` matches any response there is, so the response must be made first (or_not_modified).
    """
    opaque_tags = (opaque.removesuffix("-gzip") for _, opaque in ENTITY_TAG.findall(if_none_match))
    return next((f'"{opaque}"' for opaque in opaque_tags if opaque.rpartition(".")[2] == digest), None)


def or_not_modified(response: JsonResponse, if_none_match: str) -> Response:
    """The response, or a 304 where If-None-Match lists its entity tag or is `*`."""
    if response.tag and (if_none_match.strip() == "*" or match_etag(response.digest, if_none_match)):
        return make_not_modified(response.tag)
    return response


def make_not_modified(tag: str) -> Response:
    """The response 304 with this entity tag (RFC 9110, section 15.4.5)."""
    response = Response(status_code=304)
    response.raw_headers = [(ETAG, tag.encode("latin-1")), *PRIVATE]
    return response
