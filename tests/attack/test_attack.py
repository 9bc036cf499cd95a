"""An attacker of aggregates who reads HTTP alone: what today's method discloses."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from domain.clients.signing_keys import ensure_signing_key
from tests.attack.generated_trusts import CODE, GeneratedTrust, Group, Mark, count_cells, generate_trust, load_trust, record_marks
from tests.attack.readings import Reader, Reading, list_questions
from tests.attack.solving import Attack, Question, Range
from tests.attack.verdicts import Verdicts, find_averages_of_few, find_late_marks, judge
from tests.fixtures.databases import Databases, Statements, open_counted
from tests.fixtures.registration import authorise, register_client
from tests.fixtures.settings import SECRET
from tests.fixtures.sizes import choose_size

TRUSTS = choose_size(3, 20)


@dataclass
class Attacked:
    """Trusts of one installation, and a client of each that reads aggregates."""

    operator: Any
    trusts: list[GeneratedTrust]
    readers: list[Reader]
    readings: list[list[Reading]]


@pytest_asyncio.fixture(scope="module")
async def attacked(module_databases: Databases) -> AsyncIterator[Attacked]:
    operator = await asyncpg.connect(module_databases.operator_url)
    await ensure_signing_key(operator, SECRET.encode())
    database = await open_counted(Statements(), module_databases.app_url)
    settings = Settings(module_databases.app_url, SECRET.encode(), "http://attacked", cache_mb=0)
    transport = httpx2.ASGITransport(app=build_app(settings, database))
    async with httpx2.AsyncClient(transport=transport, base_url=settings.base_url) as http:
        trusts, readers = [], []
        for number in range(TRUSTS):
            trust = generate_trust(number + 1, 2 + number % 3, ("4", "5", "6")[: 2 + number % 2], 40 + 10 * (number % 3))
            await load_trust(operator, trust, number)
            credentials = await register_client(operator, f"portal {number}", f"trust:{5000 + number}=aggregates:read")
            trusts.append(trust)
            readers.append(Reader(http, await authorise(http, credentials), CODE))
        yield Attacked(operator, trusts, readers, [await reader.read_all() for reader in readers])
    await database.close()
    await operator.close()


def make_reading(school: int | None, year: str | None, eligible: int | None) -> Reading:
    """A row in which everybody has a mark and nobody reaches a standard."""
    counts = (None,) * 4 if eligible is None else (eligible, eligible, 0, 0)
    return Reading(school, year, None, None, "reading", *counts, None, "c" if eligible is None else None)


def make_table(rows: list[list[int]], hidden: set[tuple[int, int]]) -> list[Reading]:
    """Readings of schools by year groups with all totals, some cells hidden."""
    readings = [make_reading(None, None, sum(map(sum, rows)))]
    readings += [make_reading(school, None, sum(row)) for school, row in enumerate(rows)]
    readings += [make_reading(None, str(year), sum(column)) for year, column in enumerate(zip(*rows, strict=True))]
    for school, row in enumerate(rows):
        readings += [
            make_reading(school, str(year), None if (school, year) in hidden else number) for year, number in enumerate(row)
        ]
    return readings


def find_sizes(readings: list[Reading], places: list[tuple[int, str]]) -> list[Range]:
    return Attack(readings).find_ranges([Question(*place, None, None, "eligible", 1000) for place in places])


def test_a_hidden_cell_is_the_total_less_what_is_shown() -> None:
    table = [[3, 20, 30], [20, 25, 9]]
    assert find_sizes(make_table(table, {(0, 0)}), [(0, "0")]) == [Range(3, 3)]
    square = {(0, 0), (0, 2), (1, 0), (1, 2)}
    assert find_sizes(make_table(table, square), [(0, "0"), (1, "2")]) == [Range(0, 23), Range(6, 29)]


def test_two_squares_and_the_cell_that_joins_them() -> None:
    """No line hides one cell alone, and yet one is certain: two columns less two rows."""
    table = [[5, 5, 30, 30], [5, 5, 30, 30], [30, 5, 5, 5], [30, 30, 5, 5]]
    hidden = {(row, column) for row, numbers in enumerate(table) for column, number in enumerate(numbers) if number == 5}
    sizes = find_sizes(make_table(table, hidden), [(2, "1"), (0, "0")])
    assert sizes == [Range(5, 5), Range(0, 10)]


def test_three_groups_of_one_do_not_hide_one_another_where_two_lines_agree() -> None:
    """After a public report of a suppression program: the sums of two rows leave one pupil of each alone."""
    table = [[1, 1, 7, 1, 0], [1, 0, 0, 2, 8]]
    assert find_sizes(make_table(table, {(0, 0), (0, 1), (1, 0), (1, 1)}), [(1, "1")]) == [Range(0, 1)]
    assert find_sizes(make_table(table, {(0, 1), (1, 1), (0, 4), (1, 4)}), [(0, "1")]) == [Range(0, 1)]


def test_hidden_totals_leave_room() -> None:
    readings = [make_reading(None, None, 40), make_reading(1, None, None), make_reading(2, None, None)]
    readings += [make_reading(school, "6", None) for school in (1, 2)]
    assert find_sizes(readings, [(1, "6")]) == [Range(0, 40)]


def test_conjunctions_narrow_their_subjects() -> None:
    """Of 6 pupils 5 reach the standard in reading, 5 in writing, 5 in maths: at least 3 in all of them."""
    rows = [Reading(1, "6", None, None, subject, 6, 6, 5, 0, None, None) for subject in ("reading", "writing", "maths")]
    attack = Attack(rows)
    question = Question(1, "6", None, None, ("rwm", "expected"), 100)
    assert attack.find_ranges([question]) == [attack.find_whole_range(question)] == [Range(3, 5)]


async def test_both_interfaces_and_csv_say_the_same(attacked: Attacked) -> None:
    reader = attacked.readers[0]
    for dimensions, subject in list(list_questions())[:: choose_size(5, 1)]:
        rows = await reader.read_json(dimensions, subject)
        assert rows
        assert await reader.read_csv(dimensions, subject) == rows
        assert await reader.read_graphql(dimensions, subject) == rows


def test_what_is_shown_is_right(attacked: Attacked) -> None:
    trust = attacked.trusts[0]
    shown = [reading for reading in attacked.readings[0] if reading.status != "c"]
    assert len(shown) > 100
    for reading in shown:
        school = None if reading.school is None else trust.urns.index(reading.school)
        group = Group(school, *reading[1:4])
        counts = [trust.count(group, reading.subject, what) for what in ("eligible", "valid", "expected", "higher")]
        assert counts == [reading.eligible, reading.valid, reading.expected, reading.higher], reading


def test_the_method_of_today_hides_sizes_and_discloses_attainment(attacked: Attacked) -> None:
    """The attacker bites: it finds dozens of counts of unsafe groups exactly, as `judge` compares, and averages of 1 to 5 marks."""
    everything, few = Verdicts(), 0
    for trust, readings in zip(attacked.trusts, attacked.readings, strict=True):
        everything.add(judge(trust, readings))
        few += len(find_averages_of_few(readings))
    assert len(everything.exact_counts) >= 24, (len(everything.exact_counts), everything.counts)
    assert everything.exact_sizes, everything.sizes  # of groups that are shown although few of them have a mark
    assert few


async def test_one_late_mark_moves_rows_by_one_and_is_the_difference_of_two_averages(attacked: Attacked) -> None:
    trust, reader = attacked.trusts[1], attacked.readers[1]
    before = attacked.readings[1]
    late = next(i for i, pupil in enumerate(trust.pupils) if pupil.marks["maths"].code is None)
    pupil = trust.pupils[late]
    pupil.marks["maths"] = Mark("113", 3)
    school = trust.ids[str(trust.urns[pupil.school])]
    await record_marks(attacked.operator, trust, [(trust.ids[f"pupil {late}"], school, "maths", pupil.marks["maths"])])
    await count_cells(attacked.operator, trust)
    found = find_late_marks(before, await reader.read_all())
    assert len({reading[:4] for reading, _ in found}) > 5
    small = [mark for reading, mark in found if reading.subject == "maths" and (reading.valid or 99) <= 10]
    assert [mark for mark in small if abs(mark - 113) > 1] == []
    assert small
