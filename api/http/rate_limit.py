"""How much a client may ask: a token bucket for each client, with a share for every tenant it reaches.

This is how "per client and tenant" is read here: one request may span every tenant within reach, so it cannot be charged to one of them, but a
vendor that serves 400 trusts has 400 times the bucket of one school's own app. A request takes one token, and its body one more for each 100 kB,
which is about 1,000 entries. Requests of a client are not counted by address: the schools of an area share one. Attempts that fail to prove a client
are counted by the client that they name and by the address, in buckets that requests of the client take nothing from.

The fields are those of draft-ietf-httpapi-ratelimit-headers-11. The buckets belong to this process: there is one worker, and each of several
would allow as much.
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
"""Buckets remembered. The one used longest ago goes first, and would most likely be full again anyway."""
WEIGHT = 800
"""Bytes of a bucket and its key, which is an id, or an id and an address."""
BODY = 100_000
"""Bytes of a body that cost a token."""


def find_network(address: str) -> str:
    """What is counted for an address: an IPv4 address itself, and of an IPv6 address its /64 network, since one host has all of that."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))


class QuotaExceeded(Exception):
    """The bucket is empty; `wait` is in how many seconds it is worth trying again."""

    def __init__(self, wait: int) -> None:
        super().__init__(wait)
        self.wait = wait


@dataclass
class Bucket:
    """`held` tokens at the time `at`; `rate` come back each second, up to `size`. Below zero is owed for a body that has been read."""

    key: str
    rate: int
    size: int
    held: float
    at: float = field(default_factory=time.monotonic)

    def take(self) -> None:
        """Takes one token. Raises QuotaExceeded."""
        self._refill()
        if self.held < 1:
            raise QuotaExceeded(self.wait)
        self.held -= 1

    def weigh(self, body: int) -> None:
        """Charges for a body of so many bytes, once it is there: what it costs more is waited for by the next request."""
        self.held = max(self.held - body // BODY, -self.size)

    @property
    def wait(self) -> int:
        """In how many seconds there is a token more than now; 0 when the bucket is full."""
        self._refill()
        wanted = max(math.floor(self.held) + 1, 1)
        return 0 if self.held >= self.size else math.ceil((wanted - self.held) / self.rate)

    def fields(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """What the client is told, as header fields."""
        wait, remaining = self.wait, max(math.floor(self.held), 0)
        policy = f'"default";q={self.size};w={math.ceil(self.size / self.rate)};pk=:{self.partition}:'
        state = f'"default";r={remaining};t={wait};pk=:{self.partition}:'
        return (b"ratelimit-policy", policy.encode()), (b"ratelimit", state.encode())

    @cached_property
    def partition(self) -> str:
        return base64.b64encode(self.key.encode()).decode()

    def _refill(self) -> None:
        now = time.monotonic()
        self.held, self.at = min(self.held + (now - self.at) * self.rate, self.size), now


class Buckets:
    """The buckets of a process, by client, or by a client and an address. `rate` and `burst` are those of one tenant."""

    def __init__(self, rate: int, burst: int, name: str = "rate limits") -> None:
        self._rate, self._burst = rate, burst
        self._buckets: Lru[Hashable, Bucket] = Lru(
            name, MAX_BUCKETS * 1000, entries=MAX_BUCKETS, share=1, weigh=lambda _, bucket: WEIGHT
        )

    def of(self, key: Hashable, tenants: int = 1) -> Bucket:
        """The client's bucket, sized anew where it reaches more or fewer tenants than before."""
        shares = max(tenants, 1)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = Bucket(str(key), self._rate * shares, self._burst * shares, self._burst * shares)
            self._buckets.put(key, bucket)
        bucket.rate, bucket.size = self._rate * shares, self._burst * shares
        return bucket
