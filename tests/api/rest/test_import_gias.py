"""The register by HTTP: the same import as at the command line, for who may."""

from datetime import date
from pathlib import Path

import httpx2

from tests.fixtures.server import Server

DATA = Path(__file__).parents[2] / "published" / "data"
NAMES = ("establishments.csv", "groups.csv", "group_links.csv")


def files() -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("files", (name, (DATA / name).read_bytes(), "text/csv")) for name in NAMES]


def send(server: Server, who: str, as_of: str = "2022-04-20") -> httpx2.Response:
    with server.client(who) as client:
        return client.post("/v1/imports/gias", data={"asOf": as_of}, files=files())


def test_the_operator_imports_the_register_and_a_second_time_changes_nothing(server: Server) -> None:
    first = send(server, "operator")
    assert first.status_code == 200, first.text
    report = send(server, "operator").json()
    assert report["schools"]["received"] == report["schools"]["unchanged"] > 60
    assert report["trusts"]["created"] == report["memberships"]["created"] == 0
    for what in ("trusts", "schools", "memberships", "succession"):
        counts = report[what]
        assert counts["received"] == counts["created"] + counts["updated"] + counts["unchanged"] + sum(counts["ignored"].values())


def test_a_bad_day_or_no_file_is_named(server: Server) -> None:
    assert send(server, "operator", "20/04/2022").json()["issues"][0]["at"] == "/asOf"
    with server.client("operator") as client:
        nothing = client.post(
            "/v1/imports/gias", data={"asOf": str(date(2022, 4, 20))}, files={"asOf2": ("x.csv", b"a,b\n1,2\n", "text/csv")}
        )
        assert nothing.status_code == 422
        assert nothing.json()["issues"][0]["code"] == "gias-unknown-file"
        assert client.post("/v1/imports/gias", json={}).status_code == 415


def test_a_client_without_the_scope_on_the_installation_is_refused(server: Server) -> None:
    send(server, "operator")
    server.register("importer-of-schools", "schools=imports:write,schools:read")
    refused = send(server, "importer-of-schools")
    assert refused.status_code == 403
    assert "imports:write" in refused.json()["detail"]
