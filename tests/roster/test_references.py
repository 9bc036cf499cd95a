"""A client re-keys its references of a school's pupils: old to new, or by UPN, names and birthday; exchanged and passed on in one batch."""

from typing import Any

from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, counted, issues, sent, upn
from tests.roster.children import ANN, BEN, BORN, EVA, EVAN, NAMES, SURNAME, child, pupil, put, references, upns

REKEY = """mutation ($input: ReferenceBatchInput!, $dry: Boolean) {
    recordSchoolReferences(input: $input, dryRun: $dry, return: "representation") { updated unchanged results { at outcome id version } } }"""


def to(new: str, old: str) -> dict[str, Any]:
    return {"reference": new, "oldReference": old}


def of(number: int, new: str, **changed: Any) -> dict[str, Any]:
    usual = {"upn": upn(number), "surname": SURNAME[number], "forename": NAMES[number], "dateOfBirth": BORN[number]}
    return {"reference": new} | usual | changed


def url(here: Trust, at: str = "Oak") -> str:
    return f"/v1/schools/{here.ids[at]}/references"


async def rekey(here: Trust, client: Any, *rows: dict[str, Any], status: int = 200, **headers: str) -> Any:
    return await sent(client, url(here), {"entries": list(rows)}, status, **headers)


async def four(vendor: Any) -> None:
    await put(vendor, child(ANN), child(BEN), child(EVA), child(EVAN))


USUAL = {"Ann": ["P1"], "Ben": ["P2"], "Eva": ["P3"], "Evan": ["P4"]}


async def test_every_pupil_gets_its_new_reference_once(small_trust: Trust, vendor: Any) -> None:
    await four(vendor)
    ids = [(await pupil(vendor, forename=name))["id"] for name in ("Ann", "Ben")]
    read, before = await vendor.get("/v1/pupils"), await small_trust.everything()
    rows = [to("N1", "P1"), of(BEN, "N2", surname="BAKER", upn=upn(BEN).lower()), to("P3", "P3")]
    dry = await sent(vendor, f"{url(small_trust)}?dryRun=true", {"entries": rows}, Prefer="return=representation")
    assert (dry["dryRun"], await small_trust.everything()) == (True, before)
    done = await rekey(small_trust, vendor, *rows, Prefer="return=representation")
    assert [(row["at"], row["outcome"], row["version"]) for row in done["results"]] == [
        ("/entries/0", "updated", 2), ("/entries/1", "updated", 2), ("/entries/2", "unchanged", 1),
    ]  # fmt: skip
    assert (dry["results"], [row["id"] for row in done["results"][:2]]) == (done["results"], ids)
    assert await references(small_trust) == USUAL | {"Ann": ["N1"], "Ben": ["N2"]}
    after = await vendor.get("/v1/pupils", headers={"If-None-Match": read.headers["ETag"]})
    assert {row["forename"]: row["reference"] for row in after.json()["data"]}.items() >= {"Ann": "N1", "Ben": "N2"}.items()
    before = await small_trust.everything()
    assert counted(await rekey(small_trust, vendor, *rows)) == {"unchanged": 3}
    now = await small_trust.everything()
    assert {table for table in now if now[table] != before[table]} <= {"receipts"}
    nightly = await put(vendor, child(ANN, reference="N1"), child(BEN, reference="N2"), child(EVA), child(EVAN))
    assert counted(nightly) == {"unchanged": 4}
    assert await small_trust.value("SELECT count(*) FROM identity_history WHERE kind = 'reference replaced'") == 2


async def test_it_is_a_mutation_too(small_trust: Trust, vendor: Any) -> None:
    await four(vendor)
    given = {"id": str(small_trust.ids["Oak"]), "entries": [to("N1", "P1")]}
    for dry, outcome in ((True, "updated"), (False, "updated"), (False, "unchanged")):
        answer = (await asked(vendor, REKEY, input=given, dry=dry))["recordSchoolReferences"]
        assert [row["outcome"] for row in answer["results"]] == [outcome]


async def test_references_are_exchanged_and_passed_on_and_the_same_batch_again_changes_nothing(
    small_trust: Trust, vendor: Any
) -> None:
    await four(vendor)
    for rows, stored in (
        ([to("P2", "P1"), to("P1", "P2")], {"Ann": ["P2"], "Ben": ["P1"]}),
        ([to("P3", "P2"), to("P4", "P3"), to("N4", "P4")], {"Ann": ["P3"], "Ben": ["P1"], "Eva": ["P4"], "Evan": ["N4"]}),
        ([to("P4", "N4"), to("P3", "P4"), to("P1", "P3"), to("N4", "P1")], {"Ann": ["P1"], "Ben": ["N4"], "Eva": ["P3"], "Evan": ["P4"]}),
        ([of(BEN, "P1"), to("P2", "P1")], {"Ann": ["P2"], "Ben": ["P1"], "Eva": ["P3"], "Evan": ["P4"]}),
        ([of(ANN, "P4"), of(EVAN, "P3"), of(EVA, "P2")], {"Ann": ["P4"], "Ben": ["P1"], "Eva": ["P2"], "Evan": ["P3"]}),
    ):  # fmt: skip
        assert counted(await rekey(small_trust, vendor, *rows)) == {"updated": len(rows)}
        found = await references(small_trust)
        assert {name: found[name] for name in stored} == stored
        for again in (rows, rows[::-1]):
            assert counted(await rekey(small_trust, vendor, *again)) == {"unchanged": len(rows)}
        assert await references(small_trust) == found


async def test_a_reference_that_was_re_keyed_before_is_passed_on_to_the_next(small_trust: Trust, vendor: Any) -> None:
    await four(vendor)
    await rekey(small_trust, vendor, to("P2", "P1"), to("N2", "P2"), to("P1", "P3"))
    assert await references(small_trust) == USUAL | {"Ann": ["P2"], "Ben": ["N2"], "Eva": ["P1"]}
    rows = [to("N1", "P2"), to("P2", "P1")]  # the second row is as before, and means another child
    assert counted(await rekey(small_trust, vendor, *rows)) == {"updated": 2}
    assert await references(small_trust) == USUAL | {"Ann": ["N1"], "Ben": ["N2"], "Eva": ["P2"]}


async def test_a_reference_given_to_a_new_child_is_not_taken_for_one_that_was_re_keyed(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN))
    await rekey(small_trust, vendor, to("N1", "P1"))
    await put(vendor, child(EVA, reference="P1"))
    assert issues(await rekey(small_trust, vendor, to("N1", "P1"), status=422)) == {"/entries/0/reference": "reference-taken"}
    assert counted(await rekey(small_trust, vendor, to("N2", "P1"))) == {"updated": 1}
    assert await references(small_trust) == {"Ann": ["N1"], "Eva": ["N2"]}


async def test_every_bad_row_is_named_at_once_and_nothing_is_written(small_trust: Trust, vendor: Any) -> None:
    await four(vendor)
    await put(vendor, child(ANN, upn=upn(50)))
    before = await small_trust.everything()
    bad = {
        "/entries/0/reference": (to("P4", "P3"), "reference-taken"),
        "/entries/1/oldReference": (to("N1", "unheard-of"), "reference-unknown"),
        "/entries/2/reference": (to(upn(ANN), "P4"), "reference-is-identifier"),
        "/entries/3/upn": (of(ANN, "N3"), "upn-replaced"),
        "/entries/4/upn": (of(BEN, "N4", upn=upn(77)), "pupil-not-found"),
        "/entries/5/upn": (of(BEN, "N5", upn="X1"), "upn-invalid"),
        "/entries/6": (of(BEN, "N6", forename="Zoe"), "pupil-conflict"),
        "/entries/7": ({"reference": "N7", "oldReference": "P1", "upn": upn(ANN)}, "wrong-value"),
        "/entries/8": ({"reference": "N8", "upn": upn(ANN), "surname": "Archer"}, "wrong-value"),
        "/entries/9": ({"reference": "N9"}, "wrong-value"),
        "/entries/10/reference": ({"oldReference": "P1"}, "required"),
    }
    refused = await rekey(small_trust, vendor, *(row for row, _ in bad.values()), status=422)
    assert issues(refused) == {at: code for at, (_, code) in bad.items()} | {"/entries/8/upn": "upn-replaced"}
    assert not any(text in str(refused) for text in ("Zoe", "Archer", upn(ANN), upn(77)))
    now = await small_trust.everything()
    assert {table for table in now if now[table] != before[table]} <= {"receipts"}
    good = to("N2", "P2")
    lenient = await rekey(small_trust, vendor, good, *(row for row, _ in bad.values()), Prefer="handling=lenient")
    assert counted(lenient) == {"updated": 1, "rejected": len(bad)}


async def test_of_two_rows_about_one_thing_the_second_is_refused(small_trust: Trust, vendor: Any) -> None:
    await four(vendor)
    rows = [to("N1", "P1"), to("N1", "P2"), to("N2", "P1"), to("N3", "P3"), of(EVA, "N4"), of(BEN, "N5"), of(BEN, "N6")]
    refused = issues(await rekey(small_trust, vendor, *rows, status=422))
    assert refused == dict.fromkeys(("/entries/1", "/entries/2", "/entries/3", "/entries/6"), "duplicate-in-batch")


async def test_what_waits_for_a_rejected_row_is_rejected_with_it(small_trust: Trust, vendor: Any) -> None:
    await four(vendor)
    rows = [to("P2", "P1"), to("P3", "P2"), to("P4", "P3"), of(EVAN, "N4", forename="Eva")]
    answer = await rekey(small_trust, vendor, *rows, to("X", "never"), status=422, Prefer="handling=lenient")
    assert issues(answer) == {
        "/entries/0/reference": "reference-taken",
        "/entries/1/reference": "reference-taken",
        "/entries/2/reference": "reference-taken",
        "/entries/3": "pupil-conflict",
        "/entries/4/oldReference": "reference-unknown",
    }
    assert await references(small_trust) == USUAL


async def test_only_the_callers_references_at_the_school_change(small_trust: Trust, vendor: Any) -> None:
    other = await small_trust.client("other", f"trust:{TRUST}=all")
    main, guest = ({"enrolments": [{"from": day, "status": status}]} for day, status in (("2014-09-01", "M"), ("2018-01-08", "G")))
    await put(vendor, child(ANN, **main))
    await put(other, child(ANN, reference="O1", **main))
    await put(vendor, child(ANN, reference="E1", **guest), at="Elm")
    for row in (to("N1", "O1"), to("N1", "E1")):
        assert issues(await rekey(small_trust, vendor, row, status=422)) == {"/entries/0/oldReference": "reference-unknown"}
    await rekey(small_trust, vendor, of(ANN, "N1"))
    assert await references(small_trust) == {"Ann": ["E1", "N1", "O1"]}
    assert counted(await rekey(small_trust, other, to("N1", "O1"))) == {"updated": 1}, "another client may have the same one"


async def test_both_scopes_are_needed_at_the_school(small_trust: Trust, vendor: Any) -> None:
    await four(vendor)
    row = {"entries": [of(ANN, "N1")]}
    before = await small_trust.everything()
    for name, grants, status in (
        ("writes", [f"trust:{TRUST}=pupils:write,pupils:read"], 403),
        ("mixed", [f"school:{URNS['Oak']}=pupils:write", f"school:{URNS['Elm']}=pupils:write,pupils:upn"], 403),
        ("elsewhere", [f"school:{URNS['Elm']}=pupils:write,pupils:upn"], 404),
    ):
        client = await small_trust.client(name, *grants)
        await sent(client, url(small_trust), row, status)
    now = await small_trust.everything()
    assert {table for table in now if now[table] != before[table]} <= {"receipts"}
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=pupils:write,pupils:upn")
    assert issues(await sent(elm, url(small_trust, "Elm"), row, 422)) == {"/entries/0/upn": "pupil-not-found"}
    near = await small_trust.client("near", f"school:{URNS['Oak']}=pupils:write,pupils:upn")
    assert counted(await sent(near, url(small_trust), row)) == {"updated": 1}


async def test_a_pupil_who_has_left_for_a_school_out_of_reach_is_re_keyed_too(small_trust: Trust, vendor: Any) -> None:
    oak = await small_trust.client("oak", f"school:{URNS['Oak']}=pupils:write,pupils:upn,pupils:read")
    await put(oak, child(ANN, enrolments=[{"from": "2014-09-01", "to": "2018-04-01", "status": "C"}]))
    await put(vendor, child(ANN, reference="E1", enrolments=[{"from": "2018-04-02", "status": "C"}]), at="Elm")
    assert counted(await rekey(small_trust, oak, to("N1", "P1"))) == {"updated": 1}
    assert await references(small_trust) == {"Ann": ["E1", "N1"]}


async def test_as_many_statements_for_many_as_for_few(small_trust: Trust, vendor: Any) -> None:
    await four(vendor)

    async def count(*rows: dict[str, Any]) -> int:
        with small_trust.statements.counting() as statements:
            await rekey(small_trust, vendor, *rows)
        return len(statements)

    few = await count(to("A1", "P1"), of(BEN, "A2"))
    assert await count(to("B1", "A1"), of(BEN, "B2"), to("B3", "P3"), of(EVAN, "B4")) == few
    assert await upns(small_trust, (await pupil(vendor, forename="Ann"))["id"]) == {upn(ANN): True}
