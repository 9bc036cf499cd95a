"""Whether a text gives a child away: by a UPN, or by a name that is known here."""

import asyncio
import re
from collections.abc import Collection

import asyncpg

UPN = re.compile(r"(?<![0-9A-Za-z])[A-HJ-NP-RT-Z][0-9]{11}[0-9A-HJ-NP-RT-Z](?![0-9A-Za-z])", re.IGNORECASE)
PLANTED = "Featherstonehaugh"
"""A surname that tests put where none should be."""
SHORTEST = 4
"""Letters of a name that is looked for: shorter ones stand in any text."""


def told(text: str, names: Collection[str] = ()) -> set[str]:
    """The UPNs and names that stand in a text."""
    found = {match[0] for match in UPN.finditer(text)}
    return found | {name for name in names if len(name) >= SHORTEST and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)}


def children(superuser_url: str) -> set[str]:
    """Surnames and forenames of all pupils of a database."""

    async def names() -> set[str]:
        connection = await asyncpg.connect(superuser_url)
        try:
            rows = await connection.fetch("SELECT surname FROM pupils UNION SELECT forename FROM pupils")
        finally:
            await connection.close()
        return {row[0] for row in rows}

    return asyncio.run(names())
