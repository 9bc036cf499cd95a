"""Two records of one child become one, and one record of two children becomes two: nothing is lost, and nobody learns of what is out of reach."""

import asyncio
import json
from typing import Any

from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import TRUST, URNS, WINDOW, Trust, asked, batch, entry, issues, judged, opened, roll, sent, upn

ALL = ("pupils:merge", "pupils:upn", "judgements:write")


async def pupil(client: Any, **where: Any) -> dict[str, Any]:
    (found,) = (await sent(client, "/v1/pupils/lookup", {"where": where}))["data"]
    return dict(found)


async def merge_body(client: Any, from_id: str, into_id: str) -> dict[str, Any]:
    versions = [(await client.get(f"/v1/pupils/{id_}")).json()["version"] for id_ in (from_id, into_id)]
    return {"expectedVersion": versions[0], "into": into_id, "intoVersion": versions[1]}


async def confirmed(client: Any, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """What a command answers after its dry run."""
    dry = await sent(client, f"{url}?dryRun=true", body)
    assert (dry["dryRun"], len(dry["confirmation"])) == (True, 64)
    done: dict[str, Any] = await sent(client, url, body | {"confirmation": dry["confirmation"]})
    assert {k: done[k] for k in ("judgements", "spells", "conflicts")} == {k: dry[k] for k in ("judgements", "spells", "conflicts")}
    return done


async def two_records(vendor: Any) -> tuple[str, str]:
    """One child twice, at Oak until after the census and at Elm since: as recorded there without her UPN, and at Oak with it."""
    await opened(vendor)
    at_oak = entry(1, enrolments=[{"from": "2014-09-01", "to": "2018-05-20", "status": "C"}])
    at_elm = entry(
        1,
        reference="E1",
        upn=None,
        surname="Surname-One",
        preferredForename="Wil",
        enrolments=[{"from": "2018-05-21", "status": "C"}],
    )
    await sent(vendor, "/v1/pupils", roll("Oak", [at_oak, entry(2)]))
    await sent(vendor, "/v1/pupils", roll("Elm", [at_elm]))
    await sent(
        vendor, "/v1/judgements", batch("Oak", [judged(1, "maths", 90, recordedAt="2018-05-15T10:00:00Z"), judged(1, "gps", 101)])
    )
    elm = [
        {"reference": "E1", "subject": "maths", "grade": 95, "recordedAt": "2018-05-14T10:00:00Z"},
        {"reference": "E1", "subject": "maths", "grade": 105, "recordedAt": "2018-05-16T10:00:00Z"},
        {"reference": "E1", "subject": "reading", "grade": 99},
    ]
    for row in elm:
        await sent(vendor, "/v1/judgements", batch("Elm", [row]))
    return (await pupil(vendor, surname="Surname1"))["id"], (await pupil(vendor, surname="Surname-One"))["id"]


async def values(here: Trust, pupil_id: str) -> dict[str, str]:
    rows = await here.operator.fetch(
        "SELECT s.code, g.code AS grade FROM judgements j JOIN subjects s ON s.tenant_id = j.tenant_id AND s.no = j.subject_no"
        " JOIN grades g ON g.tenant_id = j.tenant_id AND g.scheme_version_no = j.scheme_version_no AND g.no = j.grade_no"
        " WHERE j.pupil_id::text = $1",
        pupil_id,
    )
    return {row["code"]: row["grade"] for row in rows}


async def record(here: Trust, pupil_id: str) -> dict[str, Any]:
    """All that is stored of a pupil but ids, versions and times of the merge itself."""
    kept: dict[str, Any] = {}
    left_out = ("id", "pupil_id", "version", "xid", "changed_at", "until")
    for table, key in (
        ("pupils", "id"), ("upns", "pupil_id"), ("external_ids", "id"), ("enrolments", "pupil_id"), ("characteristics", "pupil_id"),
        ("group_members", "pupil_id"), ("shared_pupils", "pupil_id"), ("judgements", "pupil_id"), ("judgement_history", "pupil_id"),
        ("targets", "pupil_id"),
    ):  # fmt: skip
        rows = await here.operator.fetch(f"SELECT to_jsonb(t)::text AS row FROM {table} t WHERE {key}::text = $1", pupil_id)
        kept[table] = sorted(
            json.dumps({k: v for k, v in json.loads(row["row"]).items() if k not in left_out}, sort_keys=True) for row in rows
        )
    return kept


async def test_the_remaining_record_has_all_of_both(small_trust: Trust, vendor: Any) -> None:
    oak, elm = await two_records(vendor)
    done = await confirmed(vendor, f"/v1/pupils/{elm}/merge", await merge_body(vendor, elm, oak))
    assert (done["id"], done["otherId"], done["judgements"], done["spells"]) == (oak, elm, 2, 1)
    assert done["conflicts"] == [
        {"kind": "judgement", "stands": "merged", "window": WINDOW, "subject": "maths", "aspect": "main", "detail": None}
    ]
    assert await values(small_trust, oak) == {"maths": "105", "gps": "101", "reading": "99"}
    kept = (await vendor.get(f"/v1/pupils/{oak}", params={"include": "enrolments,school"})).json()
    assert (kept["surname"], kept["school"]["urn"], kept["version"]) == ("Surname1", URNS["Elm"], done["version"])
    assert kept["preferredForename"] == "Wil", "only the other one had one"
    assert (done["differences"], kept["mergedFrom"]) == (["surname"], [elm])
    assert (await pupil(vendor, preferredForename="wil"))["id"] == oak
    facts = await small_trust.value("SELECT details -> 'facts' ->> 'preferred_forename' FROM record_changes")
    assert facts == "Wil"
    assert [(s["from"], s["to"]) for s in kept["enrolments"]["data"]] == [("2014-09-01", "2018-05-20"), ("2018-05-21", None)]
    assert await miscounted(small_trust) == (0, 0, 0)
    assert (await pupil(vendor, reference=["E1"]))["id"] == oak
    await sent(vendor, "/v1/judgements", batch("Elm", [{"reference": "E1", "subject": "writing", "grade": "EXS"}]))
    assert (await values(small_trust, oak))["writing"] == "EXS"
    assert await small_trust.value("SELECT count(*) FROM judgement_history WHERE pupil_id::text = $1", oak) == 2
    assert await small_trust.value("SELECT count(*) FROM record_changes WHERE other_id::text = $1 AND kind = 'merged'", elm) == 1


async def test_a_split_is_the_inverse(small_trust: Trust, vendor: Any) -> None:
    oak, elm = await two_records(vendor)
    before = [await record(small_trust, id_) for id_ in (oak, elm)]
    await confirmed(vendor, f"/v1/pupils/{elm}/merge", await merge_body(vendor, elm, oak))
    split = {
        "expectedVersion": (await vendor.get(f"/v1/pupils/{oak}")).json()["version"],
        **{name: entry(1)[name] for name in ("forename", "dateOfBirth", "sex", "yearGroup")},
        **{"surname": "Surname-One", "preferredForename": "Wil"},
        "enrolments": [{"school": {"urn": URNS["Elm"]}, "from": "2018-05-21", "status": "C"}],
        "windows": [WINDOW],
        "references": [{"school": {"urn": URNS["Elm"]}, "reference": "E1"}],
        "characteristics": entry(1)["characteristics"],
    }
    new = await confirmed(vendor, f"/v1/pupils/{oak}/split", split)
    assert (await pupil(vendor, preferredForename="WIL"))["id"] == new["id"]
    assert await values(small_trust, oak) == {"maths": "90", "gps": "101"}
    assert await values(small_trust, new["id"]) == {"maths": "105", "reading": "99"}
    assert await miscounted(small_trust) == (0, 0, 0)
    after = [await record(small_trust, id_) for id_ in (oak, new["id"])]
    for now, then in zip(after, before, strict=True):
        for table in ("pupils", "upns", "external_ids", "enrolments", "shared_pupils", "judgement_history"):
            assert now[table] == then[table], table


async def test_a_dry_run_comes_first_and_its_confirmation_is_of_its_data(small_trust: Trust, vendor: Any) -> None:
    oak, elm = await two_records(vendor)
    body, url = await merge_body(vendor, elm, oak), f"/v1/pupils/{elm}/merge"
    before = await small_trust.everything()
    assert issues(await sent(vendor, url, body, 422)) == {"/confirmation": "confirmation-required"}
    token = (await sent(vendor, f"{url}?dryRun=true", body))["confirmation"]
    assert await small_trust.everything() == before
    assert issues(await sent(vendor, url, body | {"confirmation": "0" * 64}, 409)) == {"/confirmation": "confirmation-outdated"}
    await sent(vendor, "/v1/judgements", batch("Elm", [{"reference": "E1", "subject": "reading", "grade": 98}]))
    assert issues(await sent(vendor, url, body | {"confirmation": token}, 409)) == {"/confirmation": "confirmation-outdated"}
    stale = await sent(vendor, url, body | {"confirmation": token, "intoVersion": 7, "expectedVersion": 9}, 412)
    assert set(issues(stale)) == {"/expectedVersion", "/intoVersion"}


async def test_scopes_are_needed_at_every_school_where_either_ever_was(small_trust: Trust, vendor: Any) -> None:
    oak, elm = await two_records(vendor)
    scopes = "pupils:read,pupils:write,pupils:merge,pupils:upn,judgements:write"
    body = await merge_body(vendor, elm, oak)
    only_elm = await small_trust.client("elm", f"school:{URNS['Elm']}={scopes}")
    assert issues(await sent(only_elm, f"/v1/pupils/{elm}/merge?dryRun=true", body, 422)) == {"/into": "pupil-not-found"}
    hidden = await sent(only_elm, f"/v1/pupils/{oak}/merge?dryRun=true", body | {"into": elm}, 404)
    assert hidden == await sent(only_elm, f"/v1/pupils/{oak[:-1]}0/merge?dryRun=true", body | {"into": elm}, 404)
    mixed = await small_trust.client(
        "mixed", f"school:{URNS['Elm']}={scopes}", f"school:{URNS['Oak']}=pupils:read,pupils:merge,pupils:upn"
    )
    refused = await sent(mixed, f"/v1/pupils/{elm}/merge?dryRun=true", body, 403)
    assert [issue["message"].split()[2] for issue in refused["issues"]] == ["judgements:write"]
    no_scope = await small_trust.client("none", f"trust:{TRUST}=pupils:read,pupils:write,pupils:upn,judgements:write")
    assert (await sent(no_scope, f"/v1/pupils/{elm}/merge?dryRun=true", body, 403))["issues"][0]["at"] == "mergePupil"


async def test_the_old_id_is_gone_for_who_reaches_the_remaining_pupil_and_unknown_to_others(
    small_trust: Trust, vendor: Any
) -> None:
    oak, elm = await two_records(vendor)
    near = await small_trust.client("near", f"school:{URNS['Elm']}=all")
    far = await small_trust.client("far", f"school:{URNS['Ash']}=all")
    judgement = (await vendor.get(f"/v1/pupils/{elm}/judgements")).json()["data"][0]["id"]
    await confirmed(vendor, f"/v1/pupils/{elm}/merge", await merge_body(vendor, elm, oak))
    paths = (
        f"/v1/pupils/{elm}",
        f"/v1/pupils/{elm}/judgements",
        f"/v1/pupils/{elm}?include=judgements",
        f"/v1/judgements/{judgement}",
    )
    unknown = (await far.get(f"/v1/pupils/{oak}")).content
    for path in paths * 2:
        for client, status in ((vendor, 410), (near, 410), (far, 404)):
            answer = await client.get(path)
            assert answer.status_code == status, (path, answer.text)
            assert answer.content == unknown if status == 404 else answer.json()["mergedInto"] == oak
    rows = [{"id": elm, "subject": "maths", "grade": 100}]
    assert issues(await sent(vendor, "/v1/judgements", batch("Elm", rows), 422)) == {"/entries/0/id": "pupil-merged"}
    assert issues(await sent(vendor, "/v1/pupils", roll("Elm", [entry(1, id=elm, reference=None)]), 422)) == {
        "/entries/0/id": "pupil-merged"
    }
    patch = await vendor.patch(f"/v1/pupils/{elm}", json={"forename": "Ann"}, headers={"If-Match": "*"})
    assert (patch.status_code, patch.json()["mergedInto"]) == (410, oak)
    assert (await sent(vendor, f"/v1/pupils/{elm}/merge", {"expectedVersion": 1, "into": oak, "intoVersion": 1}, 410))[
        "mergedInto"
    ] == oak
    for query in (
        f'{{ node(id: "{elm}") {{ id }} }}',
        f'{{ pupil(id: "{elm}") {{ id }} }}',
        f'{{ judgement(id: "{judgement}") {{ id }} }}',
    ):
        for _ in range(2):
            problem = (await vendor.post("/graphql", json={"query": query})).json()["errors"][0]["extensions"]["problem"]
            assert (problem["status"], problem["mergedInto"]) == (410, oak)
        assert list((await asked(far, query)).values()) == [None]
    asks = "query ($id: ID!) { pupil(id: $id) { id } }"
    answer = (await vendor.post("/graphql", json={"query": asks, "variables": {"id": elm}})).json()
    assert answer["errors"][0]["extensions"]["problem"]["mergedInto"] == oak


async def test_a_locked_window_is_refused_unless_it_is_named(small_trust: Trust, vendor: Any) -> None:
    oak, elm = await two_records(vendor)
    await small_trust.operator.execute("UPDATE windows SET state = 'locked'")
    body = await merge_body(vendor, elm, oak)
    assert issues(await sent(vendor, f"/v1/pupils/{elm}/merge?dryRun=true", body, 409)) == {"/lockedWindows": "window-locked"}
    done = await confirmed(vendor, f"/v1/pupils/{elm}/merge", body | {"lockedWindows": [WINDOW]})
    assert done["outcome"] == "merged"


async def test_spells_at_one_school_become_one_and_a_merge_by_graphql_is_the_same(small_trust: Trust, vendor: Any) -> None:
    """The same child twice at Oak: her spells overlap, her class has her twice."""
    await opened(vendor)
    rows = [
        entry(1, enrolments=[{"from": "2016-09-01", "status": "C"}]),
        entry(
            2, reference="dup", upn=upn(1, temporary=True), enrolments=[{"from": "2014-09-01", "to": "2017-07-20", "status": "C"}]
        ),
    ]
    made = await sent(vendor, "/v1/pupils", roll("Oak", rows), Prefer="return=representation")
    first, second = (result["id"] for result in made["results"])
    members = [{"reference": "P1"}, {"reference": "dup", "from": "2017-09-01"}]
    group = {"code": "6A", "name": "6A", "kind": "class", "members": members}
    await sent(vendor, "/v1/groups", roll("Oak", [group], academicYear="2017-18"))
    query = """mutation ($input: PupilMergeInput!, $dry: Boolean) {
        mergePupil(input: $input, dryRun: $dry) { id confirmation conflicts { kind detail } } }"""
    body = await merge_body(vendor, second, first) | {"id": second}
    dry = (await asked(vendor, query, input=body, dry=True))["mergePupil"]
    done = (await asked(vendor, query, input=body | {"confirmation": dry["confirmation"]}))["mergePupil"]
    assert (done["id"], {c["kind"] for c in done["conflicts"]}) == (first, {"enrolment", "groupMember"})
    kept = (await vendor.get(f"/v1/pupils/{first}", params={"include": "enrolments"})).json()
    assert [(s["from"], s["to"]) for s in kept["enrolments"]["data"]] == [("2014-09-01", None)]
    assert await small_trust.value("SELECT array_agg(from_on::text || COALESCE(to_on::text, '')) FROM group_members") == [
        "2017-09-01"
    ]
    assert (await pupil(vendor, upn=[upn(1)]))["id"] == first
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_dry_run_says_which_facts_differ(small_trust: Trust, vendor: Any) -> None:
    rows = [entry(1, preferredSurname="Archer"), entry(2, forename="Bea", dateOfBirth="2007-02-01", preferredSurname="Baker")]
    made = await sent(vendor, "/v1/pupils", roll("Oak", rows), Prefer="return=representation")
    first, second = (result["id"] for result in made["results"])
    dry = await sent(vendor, f"/v1/pupils/{second}/merge?dryRun=true", await merge_body(vendor, second, first))
    assert dry["differences"] == ["upn", "dateOfBirth", "forename", "surname", "sex", "preferredSurname"]
    text = json.dumps(dry)
    assert not any(value in text for value in ("Bea", "2007", "Archer", "Baker", upn(2))), "names of fields, no values"


async def test_main_spells_of_one_day_at_two_schools_are_a_conflict(small_trust: Trust, vendor: Any) -> None:
    spells = [{"from": "2014-09-01", "status": "C"}]
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, enrolments=spells)]))
    await sent(vendor, "/v1/pupils", roll("Elm", [entry(1, reference="E1", upn=None, surname="Other", enrolments=spells)]))
    oak, elm = (await pupil(vendor, surname="Surname1"))["id"], (await pupil(vendor, surname="Other"))["id"]
    done = await confirmed(vendor, f"/v1/pupils/{elm}/merge", await merge_body(vendor, elm, oak))
    assert [(c["kind"], c["stands"], c["detail"]) for c in done["conflicts"]] == [
        ("enrolment", "into", "Main spells at two schools from 2014-09-01")
    ]
    assert (await vendor.get(f"/v1/pupils/{oak}?include=school")).json()["school"]["urn"] == URNS["Oak"]
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_filter_by_the_old_id_is_gone_too(small_trust: Trust, vendor: Any) -> None:
    oak, elm = await two_records(vendor)
    far = await small_trust.client("far", f"school:{URNS['Ash']}=all")
    judgement = (await vendor.get(f"/v1/pupils/{elm}/judgements")).json()["data"][0]["id"]
    school = small_trust.ids["Elm"]
    paths = [
        *(
            f"/v1/pupils?id={elm}",
            f"/v1/pupils?id={elm}&fields=id",
            f"/v1/judgements?pupilId={elm}",
            f"/v1/enrolments?pupilId={elm}",
        ),
        *(f"/v1/judgements?id={judgement}", f"/v1/targets?pupilId={elm}", f"/v1/characteristics?pupilId={elm}"),
    ]
    for path in paths:
        assert (await vendor.get(path)).status_code == 200, path
    await confirmed(vendor, f"/v1/pupils/{elm}/merge", await merge_body(vendor, elm, oak))
    for path in (*paths, *paths, f"/v1/schools/{school}/pupils?id={elm}"):
        answer = await vendor.get(path)
        assert (answer.status_code, answer.json().get("mergedInto")) == (410, oak), (path, answer.text)
    for path in paths:
        assert (await far.get(path)).json()["data"] == []
    body = {"where": {"id": [elm]}}
    assert (await sent(vendor, "/v1/pupils/lookup", body, 410))["mergedInto"] == oak
    assert (await sent(far, "/v1/pupils/lookup", body))["data"] == []
    assert [row["id"] for row in (await sent(vendor, "/v1/pupils/lookup", {"where": {"id": [elm, oak]}}))["data"]] == [oak]
    for query in (
        "query ($id: ID!) { pupils(where: {id: [$id]}) { nodes { id } } }",
        "query ($id: ID!) { x: judgements(where: {pupilId: [$id]}) { y: edges { node { id } } } }",
        f'query ($id: ID!) {{ school(id: "{school}") {{ name pupils(where: {{id: [$id]}}) {{ nodes {{ id }} }} }} }}',
        'query ($id: ID!) { pupils(where: {id: [$id]}) { nodes { id } } __type(name: "Pupil") { name } }',
        f'{{ pupils(where: {{id: ["{elm}"]}}) {{ nodes {{ id }} }} }}',
    ):
        for _ in range(2):
            variables = {"id": elm} if "$id" in query else {}
            answer = (await vendor.post("/graphql", json={"query": query, "variables": variables})).json()
            assert answer["errors"][0]["extensions"]["problem"]["mergedInto"] == oak, answer
    assert await asked(far, "query ($id: ID!) { pupils(where: {id: [$id]}) { nodes { id } } }", id=elm) == {"pupils": {"nodes": []}}


async def test_a_copy_of_the_data_learns_of_a_merge(small_trust: Trust, vendor: Any) -> None:
    oak, elm = await two_records(vendor)
    since = (await vendor.get(f"/v1/pupils/{oak}")).json()["changedAt"]
    await confirmed(vendor, f"/v1/pupils/{elm}/merge", await merge_body(vendor, elm, oak))
    changed = (await vendor.get("/v1/pupils", params={"changedAt.gt": since})).json()["data"]
    assert {row["id"]: row["mergedFrom"] for row in changed}[oak] == [elm]
    assert (await asked(vendor, f'{{ pupil(id: "{oak}") {{ mergedFrom }} }}'))["pupil"] == {"mergedFrom": [elm]}


async def test_of_several_merges_at_once_one_is_done_and_the_others_are_reported(small_trust: Trust, vendor: Any) -> None:
    oak, elm = await two_records(vendor)
    body, url = await merge_body(vendor, elm, oak), f"/v1/pupils/{elm}/merge"
    body["confirmation"] = (await sent(vendor, f"{url}?dryRun=true", body))["confirmation"]
    answers = await asyncio.gather(*(vendor.post(url, json=body) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 410, 410, 410]
    assert {answer.json().get("mergedInto") for answer in answers} == {None, oak}
    two = (await pupil(vendor, surname="Surname2"))["id"]
    other = {"expectedVersion": 1, "into": elm, "intoVersion": 1}
    assert issues(await sent(vendor, f"/v1/pupils/{two}/merge?dryRun=true", other, 422)) == {"/into": "pupil-merged"}


async def test_a_lookup_finds_the_remaining_pupil_by_every_reference(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2, reference="Z9"), entry(3)]))
    first, second = (await pupil(vendor, reference="P1"))["id"], (await pupil(vendor, reference="Z9"))["id"]
    await confirmed(vendor, f"/v1/pupils/{second}/merge", await merge_body(vendor, second, first))
    for wanted in ("P1", "Z9", ["P1", "Z9"]):
        assert (await pupil(vendor, reference=wanted))["id"] == first
    other = await small_trust.client("other", f"trust:{TRUST}=all")
    assert (await sent(other, "/v1/pupils/lookup", {"where": {"reference": "Z9"}}))["data"] == []


async def test_every_table_about_pupils_is_merged_and_reported(small_trust: Trust) -> None:
    """A table with a pupil's id that is added later has to be looked at: `repoint_pupil` moves its rows, and what would be there twice is put together
    in record_spells.py or move_judgements.py first."""
    columns = await small_trust.operator.fetch(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attname IN ('pupil_id', 'pupil_ids')"
    )
    put_together = {
        "enrolments",
        "group_members",
        "characteristics",
        "judgements",
        "judgement_history",
        "targets",
        "shared_pupils",
        "pupil_rolls",
    }
    follow = {
        "upns",
        "discounts",
        "target_history",
        "record_changes",
        "enrolment_history",
        "characteristic_history",
        "identity_history",
        "pupil_history",
        "planned_pupils",
        "planned_stays",
    }
    assert {row["relname"] for row in columns} == put_together | follow | {"data_issues", "new_identities"}


async def test_a_complete_group_that_names_a_merged_record_keeps_the_remaining_pupil(small_trust: Trust, vendor: Any) -> None:
    made = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2), entry(3)]), Prefer="return=representation")
    first, second, third = (result["id"] for result in made["results"])
    group = {"code": "6A", "name": "6A", "kind": "class", "members": [{"id": second}, {"id": third}]}
    await sent(vendor, "/v1/groups", roll("Oak", [group], academicYear="2017-18"))
    await confirmed(vendor, f"/v1/pupils/{second}/merge", await merge_body(vendor, second, first))
    whole = roll("Oak", [group | {"members": [{"id": second}]}], academicYear="2017-18", complete=True)
    answer = await sent(vendor, "/v1/groups", whole, Prefer="handling=lenient")
    assert issues(answer) == {"/entries/0/members/0/id": "pupil-merged"}
    on = await small_trust.operator.fetch("SELECT pupil_id::text FROM group_members WHERE to_on IS NULL")
    assert [row[0] for row in on] == [first]
