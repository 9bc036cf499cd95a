"""Aggregates as a picture: a bar for each row, or the course over several windows, with how many pupils each figure is of.

A picture is drawn from the page that the same caller gets as JSON, and says nothing that the page does not say. A figure that is hidden is drawn as hidden,
in a frame of dashes, and never as nought. Its description has every row in words, for whoever does not see it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from api.rest.svg import LINE, Picture
from domain.aggregates.aggregate_rows import AggregatePage, AggregateRow, Status
from domain.aggregates.dimensions import FILTERS
from domain.aggregates.query import AggregateQuery
from domain.declare.errors import Invalid, Issue

MAX_BARS, MAX_PANELS, MAX_WINDOWS = 40, 12, 10
"""Bars in a picture; courses, and windows in each."""
MAX_ROWS_DRAWN = max(MAX_BARS, MAX_PANELS * MAX_WINDOWS)
MAX_SCHOOLS_NAMED = 8
_BAR, _PANEL = 20, 150
_WHY: dict[Status, str] = {
    "c": "hidden (c): few pupils, or it would give few pupils away",
    "z": "nobody eligible (z)",
    "x": "not available yet (x)",
}
_WHY_STANDARD: dict[Status, str] = {"c": "hidden (c)", "z": "no such standard (z)", "x": "not available (x)"}
_REASONS = {
    "not-a-member": "was not in the trust",
    "not-collected": "does not collect it",
    "nobody-eligible": "nobody eligible",
    "nothing-judged": "nothing judged yet",
    "no-place": "judges without such a standard",
}
_DIMENSIONS = {"yearGroup": "Year", "sex": "sex", "disadvantaged": "disadvantaged", "eal": "EAL", "sen": "SEN"}
_VALUES = {
    ("sex", "F"): "girls",
    ("sex", "M"): "boys",
    ("disadvantaged", "true"): "disadvantaged",
    ("disadvantaged", "false"): "not disadvantaged",
}


def draw(page: AggregatePage, query: AggregateQuery, address: str) -> bytes:
    """Returns the picture of a page that holds every row of a query. `address` tells pictures of one page from each other.

    Raises Invalid where there are more rows than a picture can show.
    """
    windows = list(dict.fromkeys((row.window, row.academic_year) for row in page.data))
    has_course = "window" in query.group_by and len(windows) > 1
    _check_width(page, query, len(windows) if has_course else 0)
    picture = Picture("p" + hashlib.blake2b(address.encode(errors="replace"), digest_size=6).hexdigest())
    names = _Names(page, query)
    picture.title = names.title
    picture.write(names.title, "head", width=36)
    standards = _name_standards(page)
    if not page.data:
        picture.write("There are no figures.", "name")
        picture.described.append("There are no figures.")
    elif has_course:
        _draw_courses(picture, page, query, names, standards)
    else:
        _draw_bars(picture, page.data, names, standards)
    _write_notes(picture, page)
    return picture.finish()


def _check_width(page: AggregatePage, query: AggregateQuery, windows: int) -> None:
    others = tuple(name for name in query.group_by if name != "window")
    panels = len({_identify(row, others) for row in page.data}) if windows else 0
    drawn = f"more than {MAX_ROWS_DRAWN}" if page.page.has_more else str(len(page.data))
    message = None
    if windows and (page.page.has_more or panels > MAX_PANELS or windows > MAX_WINDOWS):
        message = f"The picture would show {drawn} figures over {windows} windows: it shows at most {MAX_PANELS} courses of {MAX_WINDOWS} windows each."
    elif not windows and (page.page.has_more or len(page.data) > MAX_BARS):
        message = f"The picture would have {drawn} bars: it has at most {MAX_BARS}."
    if message is not None:
        message += " Name a school, subject or window, or group by less."
        raise Invalid(message, code="picture-too-wide", issues=(Issue("groupBy", "picture-too-wide", message),))


def _identify(row: AggregateRow, dimensions: Iterable[str]) -> tuple[object, ...]:
    fields = {"school": "school_id", "subject": "subject", **FILTERS}
    return tuple(getattr(row, fields[name]) for name in dimensions)


class _Names:
    """What a picture and its rows are called: the title has what is common to all of them."""

    def __init__(self, page: AggregatePage, query: AggregateQuery) -> None:
        self._grouped = query.group_by
        ids = {row.school_id: row.school_name or "" for row in page.data if row.school_id}
        self._twice = {name for name, n in Counter(ids.values()).items() if n > 1}
        common = [] if "subject" in query.group_by else [query.subject or ""]
        if "school" not in query.group_by and len(ids) == 1:
            common.append(*ids.values())
        if "window" not in query.group_by:
            pooled = " with ".join(query.windows) if query.pools_windows else ""
            common += [pooled] if pooled else list(dict.fromkeys(map(name_window, page.data))) or [query.window or ""]
        for name, values in query.filters:
            common.append(" or ".join(_VALUES.get((name, value), f"{_DIMENSIONS.get(name, name)} {value}") for value in values))
        by = " and ".join(_WORDS.get(name, name) for name in query.group_by)
        self.title = f"{', '.join(filter(None, common)) or 'Results'}: by {by}"

    def name_row(self, row: AggregateRow, *, with_window: bool = True) -> str:
        """Returns the values of the dimensions that a row is grouped by."""
        parts = []
        for name in self._grouped:
            if name == "school":
                school = row.school_name or ""
                parts.append(f"{school} ({row.school_urn})" if school in self._twice else school)
            elif name == "subject":
                parts.append(row.subject or "")
            elif name == "window":
                parts += [name_window(row)] if with_window else []
            else:
                (value,) = _identify(row, (name,))
                parts.append(
                    _VALUES.get((name, str(value)), f"{_DIMENSIONS.get(name, name)} {value if value is not None else 'unknown'}")
                )
        return ", ".join(parts) or "All pupils"


_WORDS = {"yearGroup": "year group", "disadvantaged": "disadvantage", "eal": "EAL", "sen": "SEN"}


def name_window(row: AggregateRow) -> str:
    """Returns the code of a row's window, with its year where the code has none."""
    code, year = row.window or "", row.academic_year or ""
    return code if year in code else f"{code} {year}"


def _name_standards(page: AggregatePage) -> tuple[str, str]:
    scale = page.basis.scale
    expected, higher = (scale.expected_label, scale.higher_label) if scale else (None, None)
    return expected or "Expected standard", higher or "Higher standard"


def describe(row: AggregateRow, standards: tuple[str, str]) -> str:
    """Returns the figures of a row in words, each with how many pupils it is of; or why there are none."""
    if row.status is not None:
        of = "" if row.eligible is None else f"; {count_pupils(row.eligible)} eligible"
        return f"{_WHY[row.status]}{of}"
    figures = (
        (standards[0], row.expected_percent, row.expected_of, row.expected_status),
        (standards[1], row.higher_percent, row.higher_of, row.higher_status),
    )
    words = [
        f"{name} {percent} % of {count_pupils(of or 0)}" if percent is not None else f"{name}: {_WHY_STANDARD[status or 'z']}"
        for name, percent, of, status in figures
    ]
    if row.average is not None:
        words.append(f"average {row.average:g} of {count_pupils(row.average_of or 0)}")
    words.append(f"n {row.eligible}, coverage {row.coverage_percent} %" if row.eligible else f"n {row.eligible}")
    return "; ".join(words)


def count_pupils(number: int) -> str:
    """Returns a number of pupils in words."""
    return f"{number:,} pupil{'' if number == 1 else 's'}"


def _write_legend(picture: Picture, shapes: Sequence[tuple[str, str]]) -> None:
    picture.y += 8
    for kind, words in shapes:
        y = picture.y + 3
        if kind in ("line", "line dashes"):
            picture.draw("line", {"x1": "0", "x2": "28", "y1": str(y + 6), "y2": str(y + 6)}, kind)
            _draw_marker(picture, "14", y + 6, is_higher="dashes" in kind)
        else:
            picture.draw("rect", {"x": "1", "y": str(y), "width": "26", "height": "12"}, kind)
        picture.y += LINE
        picture.put(words, "36", picture.y - 4, "quiet")
    picture.y += 6


def _draw_bars(picture: Picture, rows: list[AggregateRow], names: _Names, standards: tuple[str, str]) -> None:
    _write_legend(picture, (("pale", standards[0]), ("full", standards[1]), ("hidden", "No figure: hidden, or there is none")))
    picture.y += LINE
    for percent, anchor in ((0, "start"), (25, "middle"), (50, "middle"), (75, "middle"), (100, "end")):
        picture.put(f"{percent} %", f"{percent}%", picture.y, "small", anchor)
    for row in rows:
        words, name = describe(row, standards), names.name_row(row)
        picture.described.append(f"{name}: {words}.")
        picture.y += 10
        picture.write(name, "name", width=44)
        picture.y += 2
        _draw_bar(picture, row)
        picture.y += _BAR
        picture.write(words, "quiet", width=50)


def _draw_bar(picture: Picture, row: AggregateRow) -> None:
    """A track from 0 to 100 percent with the two bars, the higher one within the expected one; a frame of dashes where there is no figure."""
    if row.status is not None or (row.expected_percent is None and row.higher_percent is None):
        picture.box(0, 100, _BAR, "hidden")
        picture.put(row.status or row.expected_status or "z", "50%", picture.y + 15, "name", "middle")
        return
    picture.box(0, 100, _BAR, "track")
    for percent in (25, 50, 75):
        x = f"{percent}%"
        picture.draw("line", {"x1": x, "x2": x, "y1": str(picture.y), "y2": str(picture.y + _BAR)}, "grid")
    if row.expected_percent is not None:
        picture.box(0, row.expected_percent, _BAR, "pale")
    if row.higher_percent is not None:
        picture.y += 5
        picture.box(0, row.higher_percent, _BAR - 10, "full")
        picture.y -= 5


def _draw_courses(picture: Picture, page: AggregatePage, query: AggregateQuery, names: _Names, standards: tuple[str, str]) -> None:
    """A panel for each group of pupils, in which the windows follow each other by census day."""
    _write_legend(
        picture, (("line", standards[0]), ("line dashes", standards[1]), ("hidden", "No figure: hidden, or there is none"))
    )
    picture.write("Windows from left to right by census day. A gap is a window without a figure.", "quiet", width=50)
    ordered = list(dict.fromkeys(map(name_window, page.data)))
    others = tuple(name for name in query.group_by if name != "window")
    panels: dict[tuple[object, ...], dict[str, AggregateRow]] = {}
    for row in page.data:
        panels.setdefault(_identify(row, others), {})[name_window(row)] = row
    for by_window in panels.values():
        name = names.name_row(next(iter(by_window.values())), with_window=False)
        picture.y += 14
        picture.write(name, "name", width=44)
        _draw_course(picture, [by_window.get(window) for window in ordered])
        for letter, window in zip(_LETTERS, ordered, strict=False):
            words = describe(by_window[window], standards) if window in by_window else "no row"
            picture.described.append(f"{name}, {window}: {words}.")
            picture.write(f"{letter} {window}: {words}", "quiet", width=50)


_LETTERS = "ABCDEFGHIJ"
_TOP, _BOTTOM = 24, 14


def _draw_course(picture: Picture, rows: list[AggregateRow | None]) -> None:
    """The figures of a group over windows. Two neighbours are joined only where both have a figure."""
    top, bottom = picture.y + _TOP, picture.y + _PANEL - _BOTTOM
    for percent in (0, 50, 100):
        y = f"{bottom - (bottom - top) * percent / 100:g}"
        picture.draw("line", {"x1": "9%", "x2": "100%", "y1": y, "y2": y}, "grid")
        picture.put(f"{percent} %", "8%", float(y) + 4, "small", "end")
    across = [f"{9 + 91 * (i + 0.5) / len(rows):.4g}%" for i in range(len(rows))]

    def find_y(percent: int) -> float:
        return bottom - (bottom - top) * percent / 100

    for is_higher in (True, False):
        figures = [None if row is None else row.higher_percent if is_higher else row.expected_percent for row in rows]
        for i, (left, right) in enumerate(pairwise(figures)):
            if left is not None and right is not None:
                ends = {"x1": across[i], "x2": across[i + 1], "y1": f"{find_y(left):g}", "y2": f"{find_y(right):g}"}
                picture.draw("line", ends, "line dashes" if is_higher else "line")
        for x, figure in zip(across, figures, strict=True):
            if figure is not None:
                _draw_marker(picture, x, find_y(figure), is_higher=is_higher)
                picture.put(str(figure), x, find_y(figure) + (17 if is_higher else -8), "small", "middle")
    width = 70 / len(rows)
    for x, row, letter in zip(across, rows, _LETTERS, strict=False):
        if row is None or (row.expected_percent is None and row.higher_percent is None):
            start = float(x.removesuffix("%")) - width / 2
            frame = {"x": f"{start:.4g}%", "y": f"{top:g}", "width": f"{width:.4g}%", "height": f"{bottom - top:g}"}
            picture.draw("rect", frame, "hidden")
            symbol = "–" if row is None else row.status or row.expected_status or "z"
            picture.put(symbol, x, (top + bottom) / 2 + 5, "name", "middle")
        picture.put(letter, x, bottom + 36, "name", "middle")
    picture.y += _PANEL + 26


def _draw_marker(picture: Picture, x: str, y: float, *, is_higher: bool) -> None:
    """A full disc for the expected standard, a hollow one for the higher."""
    picture.draw("circle", {"cx": x, "cy": f"{y:g}", "r": "5"}, "box" if is_higher else "dot")


def _write_notes(picture: Picture, page: AggregatePage) -> None:
    """How many schools contribute, who is left out, and what the figures rest on; also in the description."""
    picture.y += 12
    notes = [f"Schools: {page.coverage.contributing} of {page.coverage.schools} contribute."]
    if page.excluded:
        named = [f"{each.school_name} ({_REASONS[each.reason]})" for each in page.excluded[:MAX_SCHOOLS_NAMED]]
        rest = len(page.excluded) - len(named)
        notes.append(f"Left out: {'; '.join(named)}{f'; and {rest} more' if rest else ''}.")
    notes += [
        f"Published: {each.window}, edition {each.edition}, {each.kind}, figures of {each.frozen_at:%d %B %Y}."
        for each in page.editions
    ]
    notes += [f"Without an edition: {each.window} ({each.reason.replace('-', ' ')})." for each in page.unpublished]
    if page.basis.judgements == "current":
        notes.append("Judgements as they are now.")
    elif page.basis.as_of:
        notes.append(f"Judgements as they stood on {page.basis.as_of}.")
    notes.append("Percentages are whole. The same address has the table: Accept: text/csv, or application/json.")
    for note in notes:
        picture.described.append(note)
        picture.write(note, "quiet", width=50)
