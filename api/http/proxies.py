"""Trusted proxies: whose X-Forwarded-For says where a request came from. Anybody else's is not read.

Each proxy appends the address from which it received the request, so the list is read from its end: the first address that is no trusted proxy
is the client's. What stands before it was sent by the client, and says nothing. X-Forwarded-Proto and X-Forwarded-Host are never read: how
clients reach the server is MARKONCE_BASE_URL.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def parse_address(text: str) -> Address | None:
    """Returns the address of a hop, which may have a port and brackets. None where it is none, such as `unknown`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def find_client(peer: str, forwarded: str | None, trusted: Sequence[Network]) -> str:
    """Returns the address of the client of a request that came from `peer`, with this value of X-Forwarded-For, its lines joined by commas."""
    address = parse_address(peer)
    if forwarded is None or address is None or not _is_trusted(address, trusted):
        return peer
    for hop in reversed(forwarded.split(",")):
        before = parse_address(hop)
        if before is None:
            break  # a proxy that hides it, or a client that made it up
        address = before
        if not _is_trusted(address, trusted):
            break
    return str(address)


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)
