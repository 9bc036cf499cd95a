"""National curriculum years and academic years, in every form that schools send."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.roster.years import (
    YEARS,
    academic_year_of,
    academic_year_range,
    format_academic_year,
    parse_academic_year,
    parse_year_group,
)


def test_the_canonical_years_in_order_of_age() -> None:
    assert " ".join(YEARS) == "E1 E2 N1 N2 R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 X"
    assert [parse_year_group(year) for year in YEARS] == list(YEARS)


@pytest.mark.parametrize("number", range(1, 15))
def test_a_numbered_year_in_its_many_forms(number: int) -> None:
    forms: list[str | int] = [
        number,
        f"{number}",
        f"{number:02}",
        f"Y{number}",
        f"y{number}",
        f"Year {number}",
        f"year {number}",
        f"YEAR{number}",
    ]
    forms += [f"Yr {number}", f"Yr{number}", f" Year  {number} ", f"Year\u00a0{number}", f"Y{number:02}"]
    assert {parse_year_group(form) for form in forms} == {str(number)}


@pytest.mark.parametrize(
    ("given", "year"),
    [
        *((form, "R") for form in (0, "0", "00", "r", "YR", "Year R", "Y0", "Year 0", "Reception", "RECEPTION ")),
        *((form, "N1") for form in ("n1", "N 1", "Nursery 1", "nursery1")),
        *((form, "N2") for form in ("n2", "Nursery 2", "Nursery second year")),
        *((form, "E1") for form in ("e1", "E 1", "Early 1", "Early first year")),
        *((form, "E2") for form in ("E2", "early second  year")),
        *((form, "X") for form in ("x", "Year X")),
    ],
)
def test_years_without_a_number(given: str, year: str) -> None:
    assert parse_year_group(given) == year


@pytest.mark.parametrize(
    "given",
    [
        "",
        "15",
        "Y15",
        "-1",
        -1,
        15,
        "004",
        "010",
        "1 0",
        "4.0",
        "Year",
        "Y",
        "4B",
        "N",
        "N0",
        "N3",
        "E",
        "E0",
        "E3",
        "Early",
        "YE1",
        "Nurse 1",
        "Y٤",
        "Four",
        True,
        "4 5",
    ],
)
def test_anything_else_is_refused(given: str | int) -> None:
    with pytest.raises(ValueError, match="one of E1, E2, N1, N2, R, 1, 2"):
        parse_year_group(given)


def test_nursery_alone_is_ambiguous() -> None:
    with pytest.raises(ValueError, match="use N1 or N2"):
        parse_year_group("Nursery")


def test_a_refused_year_is_not_repeated_as_its_column_may_hold_names() -> None:
    with pytest.raises(ValueError, match="national curriculum year") as refused:
        parse_year_group("Amelia")
    assert "Amelia" not in str(refused.value)


@pytest.mark.parametrize(
    ("on", "year"),
    [
        (date(2025, 8, 31), "2024-25"),
        (date(2025, 9, 1), "2025-26"),
        (date(2025, 12, 31), "2025-26"),
        (date(2026, 1, 1), "2025-26"),
        (datetime(2026, 8, 31, 23, 59, tzinfo=UTC), "2025-26"),
        (date(1999, 9, 1), "1999-00"),
        (date(2000, 9, 1), "2000-01"),
        (date(1990, 9, 1), "1990-91"),
        (date(2100, 8, 31), "2099-00"),
    ],
)
def test_an_academic_year_starts_on_1_september(on: date, year: str) -> None:
    assert academic_year_of(on) == year


@pytest.mark.parametrize("text", ["2025-26", "2025/26", " 2025-26 "])
def test_an_academic_year_is_read_in_both_spellings(text: str) -> None:
    assert parse_academic_year(text) == 2025
    assert format_academic_year(parse_academic_year(text)) == "2025-26"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2025-27", "2025-27 is not one academic year; the one that starts in 2025 is 2025-26"),
        ("2025-25", "the one that starts in 2025 is 2025-26"),
        ("2099-01", "the one that starts in 2099 is 2099-00"),
        ("1989-90", "starts in 1990 to 2099, not in 1989"),
        ("2100-01", "starts in 1990 to 2099, not in 2100"),
        *(
            (text, "written like 2025-26")
            for text in ("", "2025", "25-26", "2025-2026", "2025 26", "2025-26-27", "２０２５-26", "Autumn")
        ),
    ],
)
def test_any_other_academic_year_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_academic_year(text)


@pytest.mark.parametrize("start", [1989, 2100])
def test_academic_years_are_known_from_1990_to_2099(start: int) -> None:
    for ask in (format_academic_year, academic_year_range, lambda start: academic_year_of(date(start, 9, 1))):
        with pytest.raises(ValueError, match=f"not in {start}"):
            ask(start)


def test_the_range_of_an_academic_year_holds_both_its_ends() -> None:
    assert academic_year_range(2025) == (date(2025, 9, 1), date(2026, 8, 31))


@settings(deadline=None)
@given(on=st.dates(date(1990, 9, 1), date(2100, 8, 31)))
def test_every_day_is_in_the_range_of_its_academic_year_alone(on: date) -> None:
    start = parse_academic_year(academic_year_of(on))
    first, last = academic_year_range(start)
    assert first <= on <= last
    assert format_academic_year(start) == academic_year_of(first) == academic_year_of(last)
    if start < 2099:
        assert academic_year_range(start + 1)[0] == last + timedelta(days=1)
