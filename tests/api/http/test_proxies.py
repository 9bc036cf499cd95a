"""Where a request came from: X-Forwarded-For is read of trusted proxies alone, from its end."""

from ipaddress import ip_network

import httpx2
import pytest
import structlog

from api.app import build_app
from api.http.proxies import find_client
from api.settings import Settings, SettingsError
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import BASE, Trust

TRUSTED = tuple(map(ip_network, ("10.0.0.0/8", "127.0.0.1", "fd00::/8")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("203.0.113.9", "127.0.0.1", "203.0.113.9"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 10.0.0.7, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.9.9.9, 10.0.0.2", "10.9.9.9"),
        ("10.0.0.1", "1.2.3.4, unknown", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, _hidden, 10.0.0.3", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("fd00::1", "2001:db8::7%eth0", "2001:db8::7"),
        ("10.0.0.1", "198.51.100.1,", "10.0.0.1"),
        ("/run/socket", "198.51.100.1", "/run/socket"),
    ],
)
def test_the_first_address_from_the_end_that_is_no_proxy_is_the_client(peer: str, forwarded: str | None, client: str) -> None:
    assert find_client(peer, forwarded, TRUSTED) == client


async def test_a_forged_header_changes_neither_the_log_nor_the_base_url(small_trust: Trust) -> None:
    vendor = await small_trust.client("vendor", "trust:4128=schools:read")
    forged = {
        "X-Forwarded-For": "198.51.100.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=192.0.2.1",
    }
    for proxies, peer, address in (
        ((), "10.0.0.1", "10.0.0.1"),
        (TRUSTED, "203.0.113.9", "203.0.113.9"),
        (TRUSTED, "10.0.0.1", "198.51.100.1"),
    ):
        settings = Settings(small_trust.databases.app_url, SECRET.encode(), BASE, trusted_proxies=proxies)
        transport = httpx2.ASGITransport(build_app(settings, small_trust.database), client=(peer, 4711))
        async with httpx2.AsyncClient(transport=transport, base_url=BASE, headers=vendor.headers) as http:
            with structlog.testing.capture_logs() as lines:
                answer = await http.get("/v1/schools?first=1", headers=forged)
                index = await http.get("/", headers=forged)
        assert [line["address"] for line in lines if line["event"] == "request"] == [address] * 2
        assert "evil" not in str(answer.headers)
        assert index.json()["token"] == f"{BASE}/oauth/token"


def test_every_part_of_the_setting_that_is_wrong_is_named() -> None:
    good = {"DATABASE_URL": "postgres://app@h/d", "MARKONCE_SECRET": SECRET}
    read = Settings.from_environment({**good, "MARKONCE_TRUSTED_PROXIES": "10.0.0.5, fd00::/8,"})
    assert [str(network) for network in read.trusted_proxies] == ["10.0.0.5/32", "fd00::/8"]
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({**good, "MARKONCE_TRUSTED_PROXIES": "proxy,10.0.0.5/8,0.0.0.0/0,10.0.0.5"})
    assert len(raised.value.faults) == 3
    assert [word for word in ("'proxy'", "10.0.0.5/8", "0.0.0.0/0") if word not in "; ".join(raised.value.faults)] == []
