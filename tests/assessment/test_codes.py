"""The code lists and templates of the sector against tables of their sources; versions of schemes; subjects and aspects of a trust's own."""

import json
from decimal import Decimal
from typing import Any, get_args, get_type_hints

import asyncpg
import pytest

from domain.aggregates.aggregate_rows import Status
from domain.assessment.code_lists import list_code_rows
from domain.assessment.record_judgements import JudgementEntry
from domain.assessment.record_targets import TargetEntry
from domain.assessment.templates import load_templates
from domain.roster.groups import Kind
from migrations import after
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import (
    DAY,
    TRUST,
    URNS,
    WINDOW,
    Trust,
    asked,
    batch,
    counted,
    entry,
    issues,
    judged,
    opened,
    roll,
    sent,
    window,
)

OWN = {"trust": {"groupUid": TRUST}}
IN, NOT, OUT = (True, True), (True, False), (False, False)
"""Eligible and valid: a counting value; counted as not achieved; left out of the denominator."""

KS2_TEST = dict.fromkeys(map(str, range(80, 121)), IN) | dict.fromkeys("ABHJQUN", NOT) | dict.fromkeys("LMFP", OUT)
"""DfE, primary school accountability technical guide 2024: A B H J Q U count as not achieved, L and M leave; N took the test and got no scaled
score; F and P belong to the results of another year."""
PK = [f"PK{n}" for n in range(1, 7)]
STANDARDS = dict.fromkeys(PK, IN)
"""STA, pre-key stage 2 standards, May 2018: "from the 2018/2019 academic year onwards"."""
WRITING = dict.fromkeys(["WTS", "EXS", "GDS"], IN) | {"A": NOT, "L": OUT, "F": OUT, "P": OUT}
"""STA, key stage 2 teacher assessment guidance 2024."""
SCIENCE = {"EXS": IN, "HNM": IN, "A": NOT, "L": OUT, "F": OUT, "P": OUT}
"""The same: HNM covers the engagement model."""
READING_MATHS = {"A": NOT}
"""The same: pupils who take the test have no teacher assessment."""
EM, BLW, D = {"EM": IN}, {"BLW": IN, "PKF": IN, "PKE": IN, "PKG": IN}, {"D": NOT}
"""PKF, PKE and PKG are of the interim pre-key stage standards, "for use in the 2017 to 2018 academic year" and before (STA)."""
BY_YEAR: dict[tuple[str, int], dict[str, tuple[bool, bool]]] = {
    ("ks2-scaled-score", 2018): KS2_TEST,
    ("ks2-scaled-score", 2024): KS2_TEST,
    ("ks2-writing-ta", 2017): WRITING | BLW | D,
    ("ks2-writing-ta", 2018): WRITING | STANDARDS | {"BLW": IN} | D,
    ("ks2-writing-ta", 2021): WRITING | STANDARDS | EM,
    ("ks2-writing-ta", 2024): WRITING | STANDARDS | EM,
    ("ks2-science-ta", 2018): SCIENCE | D,
    ("ks2-science-ta", 2024): SCIENCE,
    ("ks2-reading-maths-ta", 2017): READING_MATHS | BLW | {"HNM": IN, "EXS": IN},
    ("ks2-reading-maths-ta", 2018): READING_MATHS | STANDARDS | {"BLW": IN},
    ("ks2-reading-maths-ta", 2021): READING_MATHS | STANDARDS | EM,
    ("phonics", 2024): dict.fromkeys(map(str, range(41)), IN) | {"A": NOT, "D": NOT, "Q": NOT, "L": OUT},
    ("mtc", 2024): dict.fromkeys(map(str, range(26)), IN)
    | dict.fromkeys(["A", "B", "H", "J", "Q", "U", "X", "NAA"], NOT)
    | {"L": OUT, "Z": OUT},
    ("eyfsp-goal", 2024): {"1": IN, "2": IN, "A": NOT},
    ("eyfsp-goal", 2020): {"1": IN, "2": IN, "3": IN, "A": NOT},
}
"""By template and the year in which the academic year begins. Phonics: STA, assessment and reporting arrangements 2025. MTC: STA, administration
guidance 2025. EYFSP: DfE, profile handbook 2025. D: the DfE's KS2 tables of 2017 to 2019 count it in PTWRITTA_AD and PTSCITA_AD."""


@pytest.mark.parametrize(("template", "year"), BY_YEAR)
def test_the_grades_of_a_year(template: str, year: int) -> None:
    found = load_templates().find_scheme(template)
    assert found is not None
    assert {g.code: (g.eligible, g.valid) for g in found.list_grades() if g.is_used_in(year)} == BY_YEAR[template, year]


PAIRS = ["9-9", "9-8", "8-8", "8-7", "7-7", "7-6", "6-6", "6-5", "5-5", "5-4", "4-4", "4-3", "3-3", "3-2", "2-2", "2-1", "1-1"]
"""Ofqual, GCSE combined science: 17 grades."""
ORDERS = {
    "gcse-combined-science": ["U", *PAIRS[::-1]],
    "gcse-9-1": ["U", *map(str, range(1, 10))],
    "a-level": ["U", "E", "D", "C", "B", "A", "A*"],
    "technical-award": ["U", "L1P", "L1M", "L1D", "L1D*", "L2P", "L2M", "L2D", "L2D*"],
    "year-and-band": [f"{year}{band}" for year in range(1, 7) for band in ("B", "At", "A")],
}
"""By template, its grades from the lowest: Ofqual 2018, DfE key stage 4 qualifications 2024; domain facts of in-year schemes."""


@pytest.mark.parametrize("template", ORDERS)
def test_grades_in_order(template: str) -> None:
    found = load_templates().find_scheme(template)
    assert found is not None
    ranked = sorted((g for g in found.list_grades() if g.rank is not None), key=lambda g: g.rank or 0)
    assert [grade.code for grade in ranked] == ORDERS[template]


def test_combined_science_weighs_the_mean_of_two_grades_and_passes_from_4_4() -> None:
    found = load_templates().find_scheme("gcse-combined-science")
    assert found is not None
    by_code = {grade.code: grade for grade in found.list_grades()}
    assert (by_code["5-4"].value, by_code["4-4"].expected, by_code["4-3"].expected) == (4.5, True, False)


@pytest.mark.parametrize(("template", "standard", "strong"), [("gcse-9-1", "4", "5"), ("gcse-combined-science", "4-4", "5-5")])
def test_secondary_schools_have_two_thresholds(template: str, standard: str, strong: str) -> None:
    """DfE, secondary accountability measures 2024: a standard pass is grade 4 and above, a strong pass grade 5 and above."""
    found = load_templates().find_scheme(template)
    assert found is not None
    grades = sorted(found.list_grades(), key=lambda grade: grade.rank or 0)
    assert next(grade.code for grade in grades if grade.expected) == standard
    assert next(grade.code for grade in grades if grade.higher) == strong
    assert [grade.higher for grade in grades] == sorted(grade.higher for grade in grades)


def test_in_year_templates_are_there() -> None:
    codes = {template.code for template in load_templates().schemes}
    assert {"points", "year-and-band", "percent", "standardised-score", "effort", "reading-age", "scaled-score"} <= codes


def test_goals_and_the_good_level_of_development() -> None:
    """DfE, EYFS profile handbook 2025: 17 goals; a good level is expected in the prime areas, literacy and mathematics, E01 to E12."""
    goals = [subject.code for subject in load_templates().subjects if subject.code.startswith("E")]
    assert goals == [f"E{n:02}" for n in range(1, 18)]
    gld = load_templates().find_subject("gld")
    assert gld is not None
    assert (gld.derived, gld.combines) == (True, goals[:12])


PUBLISHED = {"enrolmentStatus": "CMSGFO", "sex": "FM", "sen": "NKEAPS", "yearGroup": None, "fsm": None, "eal": "123"}


def values_of(type_: Any) -> set[str]:
    """The values of the Literal in a type."""
    return {value for part in get_args(type_) for value in ({part} if isinstance(part, str) else values_of(part))}


YES_NO = "true false"
TABLES: dict[str, tuple[str, int | None, str]] = {
    "windowTemplate": (
        "STA, assessment and reporting arrangements; DfE, accountability measures",
        2026,
        "EYFSP EYFSP phonics phonics MTC KS2 KS2 KS4 KS5",
    ),
    "yearGroup": ("DfE, Common Basic Data Set, NC year actual", 2024, "E1 E2 N1 N2 R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 X"),
    "enrolmentStatus": ("DfE, Common Basic Data Set, enrolment status", 2024, "C M S G F O"),
    "sex": ("DfE, Common Basic Data Set, sex", 2024, "F M"),
    "sen": ("DfE, school census guide; SEND code of practice 2015: A, S and P until then", 2024, "N K E A P S"),
    "fsm": ("DfE, free school meals: guidance for schools, for the year from September", 2026, "targeted expanded none"),
    "eal": ("DfE, school census guide, first language", 2024, "1 2 3"),
    "ethnicity": (
        "DfE, Common Basic Data Set CS080, main codes, with CHNE before ACHN",
        2024,
        "WBRI WIRI WIRT WROM WOTH MWBC MWBA MWAS MOTH AIND APKN ABAN CHNE ACHN AOTH BCRB BAFR BOTH OOTH REFU NOBT",
    ),
    "ever6Fsm": ("DfE, pupil premium: conditions of grant", 2024, YES_NO),
    "pupilPremium": ("DfE, pupil premium: conditions of grant", 2024, YES_NO),
    "serviceChild": ("DfE, school census guide, service child indicator", 2024, YES_NO),
    "lookedAfter": ("DfE, school census guide, children looked after", 2024, YES_NO),
    "leftCare": ("DfE, school census guide, post looked after arrangements", 2024, YES_NO),
    "judgementStatus": ("this contract", None, "absent new left notTaught exempt withdrawn"),
    "windowState": ("this contract", None, "planned open closed locked"),
    "groupKind": ("this contract", None, "class registration teaching adhoc"),
    "targetBasis": ("this contract", None, "teacher prior-attainment benchmark aspiration"),
    "targetVisibility": ("this contract", None, "staff school trust family"),
    "aggregateStatus": ("DfE, statistics policy: symbols", 2024, "c z x"),
    "aspect": ("this contract", None, ""),
    "subject": ("DfE, Common Basic Data Set, subject codes", 2024, ""),
    "gld": ("DfE, EYFS profile results: methodology", 2025, "not-eligible not-valid below expected"),
    "rwm": ("DfE, primary school accountability technical guide", 2024, "not-eligible not-valid below expected higher"),
    "gcse-9-1": ("Ofqual, GCSE 9 to 1 grades", 2017, "U 1 2 3 4 5 6 7 8 9"),
    "gcse-combined-science": (
        "Ofqual, GCSE combined science: 17 grades and U",
        2018,
        "U 1-1 2-1 2-2 3-2 3-3 4-3 4-4 5-4 5-5 6-5 6-6 7-6 7-7 8-7 8-8 9-8 9-9",
    ),
    "a-level": ("Ofqual, GCE A level", 2024, "U E D C B A A*"),
    "technical-award": (
        "DfE, key stage 4 qualifications, discount codes and point scores",
        2024,
        "U L1P L1M L1D L1D* L2P L2M L2D L2D*",
    ),
    "year-and-band": ("in schools' use", None, " ".join(f"{y}{b}" for y in range(1, 7) for b in ("B", "At", "A"))),
    **{name: ("in schools' use", None, codes) for name, codes in {"wts-exs-gds": "WTS EXS GDS", "effort": "1 2 3 4"}.items()},
    "below-at-above": ("in schools' use", None, "Below Just_at At Above"),
    "emerging-developing-secure": ("in schools' use", None, "Emerging Developing Secure"),
    "points": ("in schools' use", None, " ".join(map(str, range(61)))),
    "percent": ("in schools' use", None, " ".join(map(str, range(101)))),
    "standardised-score": ("in schools' use: mean 100, standard deviation 15", None, " ".join(map(str, range(60, 141)))),
    "scaled-score": ("STA, scaled scores at key stage 2", 2024, " ".join(map(str, range(80, 121)))),
    "reading-age": ("in schools' use: years and months", None, " ".join(f"{n // 12}:{n % 12:02}" for n in range(60, 204))),
}
"""By list, its source and the year of that, and its codes; no year where schools or this contract say what there is. Lists of templates that
change from year to year are in BY_YEAR."""


def test_every_code_list_is_that_of_its_source() -> None:
    lists: dict[str, list[str]] = {}
    for name, _, code, *_rest in list_code_rows():
        lists.setdefault(name, []).append(code)
    assert set(lists) == {*TABLES, *(template for template, _ in BY_YEAR)}
    for name, (source, year, codes) in TABLES.items():
        assert source
        assert year is None or 2014 <= year <= 2026
        assert not codes or lists[name] == [code.replace("_", " ") for code in codes.split()], name
    common = [
        subject for subject in load_templates().subjects if not (subject.prepare or subject.derived or subject.code.startswith("E"))
    ]
    assert len(common) >= 30
    assert all(subject.national_code for subject in common)
    national = [subject.national_code for subject in load_templates().subjects if subject.national_code]
    assert len(set(national)) == len(national)


def test_the_lists_of_the_contract_are_what_it_accepts() -> None:
    def declared(struct: type, name: str) -> set[str]:
        return values_of(get_type_hints(struct, include_extras=True)[name])

    lists: dict[str, set[str]] = {}
    for name, _, code, *_rest in list_code_rows():
        lists.setdefault(name, set()).add(code)
    assert lists["judgementStatus"] == declared(JudgementEntry, "status") | {"withdrawn"}
    assert lists["targetBasis"] == declared(TargetEntry, "basis")
    assert lists["targetVisibility"] == declared(TargetEntry, "visibility")
    assert lists["groupKind"] == set(get_args(Kind))
    assert lists["aggregateStatus"] == set(get_args(Status))
    assert lists["windowState"] == {"planned", "open", "closed", "locked"}


async def test_every_list_is_read_in_both_interfaces(small_trust: Trust) -> None:
    reader = await small_trust.client("reader", f"trust:{TRUST}=schools:read")
    for name, codes in PUBLISHED.items():
        rest = (await reader.get(f"/v1/codes?list={name}&first=100")).json()["data"]
        graphql = await asked(
            reader, f'{{ codes(first: 100, where: {{list: "{name}"}}) {{ nodes {{ code meaning validFrom validTo source }} }} }}'
        )
        assert [{k: row[k] for k in ("code", "meaning", "validFrom", "validTo", "source")} for row in rest] == graphql["codes"][
            "nodes"
        ]
        assert codes is None or [row["code"] for row in rest] == list(codes)
        assert all(row["meaning"] and row["source"] for row in rest)
    expanded = (await reader.get("/v1/codes?list=fsm&code=expanded")).json()["data"][0]
    assert (expanded["validFrom"], expanded["validTo"]) == ("2026-08-01", None)
    status = {row["code"]: row["eligible"] for row in (await reader.get("/v1/codes?list=enrolmentStatus")).json()["data"]}
    assert status == {"C": True, "M": True, "S": False, "G": False, "F": True, "O": True}
    em = (await reader.get("/v1/codes?list=ks2-writing-ta&code=EM&code=BLW&code=D&sort=code")).json()["data"]
    assert [(row["code"], row["validFrom"], row["validTo"]) for row in em] == [
        ("BLW", None, "2021-08-31"),
        ("D", None, "2019-08-31"),
        ("EM", "2021-09-01", None),
    ]
    absent = (await reader.get("/v1/codes?list=ks2-scaled-score&code=A&code=105&sort=code")).json()["data"]
    assert [(row["eligible"], row["valid"], row["inAverage"], row["expected"]) for row in absent] == [
        (True, True, True, True),
        (True, False, False, False),
    ]
    statuses = (await reader.get("/v1/codes?list=judgementStatus")).json()["data"]
    assert {(row["valid"], row["inAverage"]) for row in statuses} == {(False, False)}
    first = await reader.get("/v1/codes?list=sex")
    assert (await reader.get("/v1/codes?list=sex", headers={"If-None-Match": first.headers["etag"]})).status_code == 304


WRITTEN = {
    "2017-18/KS2": {"BLW": 1, "PK1": 0, "PKF": 1, "EM": 0, "EXS": 1, "P": 1},
    "2018-19/KS2": {"BLW": 1, "D": 1, "PKF": 0, "PK6": 1, "EXS": 1},
    "2021-22/KS2": {"BLW": 0, "D": 0, "EM": 1, "EXS": 1},
}


@pytest.mark.parametrize("code", WRITTEN)
async def test_a_grade_is_taken_in_the_years_it_is_valid_in(small_trust: Trust, code: str) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    year = int(code[:4])
    await opened(vendor, code, academicYear=code[:7], censusOn=f"{year + 1}-05-14", closesAt="2099-07-31T17:00:00Z")
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(6)], asOf=f"{year}-10-01"))
    for n, (grade, taken) in enumerate(WRITTEN[code].items()):
        body = batch("Oak", [judged(n, "writing", grade)], window=code)
        answer = await sent(vendor, "/v1/judgements", body, 200 if taken else 422)
        if not taken:
            assert issues(answer) == {"/entries/0/grade": "grade-unknown"}
            assert f"no such grade in {code[:7]}" in answer["issues"][0]["message"]
            assert f" {grade}," not in answer["issues"][0]["message"].partition("It has:")[2]
    science = await sent(vendor, "/v1/judgements", batch("Oak", [judged(5, "science", "EM")], window=code), 422)
    assert issues(science) == {"/entries/0/grade": "grade-unknown"}


async def versions_of(client: Any, code: str) -> list[tuple[int, str]]:
    scheme = (await client.get(f"/v1/schemes?code={code}")).json()["data"][0]
    rows = (await client.get(f"/v1/schemes/{scheme['id']}/grades?first=100")).json()["data"]
    return [(row["schemeVersion"], row["code"]) for row in rows]


async def test_the_next_version_of_a_scheme(small_trust: Trust) -> None:
    """Windows that were planned stay in their version; the next ones are judged in the new one."""
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    made = await sent(
        vendor, "/v1/schemes", {"tenant": OWN, "code": "steps", "name": "Steps", "grades": [{"code": "A", "label": "A"}]}, 201
    )
    collects = [{"subject": "reading", "scheme": "steps"}]
    await opened(vendor, "first", collects=collects)
    grades = [{"code": "A", "label": "A"}, {"code": "B", "label": "B", "expected": True, "rank": 2}]
    second = await sent(vendor, f"/v1/schemes/{made['id']}/versions", {"grades": grades}, 201)
    assert second == {"id": made["id"], "code": "steps", "version": 2, "grades": 2}
    await opened(vendor, "second", collects=collects)
    assert await versions_of(vendor, "steps") == [(1, "A"), (2, "A"), (2, "B")]
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    assert issues(await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade="B")], window="first"), 422)) == {
        "/entries/0/grade": "grade-unknown"
    }
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade="B")], window="second"))) == {"created": 1}
    assert await miscounted(small_trust) == (0, 0, 0)
    by_graphql = await asked(
        vendor,
        "mutation($i: NewSchemeVersionInput!) { createSchemeVersion(input: $i) { version grades } }",
        i={"id": made["id"], "grades": [*grades, {"code": "C", "label": "C"}]},
    )
    assert by_graphql == {"createSchemeVersion": {"version": 3, "grades": 3}}


async def test_a_version_that_cannot_be_is_refused(small_trust: Trust) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    reader = await small_trust.client("reader", f"trust:{TRUST}=schemes:read,windows:read")
    other = await small_trust.client("other", f"school:{URNS['Quay']}=all")
    body = {"tenant": OWN, "code": "steps", "name": "Steps", "grades": [{"code": "A", "label": "A", "value": 1.005}]}
    refused = await sent(vendor, "/v1/schemes", body, 422)
    assert issues(refused) == {"/grades/0/value": "too-many-decimals"}
    made = await sent(vendor, "/v1/schemes", body | {"grades": [{"code": "A", "label": "A", "expected": True}]}, 201)
    url, twice = f"/v1/schemes/{made['id']}/versions", [{"code": "A", "label": "A"}, {"code": "A", "label": "B"}]
    assert issues(await sent(vendor, url, {"grades": twice}, 422)) == {"/grades/1/code": "duplicate-grade"}
    assert issues(await sent(vendor, url, {"grades": twice[:1], "academicYears": ["2026"]}, 422)) == {
        "/academicYears/0": "academic-year-invalid"
    }
    later = {"grades": [{"code": "A", "label": "A", "expected": True}], "standard": "later"}
    assert issues(await sent(vendor, url, later, 422)) == {"/standard": "wrong-value"}
    await sent(reader, url, {"grades": twice[:1]}, 403)
    await sent(other, url, {"grades": twice[:1]}, 404)
    rwm = (await vendor.get("/v1/schemes?code=rwm")).json()["data"][0]["id"]
    assert issues(await sent(vendor, f"/v1/schemes/{rwm}/versions", {"grades": twice[:1]}, 422)) == {"": "scheme-derived"}
    assert [number for number, _ in await versions_of(vendor, "steps")] == [1]


async def test_subjects_of_its_own_and_common_ones(small_trust: Trust) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    common = (await vendor.get("/v1/codes?list=subject&first=100")).json()["data"]
    usual = {row["code"] for row in (await vendor.get("/v1/subjects?first=100")).json()["data"]}
    ready = [row for row in common if row["code"] not in usual and row["nationalCode"] and not row["code"].startswith("E")]
    assert len(ready) >= 30
    latin = await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": "latin"}, 201)
    row = (await vendor.get(f"/v1/subjects/{latin['id']}")).json()
    assert (row["name"], row["nationalCode"], row["retired"], row["version"]) == ("Latin", "LAT", False, 1)
    forest = await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": "forest-school", "name": "Forest school"}, 201)
    await opened(
        vendor,
        "w",
        collects=[{"subject": "forest-school", "scheme": "ks2-writing-ta"}, {"subject": "latin", "scheme": "ks2-writing-ta"}],
    )
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    good = batch("Oak", [judged(1, "forest-school", "EXS"), judged(1, "latin", "GDS")], window="w")
    assert counted(await sent(vendor, "/v1/judgements", good)) == {"created": 2}
    rows = (await vendor.get("/v1/judgements?fields=subjectCode,grade")).json()["data"]
    assert {row["subjectCode"]: row["grade"] for row in rows} == {"forest-school": "EXS", "latin": "GDS"}
    for body in ({"code": "latin"}, {"code": "READING", "name": "R"}, {"code": "Latin", "name": "L"}):
        assert issues(await sent(vendor, "/v1/subjects", {"tenant": OWN} | body, 409)) == {"/code": "subject-exists"}
    assert issues(await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": "none"}, 422)) == {"/name": "required"}
    retired = await sent(vendor, f"/v1/subjects/{forest['id']}/retire")
    assert (retired["outcome"], retired["version"]) == ("updated", 2)
    refused = await sent(
        vendor, "/v1/windows", window("x", collects=[{"subject": "forest-school", "scheme": "ks2-writing-ta"}]), 422
    )
    assert issues(refused) == {"/collects/0/subject": "subject-unknown"}
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, "forest-school", "GDS")], window="w"))) == {
        "updated": 1
    }
    back = await vendor.patch(
        f"/v1/subjects/{forest['id']}", json={"retired": False, "nationalCode": "FOR"}, headers={"If-Match": '"2"'}
    )
    assert back.json()["version"] == 3
    await opened(vendor, "x", collects=[{"subject": "forest-school", "scheme": "ks2-writing-ta"}])


async def test_derived_subjects_and_the_main_aspect_are_protected(small_trust: Trust) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    rwm = (await vendor.get("/v1/subjects?code=rwm")).json()["data"][0]["id"]
    main = (await vendor.get("/v1/aspects?code=main")).json()["data"][0]["id"]
    for url in (f"/v1/subjects/{rwm}", f"/v1/aspects/{main}"):
        refused = await vendor.patch(url, json={"name": "Mine"}, headers={"If-Match": "*"})
        assert (refused.status_code, refused.json()["type"].rsplit("/", 1)[1]) == (409, "code-protected")
        assert (await sent(vendor, f"{url}/retire", status=409))["type"].endswith("/code-protected")
    homework = await sent(vendor, "/v1/aspects", {"tenant": OWN, "code": "homework", "name": "Homework"}, 201)
    row = (await vendor.get(f"/v1/aspects/{homework['id']}")).json()
    assert (row["counted"], row["retired"]) == (False, False)
    await opened(vendor, "w", collects=[{"subject": "reading", "aspect": "homework", "scheme": "ks2-writing-ta"}])
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade="EXS", aspect="homework")], window="w"))) == {
        "created": 1
    }


async def test_the_national_code_finds_a_subject_in_every_tenant(small_trust: Trust) -> None:
    everywhere = await small_trust.client("everywhere", f"trust:{TRUST}=all", f"school:{URNS['Quay']}=all")
    quay = {"school": {"urn": URNS["Quay"]}}
    await sent(everywhere, "/v1/subjects", {"tenant": OWN, "code": "hist", "name": "History", "nationalCode": "HIS"}, 201)
    await sent(everywhere, "/v1/subjects", {"tenant": quay, "code": "history"}, 201)
    rest = (await everywhere.get("/v1/subjects?nationalCode=HIS&sort=code&fields=code")).json()["data"]
    assert [row["code"] for row in rest] == ["hist", "history"]
    graphql = await asked(everywhere, '{ subjects(where: {nationalCode: "HIS"}, orderBy: [{field: code}]) { nodes { code } } }')
    assert graphql["subjects"]["nodes"] == rest


async def test_a_common_subject_is_meant_in_any_case_and_so_is_a_national_code(small_trust: Trust) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    gld = await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": "GLD", "name": "Good level"}, 201)
    row = (await vendor.get(f"/v1/subjects/{gld['id']}")).json()
    assert (gld["code"], row["code"], row["derived"], len(row["combines"])) == ("gld", "gld", True, 12)
    make = "mutation($i: NewSubjectInput!) { createSubject(input: $i) { id code } }"
    e18 = {"tenant": OWN, "code": "sports", "name": "Sports", "nationalCode": " spo "}
    sports = (await asked(vendor, make, i=e18))["createSubject"]
    for form in ("SPO", "spo", " Spo"):
        assert [row["code"] for row in (await vendor.get("/v1/subjects", params={"nationalCode": form})).json()["data"]] == [
            "sports"
        ]
    changed = await vendor.patch(f"/v1/subjects/{sports['id']}", json={"nationalCode": "spo"}, headers={"If-Match": "*"})
    assert changed.json()["outcome"] == "unchanged"
    aspect = {"tenant": OWN, "code": "homework", "name": "Homework", "nationalCode": "hom"}
    made = await sent(vendor, "/v1/aspects", aspect, 201)
    assert (await vendor.get(f"/v1/aspects/{made['id']}")).json()["nationalCode"] == "HOM"


async def test_a_window_is_reported_that_a_subject_or_an_aspect_is_retired(small_trust: Trust) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    subject = await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": "latin"}, 201)
    await sent(vendor, f"/v1/subjects/{subject['id']}/retire")
    aspect = (await vendor.get("/v1/aspects?code=effort")).json()["data"][0]
    await sent(vendor, f"/v1/aspects/{aspect['id']}/retire")
    lines = [
        {"subject": "latin", "scheme": "ks2-writing-ta"},
        {"subject": "reading", "aspect": "effort", "scheme": "ks2-writing-ta"},
    ]
    refused = await sent(vendor, "/v1/windows", window("w", collects=lines), 422)
    assert issues(refused) == {"/collects/0/subject": "subject-unknown", "/collects/1/aspect": "aspect-unknown"}
    for issue, noun, other in zip(refused["issues"], ("subject", "aspect"), ("latin", "effort"), strict=True):
        assert issue["message"].startswith(f"This {noun} is retired. ")
        assert other not in issue["message"]


async def test_a_window_with_an_unknown_code_is_refused_with_the_codes_that_it_may_have(small_trust: Trust) -> None:
    """No subject and no scheme that is derived from others: to name one of them is refused too."""
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    body = window("w", collects=[{"subject": "reeding", "scheme": "no-such-scheme"}])
    refused = await sent(vendor, "/v1/windows", body, 422)
    assert issues(refused) == {"/collects/0/subject": "subject-unknown", "/collects/0/scheme": "scheme-unknown"}
    make = "mutation($i: NewWindowInput!) { createWindow(input: $i) { id } }"
    answer = await vendor.post("/graphql", json={"query": make, "variables": {"i": body}})
    assert answer.json()["errors"][0]["extensions"]["problem"]["issues"] == refused["issues"]
    for issue, path in zip(refused["issues"], ("subjects", "schemes"), strict=True):
        rows = (await vendor.get(f"/v1/{path}?fields=code,derived&first=1000")).json()["data"]
        listed = issue["message"].partition("It has: ")[2].removesuffix(".").split(", ")
        assert {*listed} == {row["code"] for row in rows if not row["derived"]}
        assert any(row["derived"] for row in rows)


YEARS = {"Year 3": "3", "y3": "3", " 3 ": "3", "0": "R", "Nursery 1": "N1"}


async def test_the_year_group_of_a_grade_is_stored_as_every_year_group_is(small_trust: Trust) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    grades = [{"code": f"g{n}", "label": "G", "yearGroup": year} for n, year in enumerate(YEARS)]
    made = await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "steps", "name": "Steps", "grades": grades}, 201)
    rows = (await vendor.get(f"/v1/schemes/{made['id']}/grades")).json()["data"]
    assert [row["yearGroup"] for row in rows] == [*YEARS.values()]
    query = "query($y: [String!]) { grades(where: {schemeVersion: 1, yearGroup: $y}) { nodes { code } } }"
    for form in ("3", "Y3", "Year 3"):
        rest = (await vendor.get(f"/v1/schemes/{made['id']}/grades", params={"yearGroup": form, "fields": "code"})).json()["data"]
        assert rest == [{"code": "g0"}, {"code": "g1"}, {"code": "g2"}] == (await asked(vendor, query, y=[form]))["grades"]["nodes"]
    for url in ("/v1/schemes", f"/v1/schemes/{made['id']}/versions"):
        body = {"grades": [grades[0], {"code": "K", "label": "K", "yearGroup": "Klingon"}]}
        refused = await sent(vendor, url, body | ({} if "versions" in url else {"tenant": OWN, "code": "k", "name": "K"}), 422)
        assert issues(refused) == {"/grades/1/yearGroup": "year-group-invalid"}
        assert "E1, E2, N1" in refused["issues"][0]["message"]
    await small_trust.operator.execute("UPDATE grades SET year_group = 'Y3' WHERE year_group = '3'")
    await small_trust.operator.execute("UPDATE grades SET year_group = 'Klingon' WHERE year_group = 'N1'")
    owner, said = await asyncpg.connect(small_trust.databases.owner_url), list[str]()
    for _ in range(2):
        await after.run(owner, said.append)
    await owner.close()
    assert said == ["Wrote 1 form of year groups of grades as filters look for them."]
    rows = (await vendor.get(f"/v1/schemes/{made['id']}/grades")).json()["data"]
    assert [row["yearGroup"] for row in rows] == ["3", "3", "3", "R", "Klingon"]


@pytest.mark.parametrize("form", ["KS2-Writing-TA", " ks2-writing-ta "])
async def test_a_template_is_named_in_any_case(small_trust: Trust, form: str) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    body = {"tenant": OWN, "code": "mine", "name": "Mine", "template": form}
    made = await sent(vendor, "/v1/schemes", body, 201)
    assert made["grades"] == 19
    make = "mutation($i: NewSchemeInput!) { createScheme(input: $i) { code grades } }"
    assert (await asked(vendor, make, i=body | {"code": "too"}))["createScheme"] == {"code": "too", "grades": 19}


MARKS = {
    **{"12.345": "12.35", "0.001": "0.00", "-1.005": "-1.01", "99998.999": "99999.00"},
    **{"12.340000000000000001": "12.34", "1.0000000000000001": "1.00", "12.3449999999999999999999": "12.34", "1e-400": "0.00"},
}
"""By a mark as it is sent, what it would be rounded to: half up, and by every digit."""


MARK = "<mark>"


async def send_text(client: Any, path: str, body: Any, mark: str) -> Any:
    """What the API answers to a body with this number in it, as it is written."""
    text = json.dumps(body).replace(f'"{MARK}"', mark)
    return await client.post(path, content=text, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("mark", MARKS)
async def test_a_mark_is_never_rounded_in_silence(small_trust: Trust, mark: str) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    whole = {"tenant": OWN, "code": "whole", "name": "Whole marks", "grades": [{"code": "1", "label": "One"}], "rounding": 0}
    await sent(vendor, "/v1/schemes", whole, 201)
    await opened(vendor, collects=[{"subject": "reading", "scheme": "ks2-scaled-score"}, {"subject": "maths", "scheme": "whole"}])
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)], asOf=DAY))
    refused = (await send_text(vendor, "/v1/judgements", batch("Oak", [judged(1, mark=MARK)]), mark)).json()
    assert issues(refused) == {"/entries/0/mark": "too-many-decimals"}
    assert f" {MARKS[mark]}." in refused["issues"][0]["message"]
    record = "mutation($i: JudgementBatchInput!) { recordJudgements(input: $i) { created issues { at code message } } }"
    body = {"query": record, "variables": {"i": batch("Oak", [judged(1, mark=MARK)])}}
    by_variable = (await send_text(vendor, "/graphql", body, mark)).json()
    literal = f'{{school: {{urn: 100001}}, window: "{WINDOW}", entries: [{{reference: "P1", subject: "reading", grade: 100, mark: {mark}}}]}}'
    by_literal = (
        await vendor.post("/graphql", json={"query": record.replace("($i: JudgementBatchInput!)", "").replace("$i", literal)})
    ).json()
    for answer in (by_variable, by_literal):
        (problem,) = [error["extensions"]["problem"] for error in answer["errors"]]
        assert [(i["at"], i["message"]) for i in problem["issues"]] == [(i["at"], i["message"]) for i in refused["issues"]]
    rounded = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, "maths", "1", mark=12.5)]))
    assert [(w["at"], w["code"]) for w in rounded["warnings"]] == [("/entries/0/mark", "mark-rounded")]
    again = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, "maths", "1", mark=13)]))
    assert (counted(again), again["warnings"]) == ({"unchanged": 1}, [])
    exact = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, mark=12.5)]))
    assert counted(exact) == {"created": 1}


@pytest.mark.parametrize(
    ("mark", "stored"), [("12.3400000000000000000", "12.34"), ("1.5e1", "15"), ("99999", "99999"), ("-0.00", "0")]
)
async def test_a_mark_is_stored_as_it_was_sent(small_trust: Trust, mark: str, stored: str) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    answer = await send_text(vendor, "/v1/judgements", batch("Oak", [judged(1, mark=MARK)]), mark)
    assert (counted(answer.json()), answer.json()["warnings"]) == ({"created": 1}, [])
    assert await small_trust.value("SELECT mark FROM judgements") == Decimal(stored)
    for wrong in ("99999.01", "-100000", "1e300", '"12"', "true"):
        refused = await send_text(vendor, "/v1/judgements", batch("Oak", [judged(1, mark=MARK)]), wrong)
        assert issues(refused.json()) == {"/entries/0/mark": "wrong-value"}, refused.text
    half = [{"code": "A", "label": "A", "value": 1.005, "points": 0.125}]
    refused = await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "half", "name": "H", "grades": half}, 422)
    told = {issue["at"]: issue["message"].rpartition(" ")[2] for issue in refused["issues"]}
    assert told == {"/grades/0/value": "1.01.", "/grades/0/points": "0.13."}


@pytest.mark.parametrize(
    ("year", "grade", "taken"),
    [("2018-19", "BLW", True), ("2018-19", "EM", False), ("2025-26", "EM", True), ("2025-26", "BLW", False)],
)
async def test_a_target_is_a_grade_of_the_year_of_its_horizon(small_trust: Trust, year: str, grade: str, taken: bool) -> None:
    vendor = await small_trust.client("vendor", f"trust:{TRUST}=all")
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    target = judged(1, "writing", grade, scheme="ks2-writing-ta", basis="teacher", horizon={"academicYear": year, "point": "KS2"})
    answer = await sent(vendor, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": [target]}, 200 if taken else 422)
    assert taken or issues(answer) == {"/entries/0/grade": "grade-unknown"}
