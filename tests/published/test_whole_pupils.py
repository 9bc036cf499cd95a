"""The invented pupils against the published tables: every percentage again, from the pupils and from what is sent to the API."""

import csv
from collections import Counter
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from tests.published import whole_pupils

DATA = Path(__file__).with_name("data")


SCHOOLS = {school.urn: school for name in ("ks2-2018.csv", "ks2-2018-special.csv") for school in whole_pupils.read(DATA / name)}
SOLVABLE = [urn for urn in SCHOOLS if urn != "141446"]


def _share(part: int, whole: int) -> int:
    """A whole percentage by the decimal module's own half-up rounding."""
    return int((Decimal(100 * part) / whole).quantize(Decimal(1), ROUND_HALF_UP))


def _rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_slice_is_read_whole() -> None:
    figures = [figure for urn in SOLVABLE for figure in SCHOOLS[urn].figures]
    assert len(SCHOOLS) == 30
    assert Counter(figure.value is None for figure in figures) == {False: 590, True: 196}
    assert SCHOOLS["125457"].eligible == {"all": 6, "disadvantaged": 6, "other": 0, "boys": 6, "girls": 0}
    assert set(SCHOOLS["125474"].eligible.values()) == {5, None}


@pytest.mark.parametrize("urn", SOLVABLE)
def test_pupils_give_every_published_figure(urn: str) -> None:
    school = SCHOOLS[urn]
    found = whole_pupils.pupils(school)
    for group, count in school.eligible.items():
        assert count in (None, sum(whole_pupils.belongs(pupil, group) for pupil in found))
    assert len(found) == school.eligible["all"]
    again = {figure: whole_pupils.percentage(found, figure.measure, figure.level, figure.group) for figure in school.figures}
    assert {figure: value for figure, value in again.items() if figure.value not in (None, value)} == {}


@pytest.mark.parametrize("urn", ["125070", "143374", "124937", "125457"])
def test_what_is_sent_gives_the_published_figures(urn: str) -> None:
    """From the bodies alone and the national thresholds, as anyone outside would count."""
    school = SCHOOLS[urn]
    found = whole_pupils.pupils(school)
    grades: dict[str, dict[str, str]] = {}
    for entry in whole_pupils.judgements(school, found)["entries"]:
        grades.setdefault(entry["upn"], {})[entry["subject"]] = entry["grade"]
    entries = whole_pupils.roster(school, found)["entries"]
    groups: dict[str, set[str]] = {group: set() for group in school.eligible}
    for entry in entries:
        facts = {line["kind"]: line["value"] for line in entry["characteristics"]}
        for group in (
            "all",
            "boys" if entry["sex"] == "M" else "girls",
            "disadvantaged" if facts["ever6Fsm"] == "true" else "other",
        ):
            groups[group].add(entry["upn"])

    def achieved(upn: str, subject: str, higher: bool) -> bool:
        grade = grades[upn][subject]
        return grade in ("GDS", "EXS")[: 1 if higher else 2] if subject == "writing" else int(grade) >= (110 if higher else 100)

    assert grades.keys() == groups["all"]
    for figure in school.figures:
        subjects = ("reading", "writing", "maths") if figure.measure == "rwm" else (figure.measure,)
        number = sum(all(achieved(upn, subject, figure.level == "higher") for subject in subjects) for upn in groups[figure.group])
        assert figure.value in (None, _share(number, len(groups[figure.group]))), figure


def test_scores_stay_on_the_scale_and_vary() -> None:
    school = SCHOOLS["125070"]
    entries = whole_pupils.judgements(school, whole_pupils.pupils(school))["entries"]
    scores = {int(entry["grade"]) for entry in entries if entry["subject"] != "writing"}
    assert (min(scores), max(scores)) == (80, 120)
    assert len(scores) > 30


def test_figures_that_disagree_have_no_pupils() -> None:
    assert whole_pupils.pupils(SCHOOLS["141446"]) is None
    assert 72 not in [_share(girls, 51) for girls in range(52)]


def test_the_same_pupils_every_time() -> None:
    school = SCHOOLS["125171"]
    assert whole_pupils.pupils(school) == whole_pupils.pupils(school)


@pytest.mark.parametrize(
    ("achieved", "eligible", "published"), [(1, 8, 13), (3, 8, 38), (1, 3, 33), (2, 3, 67), (0, 6, 0), (1, 200, 1)]
)
def test_a_half_is_rounded_up(achieved: int, eligible: int, published: int) -> None:
    assert whole_pupils.half_up(achieved, eligible) == published == _share(achieved, eligible)


def test_rosters_hold_whole_distinct_children() -> None:
    entries = []
    for urn in SOLVABLE:
        school = SCHOOLS[urn]
        body = whole_pupils.roster(school, whole_pupils.pupils(school))
        assert (body["school"], body["asOf"]) == ({"urn": urn}, "2019-05-01")
        assert len({(entry["surname"], entry["forename"]) for entry in body["entries"]}) == len(body["entries"])
        entries += body["entries"]
    assert len(entries) == sum(SCHOOLS[urn].eligible["all"] for urn in SOLVABLE)
    assert len({entry["upn"] for entry in entries}) == len({entry["reference"] for entry in entries}) == len(entries)
    born = [entry["dateOfBirth"] for entry in entries]
    assert "2007-09-01" <= min(born) <= max(born) <= "2008-08-31"
    for upn in ["P207000016049", "T301999925002", *(entry["upn"] for entry in entries)]:
        weighted = sum(place * int(digit) for place, digit in enumerate(upn[1:], start=2))
        assert "ABCDEFGHJKLMNPQRTUVWXYZ".index(upn[0]) == weighted % 23
        assert len(upn) == 13


def test_each_school_of_the_slice_joins_directly() -> None:
    establishments = {row["URN"]: row["LA (code)"] + row["EstablishmentNumber"] for row in _rows("establishments.csv")}
    results = _rows("ks2-2018.csv")
    assert {row["URN"]: row["LEA"] + row["ESTAB"] for row in results}.items() <= establishments.items()
    links = _rows("group_links.csv")
    assert {row["Group UID"] for row in links} <= {row["Group UID"] for row in _rows("groups.csv")}
    members = {uid: {row["URN"] for row in links if row["Group UID"] == uid} for uid in ("16307", "3201")}
    assert [len(urns & {row["URN"] for row in results}) for urns in members.values()] == [8, 10]
    assert all(urns - establishments.keys() for urns in members.values())


def test_every_bad_cell_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad-2018.csv"
    header, *lines = (DATA / "ks2-2018.csv").read_text(encoding="utf-8").splitlines()
    wrong = [(2, "TELIG", "many"), (3, "PTMAT_EXP", "101%"), (3, "PTREAD_HIGH_FSM6CLA1A", "7.5"), (5, "PTRWM_EXP_B", "x")]
    for number, column, value in wrong:
        cells = lines[number - 2].split(",")
        cells[header.split(",").index(column)] = value
        lines[number - 2] = ",".join(cells)
    path.write_text("\n".join([header, *lines]), encoding="utf-8")
    with pytest.raises(ValueError, match="line 2, TELIG: 'many' is not a number of pupils") as error:
        whole_pupils.read(path)
    named = {place for place in str(error.value).splitlines() if "unknown number" not in place}
    assert {place.split(":")[0] for place in named} == {f"line {number}, {column}" for number, column, _ in wrong}
    assert "line 2, PTRWM_EXP: '65%' of an unknown number of pupils" in str(error.value)


def test_every_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "short-2018.csv"
    path.write_text("RECTYPE,URN\n1,125070\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^short-2018\.csv lacks the columns LEA, ESTAB, SCHNAME, TELIG, .*PTRWM_HIGH_G$"):
        whole_pupils.read(path)


@pytest.mark.parametrize(
    ("name", "window", "tests_on"),
    [
        ("surrey-2018.csv", "2018-19/KS2", "2019-05-13"),
        ("surrey-2017.csv", "2017-18/KS2", "2018-05-14"),
        ("ks2-2018-special.csv", "2018-19/KS2", "2019-05-13"),
    ],
)
def test_a_file_is_named_by_the_year_in_which_its_academic_year_starts(name: str, window: str, tests_on: str) -> None:
    year = whole_pupils.Year.of_file(Path(name))
    assert (year.window, year.tests_on) == (window, date.fromisoformat(tests_on))


def test_a_file_whose_name_has_no_year_is_refused() -> None:
    with pytest.raises(ValueError, match=r"surrey-2018\.csv"):
        whole_pupils.read(Path("surrey.csv"))
