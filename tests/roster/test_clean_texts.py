"""Blanks, Unicode's forms and invisible characters in what people type, wherever it is typed."""

import unicodedata
from typing import Any

import pytest

from tests.fixtures.small_trust import URNS, WINDOW, Trust, asked, batch, counted, entry, issues, judged, opened, roll, sent, upn

BLANKS = " \t\u00a0\u3000"
INVISIBLE = {
    "\u200b": "U+200B",
    "\u202e": "U+202E",
    "\u2066": "U+2066",
    "\ufeff": "U+FEFF",
    "\xad": "U+00AD",
    "\u200d": "U+200D",
} | {
    "\x07": "U+0007",
    "\n": "U+000A",
    "\u2028": "U+2028",
    "\ufe0f": "U+FE0F",
    "\u3164": "U+3164",
    "\U000e0041": "U+E0041",
}


async def the_pupil(client: Any) -> dict[str, Any]:
    (found,) = (await client.get("/v1/pupils?fields=id,reference,upn,surname,forename,version")).json()["data"]
    return dict(found)


async def test_blanks_round_a_reference_do_not_make_a_second_child(small_trust: Trust, vendor: Any) -> None:
    first = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, upn=None, reference="555")]))
    assert counted(first) == {"created": 1}
    for reference in (" 555", "555 ", "\t555\r\n", "\u00a0555\u2003"):
        again = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, upn=None, reference=reference)]))
        assert counted(again) == {"unchanged": 1}, ascii(reference)
    assert await small_trust.value("SELECT count(*) FROM pupils") == 1


async def test_texts_of_a_roll_are_stored_clean(small_trust: Trust, vendor: Any) -> None:
    typed = entry(
        1,
        reference=f"{BLANKS}MIS  7{BLANKS}",
        upn=f" {upn(1)}\n",
        surname="\u00a0de \t la\u3000Cruz ",
        forename=" Zoe\u0308",
        sex="F",
        yearGroup=" Year 6 ",
        dateOfBirth="2007-01-01",
        enrolments=[{"from": "2014-09-01", "to": "2018-04-30", "status": " C", "leavingReason": "  moved   away "}],
        school={"urn": f" {URNS['Oak']} "},
    )
    assert counted(await sent(vendor, "/v1/pupils", roll("Oak", [typed]))) == {"created": 1}
    row = await small_trust.operator.fetchrow("SELECT surname, forename, upn, year_group FROM pupils")
    assert tuple(row) == ("de la Cruz", "Zoë", upn(1), "6")
    assert await small_trust.value("SELECT value FROM external_ids") == "MIS 7"
    assert await small_trust.value("SELECT leaving_reason FROM enrolments") == "moved away"
    assert counted(await sent(vendor, "/v1/pupils", roll("Oak", [typed]))) == {"unchanged": 1}
    clean = typed | {"reference": "MIS 7", "surname": "de la Cruz", "forename": "Zoë", "upn": upn(1)}
    assert counted(await sent(vendor, "/v1/pupils", roll("Oak", [clean]))) == {"unchanged": 1}


@pytest.mark.parametrize("name", ["Zoë", "Nguyễn", "Ångström", "Łukasz", "Siân"])
async def test_nfc_and_nfd_are_one_name(small_trust: Trust, vendor: Any, name: str) -> None:
    nfc, nfd = unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)
    assert counted(await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, surname=nfd, forename=nfd)]))) == {"created": 1}
    assert counted(await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, surname=nfc, forename=nfc)]))) == {"unchanged": 1}
    found = await the_pupil(vendor)
    assert (found["surname"], found["forename"], found["version"]) == (nfc, nfc, 1)
    patched = await vendor.patch(f"/v1/pupils/{found['id']}", json={"surname": f" {nfd} "}, headers={"If-Match": "*"})
    assert patched.json()["outcome"] == "unchanged", patched.text


@pytest.mark.parametrize(("character", "code_point"), INVISIBLE.items(), ids=INVISIBLE.values())
async def test_an_invisible_character_is_refused_and_its_place_reported(vendor: Any, character: str, code_point: str) -> None:
    entries = [
        entry(1, surname=f"Ro{character}e"),
        entry(2, forename=f"{character}Ann{character}"),
        entry(3, reference=f"7{character}5"),
    ]
    refused = await sent(vendor, "/v1/pupils", roll("Oak", entries), 422)
    places = {issue["at"]: issue["message"] for issue in refused["issues"]}
    expected = {"/entries/0/surname": "Character 3", "/entries/2/reference": "Character 2"}
    if not character.isspace():  # at an end it is white space like any other
        expected["/entries/1/forename"] = "Character 1"
    assert places == {
        at: f"{where} of the text is {code_point}, which cannot be seen. Leave it out." for at, where in expected.items()
    }
    assert set(issues(refused).values()) == {"text-unreadable"}


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u00a0", "\u3000\u2003", "\n"])
async def test_what_is_only_blanks_is_refused(vendor: Any, blank: str) -> None:
    refused = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, surname=blank), entry(2, reference=blank)]), 422)
    code = "text-unreadable" if blank else "wrong-value"
    assert issues(refused) == {"/entries/0/surname": code, "/entries/1/reference": code}


async def test_blanks_round_keys_and_codes_of_a_judgement(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2), entry(3)]))
    entries = [
        judged(1, " reading "),
        judged(2, "\treading") | {"reference": " P2\u00a0"},
        {"upn": f" {upn(3)} ", "subject": "reading", "grade": 100, "aspect": " main"},
    ]
    body = batch("Oak", entries) | {"window": f" {WINDOW}\n", "school": {"laestab": " 9362001 "}}
    assert counted(await sent(vendor, "/v1/judgements", body)) == {"created": 3}
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))) == {"unchanged": 1}
    target = {"reference": " P1 ", "subject": " maths", "grade": 105, "dueBy": "Summer", "basis": "teacher"}
    answer = await vendor.post("/v1/targets", json={"school": {"urn": URNS["Oak"]}, "entries": [target]})
    assert "pupil-not-found" not in answer.text
    assert "subject-not-found" not in answer.text


async def test_blanks_round_the_codes_and_names_of_groups_and_windows(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    group = {
        "code": "6A",
        "name": "Class  6A",
        "kind": "registration",
        "members": [{"reference": " P1"}],
    }
    answer = await vendor.post(
        "/v1/groups",
        json={
            "school": {"urn": URNS["Oak"]},
            "academicYear": "2017-18",
            "asOf": "2018-05-01",
            "entries": [group | {"code": " 6A "}],
        },
    )
    assert answer.status_code == 200, answer.text
    assert await small_trust.value("SELECT code || '|' || name FROM groups") == "6A|Class 6A"
    again = await vendor.post(
        "/v1/groups", json={"school": {"urn": URNS["Oak"]}, "academicYear": "2017-18", "asOf": "2018-05-01", "entries": [group]}
    )
    assert counted(again.json()) == {"unchanged": 1}
    await opened(vendor, f" {WINDOW} ", name=" Key  stage 2 ", purpose="Is reported.\u200d")
    assert await small_trust.value("SELECT code || '|' || name FROM windows") == f"{WINDOW}|Key stage 2"


async def test_graphql_cleans_as_rest_does(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    found = await the_pupil(vendor)
    mutation = "mutation ($input: PupilChangeInput!) { updatePupil(input: $input) { outcome } }"
    changed = await asked(vendor, mutation, input={"id": found["id"], "expectedVersion": 1, "surname": " van  der\u00a0Berg "})
    assert changed["updatePupil"]["outcome"] == "updated"
    assert (await the_pupil(vendor))["surname"] == "van der Berg"
    where = "query ($w: PupilWhere) { pupils(where: $w) { nodes { id } } }"
    assert (await asked(vendor, where, w={"reference": " P1 "}))["pupils"]["nodes"] == [{"id": found["id"]}]
    assert (await sent(vendor, "/v1/pupils/lookup", {"where": {"reference": "\u00a0P1"}}))["data"][0]["id"] == found["id"]
