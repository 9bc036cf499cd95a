"""serve, migrate and init: the commands that set an installation up."""

import asyncio
import os
import secrets
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.markup import escape

from api.commands.console import (
    console,
    fail,
    fail_with_faults,
    find_setting_faults,
    format_problem,
    open_ledger,
    open_secret_file,
    print_credentials,
    run_as_operator,
    warn_of_unknown_settings,
    write_credentials,
)
from api.commands.ledger import reapply_before_serving
from api.http.health import find_start_faults
from api.settings import (
    MIN_SECRET,
    URLS,
    Settings,
    SettingsError,
    find_replica_problems,
    find_url_problems,
    is_pooled,
    list_replica_urls,
    read_read_seconds,
    read_role_names,
    read_secrets,
)
from domain.clients import clients, grants, signing_keys
from domain.declare.errors import DatabaseError
from domain.declare.scopes import OF_INSTALLATION, Scope
from domain.publishing.installed import is_installed
from domain.store.backup import restore_backup, write_backup
from domain.store.ledger_reapply import begin_ledger
from domain.store.pooler import find_pooler_faults, make_role_settings, store_role_settings
from domain.store.replicas import find_replica_faults
from domain.store.role_names import (
    RoleNames,
    find_owner_faults,
    list_roles_without_login,
    make_database_statements,
    make_role_statements,
    make_roles,
)
from domain.store.schema import acquire_advisory_lock
from domain.store.single_transaction import run_single_transaction
from domain.store.urls import read_url

OPERATOR = tuple(scope for scope in Scope if scope in OF_INSTALLATION)
"""The scopes of the client that `init` makes: it runs the installation, and reaches no school's data."""


def serve(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.")] = 8000,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
) -> None:
    """Serve the API with the database and secrets of the environment variables. What is wrong with them, with the
    database or with the clock is said before anything is served."""
    from api.server.log_lines import is_text, write_line
    from api.server.supervisor import listen, supervise

    def refuse(faults: list[str]) -> None:
        if faults and not is_text(sys.stderr.isatty()):
            write_line("error", "server not started", faults=faults)
        fail_with_faults(faults)

    faults: list[str] = []
    try:
        Settings.from_environment()
    except SettingsError as problem:
        faults += problem.faults
    url, keys = os.environ.get("DATABASE_URL"), read_secrets()
    if url and not find_url_problems(os.environ, "DATABASE_URL"):
        faults += asyncio.run(find_start_faults(url, keys if keys and min(map(len, keys)) >= MIN_SECRET else None))
        if is_pooled():
            faults += asyncio.run(find_pooler_faults(url, "DATABASE_URL", read_read_seconds()))
        if not find_replica_problems(os.environ):
            for replica in list_replica_urls():
                faults += asyncio.run(find_replica_faults(replica, read_read_seconds(), pooled=is_pooled()))
    refuse(faults)
    warn_of_unknown_settings()
    settings = Settings.from_environment()
    refuse(reapply_before_serving(settings.database_url))
    try:
        listeners = [listen(host, port)]
        if settings.ops_port:
            listeners.append(listen(settings.ops_host, settings.ops_port, advice="choose another with MARKONCE_OPS_PORT"))
    except OSError as problem:
        refuse([str(problem)])
    if is_text(sys.stdout.isatty()):
        console.print(f"Serving on {host}:{port}, reached as {settings.base_url} (MARKONCE_BASE_URL). Ctrl-C stops it.")
    write_line("info", "server started", address=f"{host}:{port}", base_url=settings.base_url, operations=settings.ops_port or None)
    sys.stdout.flush()
    if context.obj:  # the embedded database ends with this process
        raise typer.Exit(supervise(*listeners, has_database=context.obj))
    for listener in listeners:
        listener.set_inheritable(True)
    descriptors = [str(listener.fileno()) for listener in listeners]
    os.execv(sys.executable, [sys.executable, "-m", "api.server", *descriptors])  # noqa: S606 (our own interpreter)


def backup(file: Annotated[Path, typer.Argument(help="A new file, which pg_restore reads.", dir_okay=False)]) -> None:
    """Write all of the database into a file, as the owner, with pg_dump. MARKONCE_SECRET is not in it."""
    url = os.environ.get("DATABASE_OWNER_URL") or fail("Set DATABASE_OWNER_URL: the owner sees every row.")
    fail_with_faults(find_setting_faults("DATABASE_OWNER_URL"))
    try:
        size = write_backup(url, "DATABASE_OWNER_URL", file)
    except DatabaseError as problem:
        fail(escape(problem.detail))
    console.print(
        f"Wrote {size:,} bytes to {escape(str(file))}, and read them. Keep MARKONCE_SECRET elsewhere: both are needed.",
        soft_wrap=True,
    )


def restore(file: Annotated[Path, typer.Argument(help="A backup.", exists=True, dir_okay=False)]) -> None:
    """Restore a backup into an empty database, as the owner, with pg_restore: all of it or nothing."""
    url = os.environ.get("DATABASE_OWNER_URL") or fail("Set DATABASE_OWNER_URL: the owner owns what is restored.")
    fail_with_faults(find_setting_faults("DATABASE_OWNER_URL"))
    try:
        restore_backup(url, "DATABASE_OWNER_URL", file)
    except DatabaseError as problem:
        fail(escape(problem.detail))
    console.print(f"Restored {escape(str(file))}. Left to do: `migrate` where the program is newer, then `serve`.", soft_wrap=True)


def migrate() -> None:
    """Migrate the database of DATABASE_OWNER_URL to the newest schema. It may be served meanwhile; a second migration
    waits for the first."""
    from domain.store.migrate import migrate as run_migrations  # here, since it takes long, and serve does without

    url = os.environ.get("DATABASE_OWNER_URL") or fail("Set DATABASE_OWNER_URL: migrations run as the owner of the database.")
    fail_with_faults(find_setting_faults("DATABASE_OWNER_URL"))
    try:
        names = read_role_names()
        fail_with_faults(asyncio.run(run_single_transaction(url, lambda connection: find_owner_faults(connection, names))))
        run_migrations(url, lambda line: console.print(escape(line), soft_wrap=True), names=names)
        _store_role_settings()
    except (DatabaseError, SettingsError) as problem:
        fail(escape(format_problem(problem)))


def _store_role_settings() -> None:
    """Stores the settings of the app role, where a pooler is in front of PostgreSQL. Raises DatabaseError."""
    url = os.environ.get("DATABASE_URL")
    if not is_pooled():
        return
    if not url:
        raise DatabaseError("Set DATABASE_URL too: with MARKONCE_POOLER the planner's settings belong to the role that serves.")
    fail_with_faults(find_setting_faults("DATABASE_URL"))
    if asyncio.run(store_role_settings(url, "DATABASE_URL", read_read_seconds())):
        console.print("Stored the settings of the role of DATABASE_URL. A pooler that runs already: RECONNECT in its console.")


def init(
    name: Annotated[str, typer.Option(help="The operator client's name.")] = "operator",
    print_roles: Annotated[
        bool,
        typer.Option("--print-roles", help="Print the SQL that makes the roles and the database, for an administrator, and end."),
    ] = False,
    admin_url: Annotated[str, typer.Option(help="First make the missing roles and database as this administrator.")] = "",
    output: Annotated[
        Path | None, typer.Option(help="A new file for the id and the secret of the operator's client, as JSON (mode 0600).")
    ] = None,
) -> None:
    """Prepare an installation: schema, signing key and the operator's client. Repeating it changes nothing."""
    names, passwords, database = _read_installation(needs_all=not print_roles)
    if print_roles:
        return _print_roles(names, passwords, database)
    open_ledger()  # before anything is made
    if admin_url:
        try:
            for line in asyncio.run(make_roles(admin_url, names, database, passwords)):
                console.print(escape(line), soft_wrap=True)
        except DatabaseError as problem:
            fail(escape(format_problem(problem)))
    migrate()
    keys = read_secrets()

    async def work(connection: Any) -> tuple[UUID, str | None] | None:
        await acquire_advisory_lock(connection, "init")
        await signing_keys.ensure_signing_key(connection, *keys)
        if os.environ.get("MARKONCE_LEDGER"):
            await begin_ledger(connection)
        if any(client.name == name and client.revoked_at is None for client in await clients.list_clients(connection)):
            return None
        files.enter_context(open_secret_file(output))  # here, since where the client exists nothing is made
        client_id, client_secret = await clients.create_client(connection, name, "client_secret")
        request = grants.GrantRequest("installation", None, OPERATOR)
        await grants.approve_grant(connection, client_id, request, purpose="operation", approved_by="init")
        write_credentials(client_id, client_secret, output)
        return client_id, client_secret

    with ExitStack() as files:
        made = run_as_operator(work)
    if made is None:
        more = f" `client rotate {escape(name)} --output FILE` gives it a new secret." if output else ""
        console.print(f"The client {escape(name)} exists; nothing was changed.{more}", soft_wrap=True)
    else:
        print_credentials(*made, output)
    _print_what_is_left(names, keys)
    return None


def _read_installation(*, needs_all: bool) -> tuple[RoleNames, dict[str, str], str]:
    """Returns the names of the roles, the passwords that the database URLs have for them, and the database's name. Exits
    with every fault; without `needs_all` settings may be missing."""
    faults = find_setting_faults(*URLS)
    names = RoleNames()
    try:
        names = read_role_names()
    except SettingsError as problem:
        faults += problem.faults
    secret = os.environ.get("MARKONCE_SECRET", "")
    if needs_all and not os.environ.get("DATABASE_OWNER_URL"):
        faults.append("DATABASE_OWNER_URL is not set: the owner of the database makes the tables")
    if needs_all and len(secret.encode()) < MIN_SECRET:
        example = secrets.token_urlsafe(32)
        faults.append(
            f"Set MARKONCE_SECRET to 32 random bytes or more, and store it: it protects the keys. A new random value: {example}"
        )
    fail_with_faults(faults)
    passwords, databases = {}, dict[str, str]()
    for setting, role in zip(URLS, (names.app, names.owner, names.operator), strict=True):
        url = read_url(os.environ.get(setting) or "postgresql://")
        if url.password and url.user == role:
            passwords[role] = url.password
        databases |= {setting: url.database} if url.database else {}
    if len({*databases.values()}) > 1:
        named = ", ".join(f"{setting} the database {database}" for setting, database in databases.items())
        fail_with_faults([f"The URLs name different databases: {named}. All name one, which is the installation's"])
    return names, passwords, next(iter(databases.values()), "markonce")


def _print_roles(names: RoleNames, passwords: dict[str, str], database: str) -> None:
    """Prints SQL, and for each role without a password the command of psql that asks for one."""
    print("-- The roles and the database of Markonce, for psql as an administrator. Leave out what is there already.")
    print("-- A password stands here only as PostgreSQL stores it (SCRAM-SHA-256).")
    roles = make_role_statements(names, passwords)
    of_pooler = make_role_settings(names.app, database, read_read_seconds()) if is_pooled() else []
    for statement in (*roles.values(), *make_database_statements(names, database), *of_pooler):
        print(f"{statement};")
    for role, statement in roles.items():
        if "PASSWORD" not in statement:
            print(f"\\password {role}")


def _print_what_is_left(names: RoleNames, keys: tuple[bytes, ...]) -> None:
    """Says what must still be done before the installation serves its first client."""
    without_login = asyncio.run(
        run_single_transaction(os.environ["DATABASE_OWNER_URL"], lambda connection: list_roles_without_login(connection, names))
    )
    left = [
        f"An administrator lets {role} log in: ALTER ROLE {role} LOGIN, and \\password {role} in psql." for role in without_login
    ]
    program = "python -m api" if Path(sys.argv[0]).name == "__main__.py" else sys.argv[0]
    if url := os.environ.get("DATABASE_URL"):
        left += [f"{fault.rstrip('.')}." for fault in asyncio.run(find_start_faults(url, keys))]
    else:
        left.append(f"Set DATABASE_URL to the database, as {names.app}.")
    left += [
        f"Import the register: {program} import gias FILE… --as-of DAY.",
        f"Register clients: {program} client create NAME --grant TARGET=SCOPES.",
        f"Serve: {program} serve.",
    ]
    if not is_installed():
        left.append("To publish results, which portals then read: install requirements-publish.lock (markonce[publish]).")
    console.print("The schema, the signing key and the operator's client are there. Left to do:")
    for line in left:
        console.print(f"  {escape(line)}", soft_wrap=True)
