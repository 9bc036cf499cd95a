"""serve, migrate and init: the commands that set an installation up."""

import asyncio
import os
import secrets
import sys
from typing import Annotated, Any

import typer
from rich.markup import escape

from api.commands.console import (
    console,
    fail,
    fail_with_faults,
    find_setting_faults,
    format_problem,
    print_credentials,
    run_as_operator,
    warn_of_unknown_settings,
)
from api.http.health import find_start_faults
from api.settings import Settings, SettingsError, find_url_problems
from domain.clients import clients, grants, signing_keys
from domain.declare.errors import DatabaseError
from domain.store.migrate import migrate as run_migrations
from domain.store.schema import acquire_advisory_lock

MIN_SECRET = 32
"""Bytes."""


def serve(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.")] = 8000, host: Annotated[str, typer.Option()] = "127.0.0.1"
) -> None:
    """Serve the API with the database and secrets of the environment variables. What is wrong with them, with the
    database or with the clock is said before anything is served."""
    from api.server.supervisor import listen

    faults: list[str] = []
    try:
        Settings.from_environment()
    except SettingsError as problem:
        faults += problem.faults
    url, secret = os.environ.get("DATABASE_URL"), os.environ.get("MARKONCE_SECRET", "").encode()
    if url and not find_url_problems(os.environ, "DATABASE_URL"):
        faults += asyncio.run(find_start_faults(url, secret if len(secret) >= MIN_SECRET else None))
    fail_with_faults(faults)
    warn_of_unknown_settings()
    settings = Settings.from_environment()
    try:
        listener = listen(host, port)
    except OSError as problem:
        fail(escape(str(problem)))
    console.print(f"Serving {settings.base_url} on {host}:{port}. Ctrl-C stops it.")
    sys.stdout.flush()
    listener.set_inheritable(True)
    os.execv(sys.executable, [sys.executable, "-m", "api.server", str(listener.fileno())])  # noqa: S606 (our own interpreter)


def migrate() -> None:
    """Migrate the database of DATABASE_OWNER_URL to the newest schema. It may be served meanwhile; a second migration
    waits for the first."""
    url = os.environ.get("DATABASE_OWNER_URL") or fail("Set DATABASE_OWNER_URL: migrations run as the owner of the database.")
    fail_with_faults(find_setting_faults("DATABASE_OWNER_URL"))
    try:
        run_migrations(url, lambda line: console.print(escape(line), soft_wrap=True))
    except DatabaseError as problem:
        fail(escape(format_problem(problem)))


def init(name: Annotated[str, typer.Option(help="The operator client's name.")] = "operator") -> None:
    """Prepare an installation: schema, signing key and the operator's client. Repeating it changes nothing."""
    migrate()
    secret = os.environ.get("MARKONCE_SECRET", "")
    if len(secret) < MIN_SECRET:
        example = secrets.token_urlsafe(32)
        fail(f"Set MARKONCE_SECRET to 32 random bytes or more, and store it: it protects the keys. A new random value: {example}")

    async def work(connection: Any) -> None:
        await acquire_advisory_lock(connection, "init")
        await signing_keys.ensure_signing_key(connection, secret.encode())
        if any(client.name == name for client in await clients.list_clients(connection)):
            console.print(f"The client {name} exists; nothing was changed.")
            return
        client_id, client_secret = await clients.create_client(connection, name, "client_secret")
        await grants.approve_grant(
            connection, client_id, grants.parse_grant("installation=all"), purpose="operation", approved_by="init"
        )
        print_credentials(client_id, client_secret)

    run_as_operator(work)
