"""Rate limits: a token bucket for each client, whose size is proportional to the number of tenants within the client's reach.

One request may read from every tenant within reach, so it cannot be charged to one of them: a vendor that serves 400 trusts has 400 times the bucket
of one school's own app. A request costs 1 token, and in addition the values that it asks for divided by 1,000 and the bytes of its body divided by
100,000, rounded down (RequestContext.charge). Requests are not counted by address, because the schools of an area share one. Failed client
authentication is counted by client id and address, in separate buckets.

The header fields are those of draft-ietf-httpapi-ratelimit-headers-11. The buckets belong to this process: with several servers, each allows as
much. Whoever uses them knows `Quotas` and `Quota` alone, so that servers can share them later. Neither waits: a shared implementation leases tokens
in the background, as many as a server uses in a second or so, and hands out what it has leased.
"""

import base64
import math
import time
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Protocol

from domain.support.lru import Lru

MAX_BUCKETS = 5_000
"""Buckets in memory. The least recently used one is dropped first, and would most likely be full again."""
BYTES_PER_BUCKET = 800
"""Memory of a bucket and its key, which is an id, or an id and an address."""
UNIT = "cost"
"""What a quota counts, in the parameter `qu` of the header field."""


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


class Quota(Protocol):
    """The quota of one client, whose id is `key`."""

    @property
    def key(self) -> str: ...

    def take(self) -> None:
        """Takes what every request costs. Raises QuotaExceeded."""

    def charge(self, cost: int) -> None:
        """Takes what a request costs in addition, which is known once it is read: the next requests wait for it. What is negative is given back."""

    def make_headers(self) -> "tuple[tuple[bytes, bytes], tuple[bytes, bytes]]":
        """Returns the header fields RateLimit-Policy and RateLimit."""
        ...


class Quotas(Protocol):
    """The quotas of all clients."""

    def find(self, key: Hashable, tenants: int = 1) -> Quota:
        """Returns the quota of a client with so many tenants within reach."""
        ...

    def read_left(self, key: Hashable) -> float | None:
        """Returns how much of a quota is left, from 0 to 1; None where nothing is known of it."""
        ...


@dataclass
class Bucket:
    """`tokens` at the time `refilled_at`. `rate` tokens are added each second, up to `size`. After a costly request, `tokens` may be below zero."""

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

    def charge(self, cost: int) -> None:
        """Takes so many tokens, even where there are none: the next request waits for them. A negative number is given back."""
        self.tokens = min(max(self.tokens - cost, -self.size), self.size)

    @property
    def wait(self) -> int:
        """Seconds until there is one token more; 0 when the bucket is full."""
        self._refill()
        target = max(math.floor(self.tokens) + 1, 1)
        return 0 if self.tokens >= self.size else math.ceil((target - self.tokens) / self.rate)

    def make_headers(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """The header fields RateLimit-Policy and RateLimit."""
        wait, remaining = self.wait, max(math.floor(self.tokens), 0)
        policy = f'"default";q={self.size};w={math.ceil(self.size / self.rate)};qu="{UNIT}";pk=:{self.partition}:'
        limit = f'"default";r={remaining};t={wait};pk=:{self.partition}:'
        return (b"ratelimit-policy", policy.encode()), (b"ratelimit", limit.encode())

    def read_left(self) -> float:
        """Returns how much is left, from 0 to 1."""
        self._refill()
        return max(self.tokens, 0.0) / self.size

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

    def read_left(self, key: Hashable) -> float | None:
        """Returns how much of a bucket is left, from 0 to 1; None where there is no bucket."""
        bucket = self._buckets.get(key)
        return None if bucket is None else bucket.read_left()
