"""Reading GIAS downloads: what a good row becomes, and what a bad cell, row or file is reported as, and where."""

import csv
import io
import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.roster.gias.cells import SchoolLink
from domain.roster.gias.parse import parse_gias
from domain.roster.gias.rows import Establishment, Group, GroupLink, ParseIssue
from domain.roster.school_numbers import TRUST_TYPES

Row = dict[str, str]

SCHOOL: Row = {
    "URN": "100001",
    "LA (code)": "850",
    "LA (name)": "Hampshire",
    "EstablishmentNumber": "2000",
    "EstablishmentName": "Made-up Infant School",
    "TypeOfEstablishment (name)": "Community school",
    "EstablishmentTypeGroup (name)": "Local authority maintained schools",
    "EstablishmentStatus (name)": "Closed",
    "ReasonEstablishmentOpened (name)": "Not applicable",
    "OpenDate": "01-09-1997",
    "ReasonEstablishmentClosed (name)": "Academy Converter",
    "CloseDate": "31-08-2013",
    "PhaseOfEducation (name)": "Primary",
    "StatutoryLowAge": "4",
    "StatutoryHighAge": "7",
    "UKPRN": "10000001",
    "Town": "Alton",
    "Postcode": "GU34 1AA",
    "Linked establishments": "100002 Successor",
}
GROUP: Row = {
    "Group UID": "2001",
    "Group ID": "TR00001",
    "Group Name": "Made-up Trust",
    "Companies House Number": "07654321",
    "Group Type (code)": "6",
    "Group Status": "Open",
    "Closed Date": "",
    "Open date": "",
    "Incorporated on (open date)": "2011-07-07",
    "UKPRN": "10000002",
}
LINK: Row = {
    "URN": "100002",
    "Group UID": "2001",
    "Group Type (code)": "6",
    "Joined date": "2013-09-01",
    "Closed Date": "",
}


def table(*rows: Row, encoding: str = "utf-8", newline: str = "\r\n") -> bytes:
    """A CSV file with the columns of the first row, every cell in quotation marks."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return text.getvalue().encode(encoding)


def problems(content: bytes) -> list[tuple[int, str, str]]:
    """Line, column and code of every issue in one file."""
    return [(issue.line, issue.column, issue.code) for issue in parse_gias({"a.csv": content}).issues]


def only_establishment(changes: Row) -> Establishment:
    extract = parse_gias({"a.csv": table(SCHOOL | changes)})
    assert extract.issues == []
    return extract.establishments[0]


# What good rows become.


def test_an_establishment_has_every_column_somebody_reads() -> None:
    school = only_establishment({})
    assert school == Establishment(
        urn=100001,
        la_code="850",
        establishment_number="2000",
        name="Made-up Infant School",
        type_name="Community school",
        status="closed",
        phase="Primary",
        low_age=4,
        high_age=7,
        opened_on=date(1997, 9, 1),
        closed_on=date(2013, 8, 31),
        ukprn="10000001",
        la_name="Hampshire",
        type_group="Local authority maintained schools",
        open_reason="Not applicable",
        close_reason="Academy Converter",
        town="Alton",
        postcode="GU34 1AA",
        links=(SchoolLink("successor", 100002),),
    )
    assert school.laestab == "8502000"


def test_groups_and_their_members() -> None:
    extract = parse_gias([("groups.csv", table(GROUP)), ("links.csv", table(LINK))])
    assert extract.issues == []
    assert extract.groups == [
        Group(
            uid=2001,
            group_id="TR00001",
            name="Made-up Trust",
            companies_house_number="07654321",
            type_code=6,
            status="open",
            opened_on=None,
            closed_on=None,
            incorporated_on=date(2011, 7, 7),
            ukprn="10000002",
        )
    ]
    assert extract.links == [GroupLink(urn=100002, group_uid=2001, type_code=6, joined_on=date(2013, 9, 1))]
    assert TRUST_TYPES[extract.groups[0].type_code] == "multi-academy"


def test_values_that_are_not_recorded_are_none() -> None:
    assert only_establishment({"LA (code)": ""}).laestab is None
    assert only_establishment({"EstablishmentNumber": ""}).laestab is None
    school = only_establishment(dict.fromkeys(("StatutoryLowAge", "OpenDate", "UKPRN", "Linked establishments"), ""))
    assert (school.low_age, school.opened_on, school.ukprn, school.links) == (None, None, None, ())


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("29-02-2016", date(2016, 2, 29)),
        ("2016-02-29", date(2016, 2, 29)),
        (" 01-12-2016 ", date(2016, 12, 1)),
        ("01-01-1900", None),
        ("1900-01-01", None),
        ("", None),
    ],
)
def test_dates(written: str, meant: date | None) -> None:
    extract = parse_gias({"a.csv": table(LINK | {"Joined date": written})})
    assert [link.joined_on for link in extract.links] == [meant]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Open", "open"),
        ("Closed", "closed"),
        ("Open, but proposed to close", "proposed to close"),
        ("Proposed to open", "proposed to open"),
        ("Quarantine", "quarantine"),
    ],
)
def test_a_status_is_canonical_and_an_unknown_one_is_kept(written: str, meant: str) -> None:
    assert only_establishment({"EstablishmentStatus (name)": written}).status == meant


@pytest.mark.parametrize(
    ("written", "links", "noted"),
    [
        ("Does not have links", [], False),
        ("100002 Predecessor", [("predecessor", 100002)], False),
        ("100002 Successor - amalgamated", [("successor", 100002)], False),
        ("100002 Predecessor, 100003 Predecessor - merged", [("predecessor", 100002), ("predecessor", 100003)], False),
        ("100002 Merged - change in age range", [], True),
        ("100002 Successor; 100003 Sixth Form Centre", [("successor", 100002)], True),
        ("1000023 Successor", [], True),
        ("see the notes", [], True),
    ],
)
def test_linked_establishments(written: str, links: list[tuple[str, int]], noted: bool) -> None:
    extract = parse_gias({"a.csv": table(SCHOOL | {"Linked establishments": written})})
    assert list(extract.establishments[0].links) == links
    codes = [(issue.line, issue.column, issue.code, issue.severity) for issue in extract.issues]
    assert codes == ([(2, "Linked establishments", "gias-link-not-read", "note")] if noted else [])


@pytest.mark.parametrize(("written", "meant"), [("7654321.0", "07654321"), ("7654321", "07654321"), ("IP00525R", "IP00525R")])
def test_numbers_that_went_through_a_data_frame_are_mended(written: str, meant: str) -> None:
    (group,) = parse_gias({"a.csv": table(GROUP | {"UKPRN": "10000002.0", "Companies House Number": written})}).groups
    assert (group.ukprn, group.companies_house_number) == ("10000002", meant)


def test_a_group_of_an_unknown_type_is_kept() -> None:
    (group,) = parse_gias({"a.csv": table(GROUP | {"Group Type (code)": "99"})}).groups
    assert group.type_code == 99
    assert group.type_code not in TRUST_TYPES


def test_only_group_links_know_the_five_digits_of_a_childrens_centre() -> None:
    assert [link.urn for link in parse_gias({"a.csv": table(LINK | {"URN": "20003"})}).links] == [20003]
    assert problems(table(SCHOOL | {"URN": "20003"})) == [(2, "URN", "gias-invalid-urn")]


# How files are told apart and decoded.


def test_a_file_is_known_by_its_header_whatever_its_name_and_order() -> None:
    shuffled = {f" {column.upper()} ": cell for column, cell in reversed(SCHOOL.items())} | {"Seen by nobody": "x", "": "y"}
    extract = parse_gias({"groups.csv": table(shuffled), "establishments.csv": table(GROUP), "c.txt": table(LINK)})
    assert extract.issues == []
    assert (extract.establishments, len(extract.groups), len(extract.links)) == ([only_establishment({})], 1, 1)


def test_the_columns_of_groups_and_schools_in_group_links_do_not_mislead() -> None:
    wide = SCHOOL | GROUP | LINK
    extract = parse_gias({"a.csv": table(wide)})
    assert (extract.establishments, extract.groups, len(extract.links)) == ([], [], 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_encodings(encoding: str) -> None:
    extract = parse_gias({"a.csv": table(SCHOOL | {"EstablishmentName": "St Anne’s – Zoë"}, encoding=encoding)})
    assert [school.name for school in extract.establishments] == ["St Anne’s – Zoë"]


def test_punctuation_mangled_by_an_earlier_conversion_is_mended() -> None:
    mangled = "St Anne’s".encode("cp1252").decode("latin-1")
    assert only_establishment({"EstablishmentName": mangled}).name == "St Anne’s"


def test_the_encoding_is_decided_for_each_file() -> None:
    name = {"EstablishmentName": "St Anne’s"}
    extract = parse_gias([("a", table(SCHOOL | name, encoding="cp1252")), ("b", table(SCHOOL | name | {"URN": "100009"}))])
    assert [school.name for school in extract.establishments] == ["St Anne’s", "St Anne’s"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xef\xbb\xbf", id="byte order mark only"),
        pytest.param(b"\r\n\r\n", id="blank lines only"),
        pytest.param(b"PK\x03\x04\x14\x00\x06\x00rest of a workbook", id="xlsx"),
        pytest.param(table(LINK) + b"\x00", id="NUL"),
        pytest.param(table(LINK, encoding="utf-16"), id="UTF-16"),
        pytest.param(b"URN,Group UID\n\x81\x8d\n", id="undefined bytes"),
    ],
)
def test_a_file_that_is_no_csv_text_is_one_issue(content: bytes) -> None:
    assert problems(content) == [(1, "", "gias-unreadable-file")]


@pytest.mark.parametrize(
    "header", ["UPN,Surname\nA1,B\n", "RECTYPE,URN,SCHNAME\n1,100001,x\n", "URN;EstablishmentName\n1;x\n", '"']
)
def test_an_unknown_file_is_one_issue_that_repeats_nothing_of_it(header: str) -> None:
    extract = parse_gias({"a.csv": header.encode()})
    (issue,) = extract.issues
    assert issue.code in ("gias-unknown-file", "gias-unreadable-row")
    assert not any(word in issue.message for word in ("UPN", "SCHNAME", "EstablishmentName"))


def test_a_bad_file_does_not_stop_the_others() -> None:
    extract = parse_gias({"bad.csv": b"", "good.csv": table(LINK)})
    assert [issue.file for issue in extract.issues] == ["bad.csv"]
    assert len(extract.links) == 1


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("URN,Group UID,Group Name,Group Name", "missing columns: Group Type (code), Joined date"),
        ("URN,Group UID,Group Type (code),Joined date,urn", "repeated columns: URN"),
        ("URN,Group UID,Group Type (code),URN", "missing columns: Joined date; repeated columns: URN"),
    ],
)
def test_missing_and_repeated_columns_are_one_issue_that_names_them_all(header: str, message: str) -> None:
    extract = parse_gias({"links.csv": f"\n{header}\n100001,2001,6,100001\n".encode()})
    assert extract.issues == [ParseIssue("links.csv", 2, "", "gias-invalid-header", message)]


def test_the_header_may_come_alone() -> None:
    extract = parse_gias({"a.csv": table(LINK).splitlines()[0]})
    assert (extract.links, extract.issues) == ([], [])


def test_columns_that_not_every_download_has_may_be_missing() -> None:
    national = {column: cell for column, cell in SCHOOL.items() if column not in ("Linked establishments", "Town")}
    (school,) = parse_gias({"a.csv": table(national)}).establishments
    assert (school.links, school.town) == ((), None)


# Bad rows.


@pytest.mark.parametrize(
    ("good", "column", "cell", "code"),
    [
        (SCHOOL, "URN", "", "gias-missing-value"),
        (SCHOOL, "URN", "10001", "gias-invalid-urn"),
        (SCHOOL, "URN", "1000011", "gias-invalid-urn"),
        (SCHOOL, "URN", "010001", "gias-invalid-urn"),
        (SCHOOL, "URN", "١٠٠٠٠١", "gias-invalid-urn"),
        (SCHOOL, "LA (code)", "85", "gias-invalid-la-code"),
        (SCHOOL, "EstablishmentNumber", "200", "gias-invalid-establishment-number"),
        (SCHOOL, "EstablishmentNumber", "2OOO", "gias-invalid-establishment-number"),
        (SCHOOL, "EstablishmentName", "  ", "gias-missing-value"),
        (SCHOOL, "EstablishmentStatus (name)", "", "gias-missing-value"),
        (SCHOOL, "StatutoryLowAge", "four", "gias-invalid-number"),
        (SCHOOL, "StatutoryHighAge", "-1", "gias-invalid-number"),
        (SCHOOL, "OpenDate", "31-02-2016", "gias-invalid-date"),
        (SCHOOL, "OpenDate", "00-00-0000", "gias-invalid-date"),
        (SCHOOL, "CloseDate", "1-9-2016", "gias-invalid-date"),
        (SCHOOL, "CloseDate", "2016-13-01", "gias-invalid-date"),
        (SCHOOL, "CloseDate", "09/01/2016", "gias-invalid-date"),
        (SCHOOL, "CloseDate", "20160901", "gias-invalid-date"),
        (SCHOOL, "UKPRN", "1.0E+07", "gias-invalid-ukprn"),
        (GROUP, "Group UID", "", "gias-missing-value"),
        (GROUP, "Group UID", "TR00001", "gias-invalid-number"),
        (GROUP, "Group UID", "99999999999", "gias-invalid-number"),
        (GROUP, "Group Name", "", "gias-missing-value"),
        (GROUP, "Group Type (code)", "MAT", "gias-invalid-number"),
        (GROUP, "Group Status", "", "gias-missing-value"),
        (GROUP, "Incorporated on (open date)", "July 2011", "gias-invalid-date"),
        (LINK, "URN", "2003", "gias-invalid-urn"),
        (LINK, "Group UID", "", "gias-missing-value"),
        (LINK, "Joined date", "soon", "gias-invalid-date"),
    ],
)
def test_a_bad_cell_leaves_its_row_out_and_names_its_place(good: Row, column: str, cell: str, code: str) -> None:
    key = "Group UID" if "Group UID" in good else "URN"
    extract = parse_gias({"a.csv": table(good, good | {key: "123456"} | {column: cell}, good | {key: "123457"})})
    assert [(issue.line, issue.column, issue.code, issue.severity) for issue in extract.issues] == [(3, column, code, "error")]
    assert len(extract.establishments) + len(extract.groups) + len(extract.links) == 2


def test_every_problem_of_every_row_is_reported() -> None:
    bad = {"URN": "x", "EstablishmentName": "", "OpenDate": "y", "Linked establishments": "z"}
    assert problems(table(SCHOOL | bad, SCHOOL | {"LA (code)": "z"})) == [
        (2, "URN", "gias-invalid-urn"),
        (2, "EstablishmentName", "gias-missing-value"),
        (2, "OpenDate", "gias-invalid-date"),
        (2, "Linked establishments", "gias-link-not-read"),
        (3, "LA (code)", "gias-invalid-la-code"),
    ]


def test_a_very_long_cell_is_not_repeated_whole() -> None:
    (issue,) = parse_gias({"a.csv": table(SCHOOL | {"URN": "9" * 10_000})}).issues
    assert len(issue.message) < 120


def test_ragged_rows() -> None:
    content = table(LINK) + b"100003,2001,6\r\n100004,2001,6,2013-09-01,,\r\n100005,2001,6,2013-09-01,\r\n"
    assert problems(content) == [(3, "", "gias-ragged-row"), (4, "", "gias-ragged-row")]
    assert [link.urn for link in parse_gias({"a.csv": content}).links] == [100002, 100005]


def test_blank_rows_are_no_rows() -> None:
    content = b"\n" + table(LINK) + b"\r\n,,,,\r\n , ,,\r\nx,2001,6,2013-09-01,\r\n\r\n"
    assert problems(content) == [(7, "URN", "gias-invalid-urn")]


def test_a_quotation_mark_that_is_not_closed_names_the_lines_in_it() -> None:
    content = table(LINK) + b'100003,"2001,6,2013-09-01,\r\n100004,2001,6,2013-09-01,\r\n'
    extract = parse_gias({"a.csv": content})
    (issue,) = extract.issues
    assert (issue.line, issue.column, issue.code) == (3, "", "gias-unreadable-row")
    assert "lines 3 to 4" in issue.message
    assert len(extract.links) == 1


def test_reading_goes_on_after_a_badly_quoted_row() -> None:
    content = table(LINK) + b'100003,"2001"x,6,2013-09-01,\r\n100004,2001,6,2013-09-01,\r\n'
    assert problems(content) == [(3, "", "gias-unreadable-row")]
    assert [link.urn for link in parse_gias({"a.csv": content}).links] == [100002, 100004]


def test_the_second_row_of_a_key_is_a_duplicate_even_of_a_row_left_out() -> None:
    content = table(SCHOOL, SCHOOL, SCHOOL | {"URN": "100009", "EstablishmentName": ""}, SCHOOL | {"URN": "100009"})
    extract = parse_gias({"a.csv": content})
    assert problems(content) == [
        (3, "URN", "gias-duplicate-row"),
        (4, "EstablishmentName", "gias-missing-value"),
        (5, "URN", "gias-duplicate-row"),
    ]
    assert [school.urn for school in extract.establishments] == [100001]
    assert "line 4" in extract.issues[2].message


def test_an_establishment_may_be_in_several_groups_but_in_each_once() -> None:
    content = table(LINK, LINK | {"Group UID": "2002"}, LINK | {"Joined date": "2014-09-01"})
    assert problems(content) == [(4, "URN", "gias-duplicate-row")]
    assert [link.group_uid for link in parse_gias({"a.csv": content}).links] == [2001, 2002]


def test_two_files_of_a_kind_are_both_read_and_may_overlap() -> None:
    extract = parse_gias([("a", table(SCHOOL)), ("b", table(SCHOOL, SCHOOL | {"URN": "100009"}))])
    assert extract.issues == []
    assert [school.urn for school in extract.establishments] == [100001, 100009]


def test_two_files_that_disagree_are_an_issue_and_the_first_is_kept() -> None:
    extract = parse_gias([("a", table(SCHOOL)), ("b", table(SCHOOL | {"Town": "Liss"}))])
    assert extract.issues == [ParseIssue("b", 2, "URN", "gias-conflicting-row", "differs from a, line 2, which is kept")]
    assert [school.town for school in extract.establishments] == ["Alton"]


# Whatever comes.

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(st.lists(names.map(lambda name: "n" + name), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
def test_line_numbers_are_those_of_a_text_editor(written: list[str], newline: str) -> None:
    good = [SCHOOL | {"URN": str(100002 + n), "EstablishmentName": name} for n, name in enumerate(written)]
    content = table(SCHOOL, *good, SCHOOL | {"URN": "x"}, newline=newline)
    assert problems(content) == [(len(re.findall(r"\r\n|\r|\n", content.decode())), "URN", "gias-invalid-urn")]


@given(st.sampled_from([b"", *(table(row).splitlines(keepends=True)[0] for row in (SCHOOL, GROUP, LINK))]), st.binary(max_size=200))
def test_no_content_raises_and_every_issue_has_a_place(header: bytes, rest: bytes) -> None:
    content = header + rest
    for issue in parse_gias({"a.csv": content}).issues:
        assert issue.file == "a.csv"
        assert 1 <= issue.line <= 1 + len(re.findall(rb"\r\n|\r|\n", content))
        assert issue.message


cells = st.sampled_from(["", "100002", "20003", "x", "2013-09-01", "31-02-2013", "6", "’", ' "quoted" ', "a,b"])


@given(st.lists(st.lists(cells, min_size=5, max_size=5), max_size=8))
def test_every_row_is_read_or_has_an_error(rows: list[list[str]]) -> None:
    content = table(LINK, *(dict(zip(LINK, row, strict=True)) for row in rows))
    extract = parse_gias({"a.csv": content})
    refused = {issue.line for issue in extract.issues if issue.severity == "error"}
    blank = sum(not any(row) for row in rows)
    assert len(extract.links) + len(refused) + blank == 1 + len(rows)
