"""The order in which PostgreSQL sorts names and codes that are not those of people, such as of schools, groups and windows.

It is that of `names.make_sort_key`, Unicode's root order, made in the database by a function of the same name. Tables
that may be long have a column of keys, which triggers fill by the function. The weights are those of names.py; `migrate`
writes them, the function and the keys (migrations/after.py), and again when the rules have another version.
"""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Text, collate, func

from domain.roster.names import LOWEST_WEIGHT, NAMES_RULE, UNLISTED, list_weights, unify_punctuation, weigh
from domain.store.database import Connection, transpose

KEYS = {"schools": ("name",), "trusts": ("name",), "groups": ("name", "code")}
"""The columns of tables that have keys, in columns with `_key` at the end; triggers fill them."""
ROWS = 2_000
"""Rows of one transaction."""

_ASCII = "".join(map(chr, range(0x20, 0x7F)))


def sort_by_text(text: ColumnElement[Any]) -> ColumnElement[Any]:
    """Returns in SQL the key of a text, for lists that are short."""
    return collate(func.make_sort_key(text, type_=Text()), "C")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _translate(value: str, level: int) -> str:
    """Returns in SQL one level of the key of an ASCII text, of which every character has one weight."""
    return f"translate({value}, {_quote(_ASCII)}, {_quote(''.join(weigh(unify_punctuation(c))[level] for c in _ASCII))})"


def _write_function() -> str:
    """Returns the statement that makes the function.

    A text of printable ASCII, such as most are, needs no look-up. Elsewhere a character without weights of its own has
    those of the parts it is composed of, and a part without any comes after all others by its code point. LIMIT keeps
    each look-up an index probe.
    """
    other_signs = [chr(n) for n in range(0x20, 0x10000) if not 0xD800 <= n < 0xE000 and unify_punctuation(chr(n)) != chr(n)]
    signs, plain = "".join(other_signs), "".join(map(unify_punctuation, other_signs))
    level = "rtrim(string_agg(COALESCE(w.{0}, {1}), '' ORDER BY c.n, d.n), {1})"
    secondary, tertiary = (level.format(name, _quote(LOWEST_WEIGHT)) for name in ("accent", "capital"))
    return f"""
CREATE OR REPLACE FUNCTION make_sort_key(value text) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $sort$
BEGIN
    IF value ~ '^[!-~]+( [!-~]+)*$' THEN
        RETURN concat({_translate("value", 0)}, '  ', rtrim({_translate("value", 2)}, {_quote(LOWEST_WEIGHT)}));
    END IF;
    RETURN (
        SELECT concat(string_agg(COALESCE(w.letter_weight, {_quote(UNLISTED)} || d.part), '' ORDER BY c.n, d.n), ' ', {secondary}, ' ', {tertiary})
        FROM unnest(string_to_array(
            normalize(translate(regexp_replace(btrim(value), '\\s+', ' ', 'g'), {_quote(signs)}, {_quote(plain)}), NFKC), NULL
        )) WITH ORDINALITY AS c (letter, n)
        CROSS JOIN LATERAL unnest(
            CASE WHEN (SELECT true FROM public.sort_weights s WHERE s.letter = c.letter LIMIT 1) THEN ARRAY[c.letter]
            ELSE string_to_array(normalize(c.letter, NFD), NULL) END
        ) WITH ORDINALITY AS d (part, n)
        LEFT JOIN LATERAL (SELECT * FROM public.sort_weights s WHERE s.letter = d.part LIMIT 1) w ON true
    );
END $sort$
"""


_COMMENT = f"The key by which texts are sorted in Unicode's root order, as domain/roster/names.py makes it; version {NAMES_RULE} of the rules"
_STORED = "SELECT obj_description(to_regprocedure('make_sort_key(text)'), 'pg_proc') = $1"
_INSERT = "INSERT INTO sort_weights (letter, letter_weight, accent, capital) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])"
_NOT_MODIFIED = "UPDATE data_versions SET version = version + 1, xid = pg_current_xact_id()"


async def write_text_order(connection: Connection, report: Callable[[str], None]) -> None:
    """Writes the weights, the function and the keys, unless the database has those of these rules. The connection is the
    owner's.

    The answers of before are modified then, since lists may have another order. A run that was cut short is done again.
    """
    if await connection.fetchval(_STORED, _COMMENT):
        return
    async with connection.transaction():
        await connection.execute("DELETE FROM sort_weights")
        await connection.execute(_INSERT, *transpose([(letter, *weights) for letter, weights in list_weights().items()], 4))
        await connection.execute(_write_function())
    for table, columns in KEYS.items():
        await _fill_keys(connection, table, columns)
    async with connection.transaction():
        await connection.execute(f"COMMENT ON FUNCTION make_sort_key IS {_quote(_COMMENT)}")
        await connection.execute(_NOT_MODIFIED)
    report("Wrote the order of names and codes.")


async def _fill_keys(connection: Connection, table: str, columns: tuple[str, ...]) -> None:
    """Lets the trigger of a table make the keys that differ, some rows at a time."""
    differ = " OR ".join(f"{column}_key <> make_sort_key({column})" for column in columns)
    fill = f"UPDATE {table} SET {', '.join(f'{column} = {column}' for column in columns)} WHERE id = ANY ($1) AND ({differ})"
    page = f"SELECT id FROM {table} WHERE id > $1 ORDER BY id LIMIT {ROWS}"
    last = UUID(int=0)
    while ids := [row["id"] for row in await connection.fetch(page, last)]:
        await connection.execute(fill, ids)
        last = ids[-1]
