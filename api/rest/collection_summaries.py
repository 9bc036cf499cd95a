"""Handlers of the page for governors and trustees: what is collected, what it costs and who reads it, on one sheet of A4."""

import re
from datetime import date
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import authenticate
from api.http.body import Handler
from api.http.context import get_context
from api.http.response import SECURITY_HEADERS
from api.http.target import read_path
from api.rest.query_string import check_parameters
from domain.assessment.collection_summary import SMALL, BudgetWindow, CollectionSummary, SummaryRow, read_collection_summary
from domain.assessment.collections import COLLECTIONS
from domain.declare.ids import parse_id

HTML = "text/html"
MAX_ROWS, MAX_CANDIDATES, MAX_WINDOWS, MAX_TEXT = 12, 8, 2, 150
"""Rows, candidates to stop, windows and characters of a text, so that the page is one sheet."""
COLUMNS = (
    ("Subject", "text"),
    ("Window", "text"),
    ("Schools", "number"),
    ("Values", "number"),
    ("Staff time", "number"),
    ("Never read", "number"),
    ("Uses a value", "number"),
    ("Verdict", "text"),
)
"""The columns of the table, and the class of their cells."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    **SECURITY_HEADERS,
}
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
TEMPLATE = (Path(__file__).parent / "collection_summary.html").read_text("utf-8")


def get_collection_summary(noun: str) -> Handler:
    """The handler of GET /v1/trusts/{id}/collection-summary, or of that of a school."""

    async def handle(request: Request) -> Response:
        state, caller = request.app.state, await authenticate(request)
        check_parameters(request.query_params)
        get_context(request.scope).charge(values=COLLECTIONS.weight)
        summary = await read_collection_summary(state.database, caller, noun, parse_id(read_path(request, "id")))
        return Response(write_page(summary), headers=HEADERS, media_type=HTML)

    return handle


def write_page(summary: CollectionSummary) -> str:
    """The page. Every text of the data is escaped."""
    parts = {
        "name": escape(summary.name),
        "on": _write_day(summary.on),
        "since": _write_day(summary.counted_since),
        "schools": f"{summary.schools} school{'' if summary.schools == 1 else 's'}",
        "totals": _write_totals(summary.rows),
        "columns": "".join(f'<th class="{kind}">{name}</th>' for name, kind in COLUMNS),
        "rows": "\n".join(map(_write_row, summary.rows[:MAX_ROWS]))
        or '<tr><td colspan="8">Nothing has been entered yet.</td></tr>',
        "more": _count_more(len(summary.rows) - MAX_ROWS, "further subjects and kinds of window cost less time"),
        "candidates": _write_candidates(summary.rows),
        "windows": "\n".join(map(_write_window, summary.windows[:MAX_WINDOWS]))
        or "<p>No window is beyond the workload budget.</p>",
        "moreWindows": _count_more(len(summary.windows) - MAX_WINDOWS, "further windows are beyond the budget"),
        "lost": f" {summary.lost:,} counts of reads were lost, so that the others are too low." if summary.lost else "",
    }
    return _PLACEHOLDER.sub(lambda found: parts[found[1]], TEMPLATE)  # at once: what is filled in is no template


def _count_more(number: int, what: str) -> str:
    return f'<p class="small">{number} {what}.</p>' if number > 0 else ""


def _write_day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _write_number(number: int) -> str:
    return f"{number:,}" if number >= SMALL else "few"


def _write_hours(minutes: int) -> str:
    return f"{round(minutes / 60):,} h" if minutes >= 60 else "under 1 h"


def _write_share(part: int, whole: int) -> str:
    return f"{round(100 * part / whole)} %" if whole else "–"


def _write_totals(rows: list[SummaryRow]) -> str:
    values, never_read = sum(row.values for row in rows), sum(row.never_read for row in rows)
    reuse = sum(row.reuses for row in rows) / values if values else 0
    facts = (
        (_write_number(values), "values entered"),
        (_write_hours(sum(row.minutes for row in rows)), "of staff time, estimated"),
        (_write_share(never_read, values), "of values never read"),
        (f"{reuse:.1f}", "front ends read a value"),
        (f"{sum(row.resends for row in rows):,}", "re-sent values that cost nobody anything"),
    )
    return "\n".join(f"<li><b>{number}</b> {words}</li>" for number, words in facts)


def _write_row(row: SummaryRow) -> str:
    verdicts = ", ".join(
        f"{verdict if verdict != 'none' else 'undecided'}{f' ({n})' if sum(row.verdicts.values()) != n else ''}"
        for verdict, n in row.verdicts.items()
        if n
    )
    cells = (
        escape(row.subject),
        escape(row.window_kind),
        str(row.schools),
        _write_number(row.values),
        _write_hours(row.minutes),
        _write_share(row.never_read, row.values),
        f"{row.reuses / row.values:.1f}",
        verdicts,
    )
    named = zip(COLUMNS, cells, strict=True)
    # its title names a cell where the page is too narrow for columns
    written = (f'<td class="{kind}" title="{name}">{text}</td>' for (name, kind), text in named)
    return f"<tr>{''.join(written)}</tr>"


def _write_candidates(rows: list[SummaryRow]) -> str:
    found = [row for row in rows if row.candidates]
    if not found:
        return "<p>None. A collection is named here once nobody has read it in a full term of counting.</p>"
    items = [
        f"<li>{escape(row.subject)} in {escape(row.window_kind)} ({escape(', '.join(row.aspects).lower())})</li>" for row in found
    ]
    return f'<ul class="inline">{"".join(items[:MAX_CANDIDATES])}</ul>{_count_more(len(items) - MAX_CANDIDATES, "further ones are candidates")}'


def _write_window(window: BudgetWindow) -> str:
    reasons = (
        ("Actions it informs", window.actions),
        ("Time to set and analyse", window.time_to_set_and_analyse),
        ("Time to act", window.time_to_act),
    )
    items = "".join(f"<dt>{name}</dt><dd>{escape(_shorten(text))}</dd>" for name, text in reasons)
    return f"<h3>{escape(_shorten(window.name))} <span>{escape(window.code)}</span></h3><dl>{items}</dl>"


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1].rstrip()}…"
