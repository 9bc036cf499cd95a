"""What a database promises to the programs that use it, read from its catalogue, and how a migration may change it: it adds, and locks one table at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Promises = Mapping[str, str]
"""By name, such as `column pupils.id`, what a program may rely on."""

ROLES = ("markonce_app", "markonce_operator")

_KINDS = {
    "relation": """
        SELECT 'relation ' || relname, relkind::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
            AND NOT relispartition""",
    "column": """
        SELECT format('column %s.%s', c.relname, a.attname), format_type(a.atttypid, a.atttypmod)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped""",
    "optional": """
        SELECT format('optional %s.%s', c.relname, a.attname), 'may be left out'
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
            AND (a.atthasdef OR a.attidentity <> '' OR NOT a.attnotnull)""",
    "nullable": """
        SELECT format('nullable %s.%s', c.relname, a.attname), 'may be null'
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
            AND NOT a.attnotnull""",
    "function": """
        SELECT format('function %s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), pg_get_function_result(p.oid)
        FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace""",
    "type": """
        SELECT 'type ' || t.typname,
            COALESCE((SELECT string_agg(e.enumlabel, ' ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid), t.typtype::text)
        FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd')""",
    "unique": """
        SELECT 'unique ' || c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique AND NOT c.relispartition""",
    "policy": "SELECT format('policy %s of %s', polname, polrelid::regclass), polcmd::text FROM pg_policy",
    "right": f"""
        SELECT format('right %s on %s to %s', right_, relname, role_), 'granted' FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) right_,
            unnest(ARRAY{list(ROLES)}) role_
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND NOT relispartition AND has_table_privilege(role_, oid, right_)
        UNION ALL
        SELECT format('right to run %s(%s) to %s', proname, pg_get_function_identity_arguments(oid), role_), 'granted'
        FROM pg_proc, unnest(ARRAY{list(ROLES)}) role_ WHERE pronamespace = 'public'::regnamespace AND has_function_privilege(role_, oid, 'EXECUTE')""",
}
_DEMANDS = """
SELECT format('constraint %s of %s', n.conname, c.relname), pg_get_constraintdef(n.oid), c.relname,
    ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = n.conrelid AND a.attnum = ANY (n.conkey)) AS columns
FROM pg_constraint n JOIN pg_class c ON c.oid = n.conrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition AND n.contype IN ('c', 'f', 'u', 'x', 'p')
UNION ALL
SELECT format('unique index %s of %s', i.relname, c.relname), pg_get_indexdef(x.indexrelid), c.relname,
    ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (x.indkey))
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition AND x.indisunique
    AND NOT EXISTS (SELECT 1 FROM pg_constraint n WHERE n.conindid = x.indexrelid)
"""
_FILES = """
SELECT c.oid::regclass::text, c.relfilenode FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
"""


@dataclass(frozen=True)
class Catalogue:
    """`promises` are what a program relies on, `demands` what it must keep to, by name with the table and the columns that they are of; `files` are those of
    the tables, of which one that is written anew has another."""

    promises: Promises
    demands: Mapping[str, tuple[str, frozenset[str]]]
    files: Mapping[str, int]


async def read_catalogue(connection: Any) -> Catalogue:
    promises = {name: what for kind in _KINDS.values() for name, what in await connection.fetch(kind)}
    demands = {row[0]: (row[2], frozenset(row[3])) for row in await connection.fetch(_DEMANDS)}
    return Catalogue(promises, demands, dict(await connection.fetch(_FILES)))


def find_losses(before: Catalogue, after: Catalogue) -> list[str]:
    """What a program that was written for the catalogue before would miss, by its name."""
    tables = {name.removeprefix("relation ") for name in before.promises if name.startswith("relation ")}
    missing = [name for name in before.promises if name not in after.promises]
    missing += [name for name, what in before.promises.items() if after.promises.get(name, what) != what]
    for name in after.promises:
        kind, _, column = name.partition(" ")
        table = column.split(".")[0]
        if kind == "column" and name not in before.promises and before.promises.get(f"relation {table}") in ("r", "p"):
            missing += [] if f"optional {column}" in after.promises else [f"optional {column}"]
    for name, (table, columns) in after.demands.items():
        known = {column for column in columns if f"column {table}.{column}" in before.promises}
        if name not in before.demands and table in tables and known:
            missing.append(name)
    functions = {name.partition("(")[0] for name in before.promises if name.startswith("function ")}
    missing += [  # a call of the one that was there may mean either
        f"only {name}" for name in after.promises if name not in before.promises and name.partition("(")[0] in functions
    ]
    return missing


def find_rewrites(before: Catalogue, after: Catalogue) -> list[str]:
    """The tables that were copied as a whole, during which nobody could read them."""
    return [table for table, file in before.files.items() if after.files.get(table, file) != file]


NOTE_LOCKS = """
CREATE SCHEMA noted;
CREATE TABLE noted.locks (transaction xid8, tag text, oid oid, mode text);
CREATE FUNCTION noted.note_locks() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO noted.locks SELECT pg_current_xact_id(), tg_tag, l.relation, l.mode FROM pg_locks l
    WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock');
END $$;
CREATE EVENT TRIGGER note_locks ON ddl_command_end EXECUTE FUNCTION noted.note_locks();
"""
"""Notes after each statement of a migration which locks it holds that others have to wait for."""
KNOWN = """
SELECT c.oid, c.relkind::text AS kind, COALESCE((SELECT inhparent FROM pg_inherits WHERE inhrelid = c.oid), c.oid)::regclass::text AS name
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
"""
"""The relations that are there before a migration; a partition has the name of its parent."""


def find_bad_locks(relations: Iterable[Any], locks: Iterable[Any]) -> list[str]:
    """Where a transaction keeps readers from two relations or more at the same time, and where nobody could write a table while its index was built."""
    by_oid = {row["oid"]: row for row in relations}
    wrong: list[str] = []
    closed: dict[Any, set[str]] = {}
    for row in locks:
        if (relation := by_oid.get(row["oid"])) is None:
            continue
        if row["mode"] in ("AccessExclusiveLock", "ExclusiveLock"):
            closed.setdefault(row["transaction"], set()).add(relation["name"])
        if (row["tag"], row["mode"], relation["kind"]) == ("CREATE INDEX", "ShareLock", "r"):
            wrong.append(f"an index of {relation['name']} is not built by build_index")
    wrong += [f"{' and '.join(sorted(names))} are locked together" for names in closed.values() if len(names) > 1]
    return list(dict.fromkeys(wrong))
