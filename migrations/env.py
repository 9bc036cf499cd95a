"""Runs migrations in the session of domain/store/migrate.py, each in a transaction of its own."""

from alembic import context
from alembic.util import CommandError

connection = context.config.attributes.get("connection")
if connection is None:
    raise CommandError("Run `python -m api migrate`: it lets one run at a time work, and retries where a lock cannot be had.")
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
