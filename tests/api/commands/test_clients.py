"""`client` and `grant` on the command line: one grant added, narrowed, extended, ended and confirmed; names, and secrets in files."""

import asyncio
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import typer
from typer.testing import CliRunner

from api.__main__ import app
from api.commands.console import open_secret_file, write_credentials
from domain.declare.ids import new_id
from domain.declare.scopes import NAMED_ALONE
from domain.store.ledger_reapply import begin_ledger
from tests.fixtures.databases import Databases
from tests.fixtures.registration import PUBLIC_KEY
from tests.fixtures.settings import ROOT

Cli = Callable[..., str]
SCHOOLS = {"oak": 125121, "elm": 125122, "ash": 125123, "fig": 125124, "yew": 125125, "may": 125126}
KINDS = {
    "oak": "Academy converter",
    "elm": "Academy converter",
    "ash": "Community school",
    "fig": "Free schools",
    "yew": "Foundation school",
}
MAINTAINED = {"ash"}
"""Of the local authority 936: fig is an academy without a trust, yew has closed, and may is another authority's."""


@pytest.fixture(scope="module")
def register(module_databases: Databases) -> dict[str, UUID]:
    """A trust of two academies, and four schools without one."""
    ids = {name: new_id(1 if name == "trust" else 3) for name in ("trust", *SCHOOLS)}

    async def fill() -> None:
        operator = await asyncpg.connect(module_databases.operator_url)
        await operator.execute(
            "INSERT INTO trusts (id, group_uid, name, kind, status) VALUES ($1, 4128, 'Hedgerow', 'multi-academy', 'open')",
            ids["trust"],
        )
        for name, urn in SCHOOLS.items():
            tenant, status = ids["trust"] if name in ("oak", "elm") else ids[name], "closed" if name == "yew" else "open"
            await operator.execute(
                "INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, kind, status)"
                " VALUES ($1, $2, $3, $4, $5, 'Surrey', $6, $7)",
                *(ids[name], tenant, urn, name, "937" if name == "may" else "936", KINDS.get(name, "Community school"), status),
            )
        await operator.close()

    asyncio.run(fill())
    return ids


@pytest.fixture
def cli(module_databases: Databases, register: dict[str, UUID], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command, and returns what it prints. `fails` says that it ends with an error."""
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_OPERATOR_URL", module_databases.operator_url)

    def run(*arguments: str, fails: bool = False) -> str:
        done = CliRunner().invoke(app, [*arguments])
        assert (done.exit_code == 0) is not fails, done.output
        return str(done.output)

    return run


def value(said: str, name: str) -> str:
    found = re.search(rf"^{name} +(\S+)$", said, re.MULTILINE)
    assert found, said
    return found[1]


def line_of(said: str, grant: str) -> str:
    return next((line for line in said.splitlines() if grant in line), "")


def test_one_grant_is_added_narrowed_extended_and_ended(cli: Cli) -> None:
    client = value(
        cli("client", "create", "one by one", "--grant", "school:125121=schools:read", "--expires", "2099-08-31"), "client_id"
    )
    grant = value(
        cli(
            *("grant", "add", "one by one", "trust:4128=pupils:read,judgements:read", "--purpose", "Shows marks"),
            *("--approved-by", "DPO", "--kind", "front-end", "--agreement-version", "2026-1", "--expires", "2099-08-31T12:00:00Z"),
        ),
        "grant_id",
    )
    line = line_of(cli("grant", "list", client), grant)
    assert "trust:4128=pupils:read,judgements:read" in line
    assert "approved by DPO: front-end, Shows marks (agreement 2026-1)" in line
    assert "until 2099-08-31 13:00 BST" in line
    said = cli("grant", "narrow", grant, "--scopes", "pupils:read", "--expires", "2098-08-31")
    assert "trust:4128=pupils:read " in line_of(said, grant)
    assert "one by one has 2 grants in all and reaches " in said
    assert "trust:4128=pupils:read " in line_of(cli("grant", "list"), grant)
    assert "until the end of 2098-08-31" in line_of(cli("client", "show", "one by one"), grant)
    assert "does not hold judgements:read" in cli("grant", "narrow", grant, "--scopes", "judgements:read", fails=True)
    assert "expires sooner" in cli("grant", "narrow", grant, "--expires", "2099-01-01", fails=True)
    assert "lasts longer" in cli("grant", "extend", grant, "--expires", "2097-01-01", fails=True)
    cli("grant", "extend", grant, "--never")
    assert "until" not in line_of(cli("grant", "list"), grant)
    assert "one by one has 1 grant in all and reaches 1 school." in cli("grant", "end", grant)
    assert line_of(cli("grant", "list", client), grant) == ""
    assert "ended" in line_of(cli("grant", "list", client, "--all"), grant)
    assert "school:125121" in cli("grant", "list", client)
    assert "Add a new one" in cli("grant", "extend", grant, "--never", fails=True)
    assert "no id of a grant" in cli("grant", "end", "one by one", fails=True)
    for arguments in (["end"], ["history"], ["narrow", "--scopes", "pupils:read"], ["extend", "--never"], ["confirm"]):
        assert f"There is no grant {client}." in cli("grant", *arguments, client, fails=True)
    told = [line.split("  ")[1:] for line in cli("grant", "history", grant).splitlines()]
    both, end = "pupils:read,judgements:read", "until 2099-08-31 13:00 BST"
    by = "by the command line"
    assert told == [
        [f"given {by}", both, end],
        [f"narrowed {by}", "pupils:read", "until the end of 2098-08-31"],
        [f"extended {by}", "pupils:read", "for ever"],
        [f"ended {by}", "pupils:read", "for ever"],
    ]
    cli("grant", "history", str(new_id(21)), fails=True)


def test_a_client_has_keys_in_place_of_its_secret_and_a_secret_again(cli: Cli, tmp_path: Path) -> None:
    keys, wrong, output = [tmp_path / name for name in ("keys.json", "wrong.json", "secret.json")]
    keys.write_text(json.dumps({"keys": [PUBLIC_KEY]}))
    wrong.write_text("{")
    cli("client", "create", "signs")
    assert "has no keys" in cli("client", "keys", "signs")
    for refused in (
        ["--jwks", str(wrong)],
        ["--jwks", str(tmp_path / "none")],
        ["--jwks", str(keys), "--secret"],
        ["--output", str(output)],
    ):
        cli("client", "keys", "signs", *refused, fails=True)
    cli("client", "keys", "signs", "--jwks", str(keys))
    assert json.loads(cli("client", "keys", "signs")) == PUBLIC_KEY
    assert "has no secret" in cli("client", "rotate", "signs", fails=True)
    cli("client", "keys", "signs", "--secret", "--output", str(output))
    assert len(json.loads(output.read_text())["clientSecret"]) == 43
    assert "has no keys" in cli("client", "keys", "signs", "--secret", fails=True)
    told = [line.split("  ")[1] for line in cli("client", "history", "signs").splitlines()]
    assert [line.split(" ")[0] for line in told] == ["made", "keys-changed", "keys-changed", "secret-rotated"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--expires", "tomorrow"), "tomorrow is no day"),
        (("--expires", "2020-01-01"), "still to come"),
        (("--expires", "2099-01-01T10:00:00"), "no instant"),
        (("--kind", "sink"), "front-end, sync, analytics"),
        (("--tenant", "school:125121"), "school without one"),
    ],
)
def test_terms_that_cannot_be_are_refused(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    assert said in cli("client", "create", "impossible", "--grant", "trust:4128=pupils:read", *arguments, fails=True)
    assert "impossible" not in cli("client", "list", "--all")


def test_everything_that_is_wrong_is_said_at_once_without_places_of_the_api(cli: Cli) -> None:
    cli("client", "create", "wrongly asked", "--grant", "trust:4128=pupils:read", "--expires", "2099-08-31")
    wrong = ("trust:4128=pupil:read", "--kind", "sink", "--expires", "2099-08-32")
    said = cli("grant", "add", "wrongly asked", *wrong, fails=True)
    assert said.splitlines()[0] == "error: 3 things are wrong:"
    assert all(part in said for part in ("no scope 'pupil:read'", "--kind is one of", "2099-08-32 is no day")), said
    said = cli("grant", "add", "wrongly asked", "trust:1=pupils:read", "--expires", "2020-01-01", fails=True)
    assert (said.splitlines()[0], "/" in said) == ("error: 2 things are wrong:", False), said
    assert "`client list` shows them" in cli("grant", "add", "nobody", "trust:4128=pupils:read", fails=True)
    said = cli("client", "create", "wrongly asked", fails=True)
    assert said == "error: There is a client named 'wrongly asked' already.\n"


def test_who_approved_a_grant_is_missed_where_nobody_is_named(cli: Cli) -> None:
    missed = "Neither --approved-by nor --purpose was given"
    assert missed not in cli("client", "create", "approved")
    assert missed in cli("grant", "add", "approved", "trust:4128=pupils:read")
    assert missed not in cli("grant", "add", "approved", "trust:4128=pupils:read", "--approved-by", "DPO")


def test_the_secrets_in_force_are_shown_and_that_there_is_none(cli: Cli, module_databases: Databases) -> None:
    client = value(cli("client", "create", "rotates"), "client_id")
    cli("client", "rotate", client, "--overlap-hours", "3")
    former, new = re.findall(r"^    secret of (\S+)(.*)$", cli("client", "show", client), re.MULTILINE)
    assert (former[1].startswith(" until 20"), new[1]) == (True, "")

    async def expire() -> None:
        operator = await asyncpg.connect(module_databases.operator_url)
        await operator.execute("UPDATE client_secrets SET expires_at = now() WHERE client_id = $1", UUID(client))
        await operator.close()

    asyncio.run(expire())
    for said in (cli("client", "show", client), cli("client", "list")):
        assert said.count("no secret in force: it gets no token. `client rotate` gives it one.") == 1, said
    cli("client", "revoke", client)
    assert "no secret in force" not in cli("client", "show", client)


def test_files_of_another_day_than_the_one_named_are_no_register(cli: Cli, tmp_path: Path) -> None:
    """GIAS names its downloads by their day, and a folder of last month may lie beside: nothing is read of either."""
    files = [tmp_path / f"{kind}{day}.csv" for kind, day in (("allgroupsdata", "20220320"), ("alllinksdata", "20220420"))]
    for file in files:
        file.write_text("URN\n")
    said = cli("import", "gias", *map(str, files), "--as-of", "2022-04-20", fails=True)
    expected = "allgroupsdata20220320.csv is of 2022-03-20 by its name, and --as-of says 2022-04-20."
    assert said.startswith(f"error: {expected}"), said


def test_all_leaves_out_what_is_named_alone(cli: Cli) -> None:
    cli("client", "create", "everything", "--grant", "trust:4128=all", "--grant", "installation=all,clients:write")
    trust, installation = [line.split("=")[1].split()[0].split(",") for line in cli("grant", "list", "everything").splitlines()]
    assert NAMED_ALONE.isdisjoint(trust)
    assert {"pupils:write", "schools:write"} <= {*trust}
    assert {"schools:read", "clients:write"} <= {*installation}
    assert {"imports:write", "grants:write"}.isdisjoint(installation)
    assert "pupils:read gives nothing there" in cli("client", "create", "astray", "--grant", "installation=pupils:read")


def test_the_name_of_a_revoked_client_is_free_and_those_of_tenants_are_their_own(cli: Cli, register: dict[str, UUID]) -> None:
    first = value(cli("client", "create", "MIS", "--grant", "trust:4128=pupils:read"), "client_id")
    assert "a client named 'MIS' already" in cli("client", "create", "MIS", fails=True)
    cli("client", "revoke", "MIS")
    second = value(cli("client", "create", "MIS"), "client_id")
    assert second != first
    assert first not in cli("client", "list")
    assert first in cli("client", "list", "--all")
    own = value(cli("client", "create", "MIS", "--tenant", "trust:4128"), "client_id")
    assert "by its id" in cli("client", "revoke", "MIS", fails=True)
    assert f"of {register['trust']}" in cli("client", "show", own)
    cli("client", "revoke", own)
    assert second in cli("client", "show", "MIS")


def test_a_secret_goes_into_a_new_private_file(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "secret.json"
    said = cli("client", "create", "filed", "--output", str(path))
    written: dict[str, str] = json.loads(path.read_text())
    assert (written["clientId"], written["clientSecret"] in said) == (value(said, "client_id"), False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert "exists" in cli("client", "rotate", "filed", "--output", str(path), fails=True)
    assert path.read_bytes() == before
    other = tmp_path / "rotated.json"
    cli("client", "rotate", "filed", "--output", str(other))
    assert json.loads(other.read_text())["clientSecret"] != written["clientSecret"]
    missing = tmp_path / "none.json"
    cli("client", "rotate", "nobody", "--output", str(missing), fails=True)
    assert not missing.exists()


def test_nothing_is_said_to_be_done_before_it_is_committed(cli: Cli, module_databases: Databases, tmp_path: Path) -> None:
    """An installation for which `serve` began a ledger, and a shell without it: each command says the error alone."""
    cli("client", "create", "stays", "--grant", "trust:4128=pupils:read,schools:read")
    grant = cli("grant", "list", "stays").split()[1]

    async def mark(*, keeps_ledger: bool) -> None:
        owner = await asyncpg.connect(module_databases.owner_url)
        await (begin_ledger(owner) if keeps_ledger else owner.execute("DELETE FROM ledger_entries"))
        await owner.close()

    asyncio.run(mark(keeps_ledger=True))
    try:
        for arguments in (
            ("client", "revoke", "stays"),
            ("client", "rotate", "stays", "--output", str(tmp_path / "new.json")),
            ("grant", "end", grant),
            ("grant", "narrow", grant, "--scopes", "pupils:read"),
        ):
            said = cli(*arguments, fails=True)
            assert said.startswith("error: This installation keeps a ledger"), said
            assert len(said.splitlines()) == 1, said
    finally:
        asyncio.run(mark(keeps_ledger=False))
    assert [*tmp_path.iterdir()] == []
    said = cli("client", "rotate", "stays", "--overlap-hours", "2", "--output", str(tmp_path / "new.json"))
    assert "The old secret works until 20" in said
    for hours in ("169", "-1"):
        assert "Invalid value for" in cli("client", "rotate", "stays", "--overlap-hours", hours, fails=True)
    assert "is for --jwks" in cli("client", "keys", "stays", "--secret", "--overlap-hours", "2", fails=True)
    assert "The grant does not expire" in cli("grant", "add", "stays", "trust:4128=groups:read")
    assert "name one with --grant" in cli("client", "create", "kindly", "--kind", "sync", fails=True)


async def reached_by(databases: Databases, client: str) -> set[tuple[UUID, UUID]]:
    operator = await asyncpg.connect(databases.operator_url)
    rows = await operator.fetch("SELECT tenant_id, school_id FROM reach WHERE client_id = $1", UUID(client))
    await operator.close()
    return {(row["tenant_id"], row["school_id"]) for row in rows}


def test_a_local_authority_reaches_the_schools_it_maintains(
    cli: Cli, module_databases: Databases, register: dict[str, UUID]
) -> None:
    client = value(cli("client", "create", "County", "--grant", "localAuthority:936=schools:read"), "client_id")
    assert "localAuthority:936=schools:read" in cli("grant", "list", "County")
    assert asyncio.run(reached_by(module_databases, client)) == {(register[name], register[name]) for name in MAINTAINED}
    assert "code of three digits" in cli("grant", "add", "County", "localAuthority:36=schools:read", fails=True)
    assert "has the local authority 999" in cli("grant", "add", "County", "localAuthority:999=schools:read", fails=True)


def test_what_a_client_gave_is_listed_when_it_ends_and_stays_if_it_is_confirmed(
    cli: Cli, module_databases: Databases, register: Any
) -> None:
    giver = value(cli("client", "create", "giver", "--grant", "trust:4128=pupils:read,grants:write"), "client_id")
    kept, lost, own = [
        value(cli("client", "create", name, "--grant", "trust:4128=pupils:read"), "client_id") for name in ("kept", "lost", "own")
    ]
    grants = {name: cli("grant", "list", name).split()[1] for name in ("kept", "lost", "own")}

    async def give() -> None:
        operator = await asyncpg.connect(module_databases.operator_url)
        given = [UUID(grants["kept"]), UUID(grants["lost"])]
        await operator.execute(
            "UPDATE grants SET given_by = $1, of_tenant = $2, of_school = $2 WHERE id = ANY ($3)",
            UUID(giver),
            register["trust"],
            given,
        )
        await operator.close()

    asyncio.run(give())
    said = cli("client", "revoke", "giver")
    assert "gave 2 grants" in said
    assert (grants["kept"] in said, grants["lost"] in said, grants["own"] in said) == (True, True, False)
    assert "to be confirmed" in line_of(cli("grant", "list", "--unconfirmed"), grants["lost"])
    assert "Confirm the grant first" in cli("grant", "extend", grants["lost"], "--never", fails=True)
    cli("grant", "confirm", grants["kept"])
    assert "awaits no confirmation" in cli("grant", "confirm", grants["kept"], fails=True)
    listed = cli("grant", "list", "--unconfirmed")
    assert (grants["kept"] in listed, grants["lost"] in listed) == (False, True)
    assert "until" not in line_of(cli("grant", "list", kept), grants["kept"])
    assert "until" in line_of(cli("grant", "list", lost), grants["lost"])
    assert "until" not in line_of(cli("grant", "list", own), grants["own"])


def test_an_import_names_the_kinds_of_file_that_were_not_there(cli: Cli, tmp_path: Path) -> None:
    rows = (ROOT / "tests" / "published" / "data" / "establishments.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "edubasealldata20220420.csv").write_bytes(b"".join(rows[:3]))
    said = cli("import", "gias", str(tmp_path / "edubasealldata20220420.csv"), "--as-of", "2022-04-20")
    assert "There was no file with rows of groups, group links: what is known of them stays as it is." in said


def test_a_secret_goes_into_no_file_that_another_has_put_in_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what lies there before, and of what is put there meanwhile."""
    readable = tmp_path / "readable"
    readable.write_text("")
    for name in ("link", "dangling", "readable", "no/such"):
        path = tmp_path / name
        if name in ("link", "dangling"):
            path.symlink_to(readable if name == "link" else tmp_path / "absent")
        with pytest.raises(typer.Exit), open_secret_file(path):
            pass
    swapped = tmp_path / "swapped"

    def swap(path: Path) -> None:
        with open_secret_file(path):
            path.unlink()
            path.symlink_to(readable)
            write_credentials("id", "secret", path)

    with pytest.raises(ValueError, match="cannot be written"):
        swap(swapped)
    monkeypatch.setattr("os.geteuid", lambda: -1)
    with pytest.raises(ValueError, match="another user's"), open_secret_file(tmp_path / "taken"):
        write_credentials("id", "secret", tmp_path / "taken")
    assert (readable.read_text(), sorted(each.name for each in tmp_path.iterdir())) == ("", ["dangling", "link", "readable"])
