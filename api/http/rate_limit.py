"""Rate limits: a token bucket for each client, whose size is proportional to the number of tenants within the client's reach.

One request may read from every tenant within reach, so it cannot be charged to one of them: a vendor that serves 400 trusts has 400 times the bucket
of one school's own app. A request costs one token, and its body one more for each 100 kB, which is about 1,000 entries. Requests are not counted by
address, because the schools of an area share one. Failed client authentication is counted by client id and address, in separate buckets.

The header fields are those of draft-ietf-httpapi-ratelimit-headers-11. The buckets belong to this process: with several workers, each would allow as
much.
"""

import base64
import math
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv6Address, ip_address, ip_network

from domain.support.lru import Lru

MAX_BUCKETS = 5_000
"""Buckets in memory. The least recently used one is dropped first, and would most likely be full again."""
BYTES_PER_BUCKET = 800
"""Memory of a bucket and its key, which is an id, or an id and an address."""
BYTES_PER_TOKEN = 100_000
"""Bytes of a body that cost one token."""


def find_network(address: str) -> str:
    """What is counted for an address: an IPv4 address itself, or the /64 network of an IPv6 address, which one host has to itself."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))


class QuotaExceeded(Exception):
    """The bucket is empty. `wait` is the number of seconds until the next request may succeed."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


@dataclass
class Bucket:
    """`tokens` at the time `refilled_at`. `rate` tokens are added each second, up to `size`. After a large body, `tokens` may be below zero."""

    key: str
    rate: int
    size: int
    tokens: float
    refilled_at: float = field(default_factory=time.monotonic)

    def take(self) -> None:
        """Takes one token. Raises QuotaExceeded."""
        self._refill()
        if self.tokens < 1:
            raise QuotaExceeded(self.wait)
        self.tokens -= 1

    def charge(self, body: int) -> None:
        """Charges for a body of so many bytes, which was read already: the next request waits for the tokens."""
        self.tokens = max(self.tokens - body // BYTES_PER_TOKEN, -self.size)

    @property
    def wait(self) -> int:
        """Seconds until there is one token more; 0 when the bucket is full."""
        self._refill()
        target = max(math.floor(self.tokens) + 1, 1)
        return 0 if self.tokens >= self.size else math.ceil((target - self.tokens) / self.rate)

    def make_headers(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """The header fields RateLimit-Policy and RateLimit."""
        wait, remaining = self.wait, max(math.floor(self.tokens), 0)
        policy = f'"default";q={self.size};w={math.ceil(self.size / self.rate)};pk=:{self.partition}:'
        limit = f'"default";r={remaining};t={wait};pk=:{self.partition}:'
        return (b"ratelimit-policy", policy.encode()), (b"ratelimit", limit.encode())

    @cached_property
    def partition(self) -> str:
        """The partition key (`pk`) of the header fields."""
        return base64.b64encode(self.key.encode()).decode()

    def _refill(self) -> None:
        now = time.monotonic()
        self.tokens, self.refilled_at = min(self.tokens + (now - self.refilled_at) * self.rate, self.size), now


class Buckets:
    """The buckets of a process, by client, or by client and address. `rate` and `burst` are for one tenant."""

    def __init__(self, rate: int, burst: int, name: str = "rate limits") -> None:
        self._rate, self._burst = rate, burst
        self._buckets: Lru[Hashable, Bucket] = Lru(
            name, MAX_BUCKETS * 1000, entries=MAX_BUCKETS, share=1, weigh=lambda _, bucket: BYTES_PER_BUCKET
        )

    def find(self, key: Hashable, tenants: int = 1) -> Bucket:
        """The bucket of a key, made if there is none, with the size and rate for this number of tenants."""
        shares = max(tenants, 1)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = Bucket(str(key), self._rate * shares, self._burst * shares, self._burst * shares)
            self._buckets.put(key, bucket)
        bucket.rate, bucket.size = self._rate * shares, self._burst * shares
        return bucket
