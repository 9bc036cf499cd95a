"""Reads the shell blocks of docs/operating.md by their headings, so that what is run is what the page prints."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.fixtures.settings import ROOT

PAGE = ROOT / "docs" / "operating.md"
YOURS = "# Yours: "
"""The first words of the block whose values are the reader's."""
FIRST, LAST = "Install", "Settings"
"""The chapters that are followed begin with the first of these and end before the second."""


def read_blocks(text: str) -> dict[str, list[str]]:
    """The shell blocks under each heading of the chapters that are followed, in their order."""
    blocks: dict[str, list[str]] = {}
    heading, is_followed = "", False
    for part in re.split(r"^(#{2,4} .+)$", text, flags=re.MULTILINE):
        if part.startswith("#"):
            level, _, heading = part.partition(" ")
            if level == "##":
                is_followed = heading == FIRST or (is_followed and heading != LAST)
        elif is_followed:
            blocks.setdefault(heading, []).extend(re.findall(r"```sh\n(.*?)```", part, re.DOTALL))
    return blocks


def set_yours(block: str, values: Mapping[str, str]) -> str:
    """The block with these values in place of the page's. Every line sets a variable, and each of `values` is one of them."""
    assert block.startswith(YOURS), "the first block is the reader's"
    names = []
    lines = []
    for line in block.splitlines()[1:]:
        name = re.match(r"([A-Z_]+)=('[^']*'|\S+)", line)
        assert name, f"this line sets no variable: {line}"
        names.append(name[1])
        lines.append(f"{name[1]}='{values[name[1]]}'" if name[1] in values else line)
    assert values.keys() <= {*names}, f"the page has no {values.keys() - {*names}}"
    return "\n".join(lines) + "\n"


def make_script(headings: Sequence[str], values: Mapping[str, str]) -> str:
    """The blocks under these headings as one script, which says each block before it runs and ends at the first failure."""
    blocks = read_blocks(PAGE.read_text())
    assert {*headings} <= blocks.keys(), f"the page has no heading { ({*headings} - blocks.keys()) }"
    script = ["set -euo pipefail", set_yours(blocks[FIRST][0], values)]
    for heading in headings:
        script += [f"echo {shlex.quote(f'== {heading}')}", *blocks[heading]]
    return "\n".join(script)


PROGRAM, REGISTER, SERVE = "The program", "The register", "Serve"
OWN, BY_DBA, BY_INIT, EMBEDDED = (
    *("With a PostgreSQL of your own", "A DBA makes the roles", "Or `init` makes them"),
    "Or with the embedded PostgreSQL",
)
TERM = ("The first term", "A data manager", "A scheme from a template", "A window", "A vendor's night", "A portal")
WAYS = {
    "dba": (PROGRAM, OWN, BY_DBA, REGISTER, SERVE, *TERM),
    "init": (PROGRAM, OWN, BY_INIT, REGISTER, SERVE, *TERM),
    "embedded": (PROGRAM, EMBEDDED, REGISTER, SERVE, *TERM),
}
"""The headings that each way to install follows, in their order."""


def copy_register(folder: Path) -> None:
    """The register of the tests under the names that its files have when they are downloaded."""
    folder.mkdir()
    names = {"establishments": "edubasealldata", "groups": "allgroupsdata", "group_links": "alllinksdata"}
    for ours, theirs in names.items():
        (folder / f"{theirs}20220420.csv").write_bytes((ROOT / "tests" / "published" / "data" / f"{ours}.csv").read_bytes())
