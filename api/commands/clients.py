"""The commands about clients: python -m api client."""

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.markup import escape

from api.commands.console import (
    console,
    fail,
    format_count,
    open_secret_file,
    print_credentials,
    run_as_operator,
    write_credentials,
)
from api.commands.grants import (
    AS_AGREED,
    NO_EXPIRY,
    OPERATOR,
    Agreement,
    ApprovedBy,
    Expires,
    KindOfUse,
    Purpose,
    add_grant,
    describe_change,
    describe_end,
    describe_grant,
    find_client,
    print_unconfirmed,
    read_grants,
    warn_of_defaults,
)
from domain.clients import clients, grants
from domain.clients.access_history import Change, list_client_changes
from domain.clients.change_client import MAX_OVERLAP_HOURS
from domain.clients.secrets import SecretDates, list_secrets
from domain.declare.ids import NIL
from domain.support.clock import read_now

client_commands = typer.Typer(no_args_is_help=True, help="The clients that may request tokens.")

ClientName = Annotated[str, typer.Argument(metavar="CLIENT", help="The client, by its id or its name.")]
Output = Annotated[
    Path | None,
    typer.Option(
        help="A new file for the id and the secret, as JSON, which only you may read (mode 0600). Nothing is printed of it."
    ),
]


@client_commands.command("create")
def create_client(
    name: Annotated[str, typer.Argument(help="A name that no other client of the tenant has.")],
    grant: Annotated[
        list[str] | None,
        typer.Option(
            help="TARGET=SCOPES: school:URN, trust:UID, localAuthority:CODE, schools, trusts or installation; scopes with commas, or all."
        ),
    ] = None,
    purpose: Purpose = AS_AGREED,
    approved_by: ApprovedBy = OPERATOR,
    agreement: Agreement = None,
    expires: Expires = None,
    kind: KindOfUse = None,
    tenant: Annotated[
        str,
        typer.Option(
            help="Whose client it is: trust:UID, or school:URN of a school without a trust.", show_default="the installation"
        ),
    ] = "",
    jwks: Annotated[
        Path | None,
        typer.Option(
            help="A JWKS file with the client's public keys: it authenticates by private_key_jwt and has no secret.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="The origin of a browser app of the client, such as https://app.example; repeat it."),
    ] = None,
    output: Output = None,
) -> None:
    """Register a client, with its first grants."""

    terms_of_grants = (purpose, approved_by, agreement, expires, kind)
    if not grant and terms_of_grants != (AS_AGREED, OPERATOR, None, None, None):
        fail("--purpose, --approved-by, --agreement-version, --expires and --kind are the terms of grants: name one with --grant.")
    requests, terms = read_grants(grant or (), *terms_of_grants)

    async def work(connection: Any) -> tuple[UUID, str | None, int]:
        keys = _read_keys(jwks) if jwks else None
        method: clients.AuthMethod = "private_key_jwt" if jwks else "client_secret"
        tenant_id = await grants.find_tenant_of(connection, grants.parse_grant(f"{tenant}=all")) if tenant else NIL
        client_id, secret = await clients.create_client(connection, name, method, keys, origin or (), tenant_id)
        for request in requests:
            await add_grant(connection, client_id, request, terms)
        write_credentials(client_id, secret, output)
        return client_id, secret, await clients.count_schools_in_reach(connection, client_id)

    with open_secret_file(output):
        client_id, secret, schools = run_as_operator(work)
    print_credentials(client_id, secret, output)
    console.print(
        f"{escape(name)} has {format_count(len(grant or ()), 'grant')} and reaches {format_count(schools, 'school')}.",
        soft_wrap=True,
    )
    if grant and expires is None:
        console.print(NO_EXPIRY)
    if grant:
        warn_of_defaults(purpose, approved_by)


@client_commands.command("list")
def list_clients(
    everything: Annotated[bool, typer.Option("--all", help="Also clients that are revoked, and grants that have ended.")] = False,
) -> None:
    """List the clients and their grants: who approved them, for what purpose and until when."""

    async def work(connection: Any) -> list[tuple[clients.Client, list[grants.Grant], list[SecretDates]]]:
        found = [client for client in await clients.list_clients(connection) if everything or client.revoked_at is None]
        secrets = await list_secrets(connection)
        return [(client, await grants.list_grants(connection, client.id), secrets.get(client.id, [])) for client in found]

    for client, client_grants, secrets in run_as_operator(work):
        _print_client(client, client_grants, secrets, everything=everything)


@client_commands.command("show")
def show_client(name: ClientName) -> None:
    """Show one client with all of its grants, those that have ended too."""

    async def work(connection: Any) -> tuple[clients.Client, list[grants.Grant], list[SecretDates]]:
        client = await find_client(connection, name)
        secrets = await list_secrets(connection)
        return client, await grants.list_grants(connection, client.id), secrets.get(client.id, [])

    _print_client(*run_as_operator(work), everything=True)


@client_commands.command("history")
def show_history(name: ClientName) -> None:
    """Show who made a client, rotated its secret, changed its keys and origins and revoked it, and when."""

    async def work(connection: Any) -> list[Change]:
        return await list_client_changes(connection, (await find_client(connection, name)).id)

    for change in run_as_operator(work):
        console.print(describe_change(change), soft_wrap=True)


@client_commands.command("origins")
def set_client_origins(
    name: ClientName,
    origins: Annotated[list[str] | None, typer.Argument(help="Such as https://app.example. They replace the present ones.")] = None,
    none: Annotated[bool, typer.Option("--none", help="It has no browser apps any more.")] = False,
) -> None:
    """Set the origins of a client's browser apps or, without origins, show them."""

    async def work(connection: Any) -> tuple[str, list[str]]:
        client = await find_client(connection, name)
        if origins or none:
            await clients.set_origins(connection, client.id, origins or [])
        return client.name, origins or [] if origins or none else list(client.origins)

    client_name, result = run_as_operator(work)
    text = f"has browser apps at {' '.join(result)}." if result else "has no browser apps."
    console.print(escape(f"{client_name} {text}"), soft_wrap=True)


@client_commands.command("rotate")
def rotate_client_secret(
    name: ClientName,
    overlap_hours: Annotated[int, typer.Option(min=0, max=MAX_OVERLAP_HOURS, help="How long the old secret still works.")] = 0,
    output: Output = None,
) -> None:
    """Give a client a new secret."""

    overlap = timedelta(hours=overlap_hours)

    async def work(connection: Any) -> tuple[UUID, str]:
        client = await find_client(connection, name)
        secret = await clients.rotate_secret(connection, client.id, overlap)
        write_credentials(client.id, secret, output)
        return client.id, secret

    with open_secret_file(output):
        client_id, secret = run_as_operator(work)
    print_credentials(client_id, secret, output)
    end = f"works until {read_now() + overlap:%Y-%m-%d %H:%M} UTC" if overlap else "works no more"
    console.print(f"The old secret {end}.")


@client_commands.command("keys")
def set_client_keys(
    name: ClientName,
    jwks: Annotated[
        Path | None,
        typer.Option(help="A JWKS file with its public keys, in place of those that it has.", exists=True, dir_okay=False),
    ] = None,
    secret: Annotated[bool, typer.Option("--secret", help="It has no keys any more, and a secret instead.")] = False,
    overlap_hours: Annotated[
        int, typer.Option(min=0, max=MAX_OVERLAP_HOURS, help="With --jwks, how long its secret still works.")
    ] = 0,
    output: Output = None,
) -> None:
    """Let a client authenticate by its own keys, or by a secret again, or, without either, show its keys."""
    if (jwks and (secret or output)) or (output and not secret):
        fail("--jwks and --secret are one or the other, and --output is for the secret.")
    if overlap_hours and not jwks:
        fail("--overlap-hours is for --jwks: with --secret the keys work no more at once.")

    async def work(connection: Any) -> tuple[UUID, str | None, list[dict[str, Any]]]:
        client = await find_client(connection, name)
        made = None
        if jwks:
            await clients.set_keys(connection, client.id, _read_keys(jwks), timedelta(hours=overlap_hours))
        elif secret:
            made = await clients.remove_keys(connection, client.id)
            write_credentials(client.id, made, output)
        return client.id, made, await clients.list_keys(connection, client.id)

    with open_secret_file(output):
        client_id, made, keys = run_as_operator(work)
    if made is not None:
        print_credentials(client_id, made, output)
    for key in keys:
        console.print(json.dumps(key), soft_wrap=True, markup=False)
    if made is None and not keys:
        console.print(f"{escape(name)} has no keys: it authenticates by a secret.", soft_wrap=True)


def _read_keys(path: Path) -> object:
    """Returns what a JWKS file holds. Raises ValueError."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise ValueError(f"{path} is no JWKS: {problem}") from None


@client_commands.command("revoke")
def revoke_client(name: ClientName) -> None:
    """Revoke a client: it gets no new tokens, and its reach ends at once. Its name is free again. Grants that it gave end in
    30 days unless they are confirmed."""

    async def work(connection: Any) -> Sequence[UUID]:
        client = await find_client(connection, name)
        return await clients.revoke_client(connection, client.id)

    unconfirmed = run_as_operator(work)
    console.print(f"{escape(name)} is revoked.", soft_wrap=True)
    print_unconfirmed(unconfirmed)


def _print_client(
    client: clients.Client, client_grants: list[grants.Grant], secrets: list[SecretDates], *, everything: bool
) -> None:
    revoked = f"  revoked {client.revoked_at:%Y-%m-%d}" if client.revoked_at else ""
    tenant = "" if client.tenant_id == NIL else f"  of {client.tenant_id}"
    line = f"{client.id}  {escape(client.name)}  {client.auth_method}{tenant}  created {client.created_at:%Y-%m-%d}{revoked}"
    console.print(line, soft_wrap=True)
    for secret in secrets:
        end = f" {describe_end(secret.expires_at)}" if secret.expires_at else ""
        console.print(f"    secret of {secret.created_at:%Y-%m-%d}{end}", soft_wrap=True)
    if client.auth_method == "client_secret" and not secrets and not client.revoked_at:
        console.print("    no secret in force: it gets no token. `client rotate` gives it one.", soft_wrap=True)
    if client.origins:
        console.print(f"    browser apps at {' '.join(client.origins)}", soft_wrap=True)
    for grant in client_grants:
        if everything or not grants.has_ended(grant):
            console.print(f"    {describe_grant(grant)}", soft_wrap=True)
