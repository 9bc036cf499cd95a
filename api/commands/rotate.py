"""rotate: exchanges the key that signs tokens, and the secret that protects keys, cursors and ledgers."""

import os
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from api.commands.console import console, fail, fail_with_faults, find_setting_faults, open_ledger, run_as_operator
from api.settings import MIN_SECRET, OTHER_SECRET, read_secrets
from domain.clients import signing_keys
from domain.declare.errors import DatabaseError
from domain.store.ledger import SUFFIX, Ledger
from domain.store.schema import acquire_advisory_lock

rotate_commands = typer.Typer(no_args_is_help=True, help="Exchange the signing key, or the secret of the installation.")
MINUTES = int((signing_keys.TOKEN_LIFE.total_seconds() + 60) // 60)
"""After so many minutes no token of the former key is in force."""


@rotate_commands.command("signing-key")
def rotate_signing_key() -> None:
    """Make a new key that signs tokens from now on. Those of the former one stay valid until they expire."""
    secrets = _read_secrets(needs_other=False)

    async def work(connection: Any) -> str:
        await acquire_advisory_lock(connection, "init")
        await signing_keys.check_signing_key(connection, *secrets)
        return await signing_keys.rotate_signing_key(connection, secrets[0])

    kid = run_as_operator(work)
    console.print(
        f"Tokens are signed by the key {kid} from now on. The former one is published for {MINUTES} minutes more.", soft_wrap=True
    )


@rotate_commands.command("secret")
def rotate_secret() -> None:
    """Protect everything with MARKONCE_SECRET that MARKONCE_OTHER_SECRET, the one before, protects: a new signing key is made, and the
    ledgers of this folder are written anew. Repeating it changes nothing."""
    secrets = _read_secrets(needs_other=True)

    async def work(connection: Any) -> str | None:
        await acquire_advisory_lock(connection, "init")
        await signing_keys.check_signing_key(connection, *secrets)
        if await signing_keys.is_encrypted_with(connection, secrets[0]):
            return None
        return await signing_keys.rotate_signing_key(connection, secrets[0])

    kid = run_as_operator(work)
    if kid is None:
        console.print("The signing key is protected by MARKONCE_SECRET already.")
    else:
        console.print(f"Tokens are signed by the new key {kid} from now on, which MARKONCE_SECRET protects.", soft_wrap=True)
    for path in _reseal_ledgers(secrets):
        console.print(f"Written anew: {escape(str(path))}.", soft_wrap=True)
    console.print(
        f"Left to do: the same command on every server with a ledger. Then, after {MINUTES} minutes and once clients have read on with the"
        f" cursors that they hold, remove {OTHER_SECRET} and start the servers again. Keep the former secret as long as the oldest backup.",
        soft_wrap=True,
    )


def _read_secrets(*, needs_other: bool) -> tuple[bytes, ...]:
    faults = find_setting_faults()
    for name in ("MARKONCE_SECRET", OTHER_SECRET):
        text = os.environ.get(name, "")
        if not text and (needs_other or name != OTHER_SECRET):
            faults.append(f"{name} is not set: the {'secret before' if name == OTHER_SECRET else 'secret from now on'}")
        elif text and len(text.encode()) < MIN_SECRET:
            faults.append(f"{name} is shorter than {MIN_SECRET} bytes")
    secrets = read_secrets()
    if len(secrets) > 1 and secrets[0] == secrets[1]:
        faults.append(f"{OTHER_SECRET} is the same as MARKONCE_SECRET")
    fail_with_faults(faults)
    return secrets


def _reseal_ledgers(secrets: tuple[bytes, ...]) -> list[Path]:
    """Writes the ledgers in the folder of this server's anew, where the former secret wrote them. Returns those that it wrote."""
    own = open_ledger()
    if own is None:
        return []
    try:
        return [path for path in sorted(own.path.parent.glob(f"*{SUFFIX}")) if Ledger(path, *secrets).reseal()]
    except (DatabaseError, OSError) as problem:
        fail(escape(str(problem)))
