"""Who judged what, and when it changed: read by who reaches the pupil today; the person who judged is shown at the school that recorded it alone."""

from typing import Any

from tests.fixtures.small_trust import Trust, asked, batch, entry, judged, roll, sent, upn

OF_PUPIL = """query ($id: ID!) { pupil(id: $id) { history(first: 100) { totalCount nodes {
    windowCode subjectCode aspect version outcome changedAt fromGrade fromMark fromStatus toGrade toMark toStatus client source } } } }"""
VALUES = "outcome,fromGrade,fromMark,fromStatus,toGrade,toMark,toStatus"


async def find(client: Any, surname: str) -> str:
    (found,) = (await sent(client, "/v1/pupils/lookup", {"where": {"surname": surname}, "fields": ["id"]}))["data"]
    return str(found["id"])


async def judge(client: Any, school: str = "Oak", **values: Any) -> None:
    await sent(client, "/v1/judgements", batch(school, [{"upn": upn(1), "subject": "reading", **values}]))


async def read(client: Any, path: str, **parameters: Any) -> list[dict[str, Any]]:
    answer = await client.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def test_every_change_says_when_from_what_to_what_and_by_which_client(small_trust: Trust, vendor: Any) -> None:
    other = await small_trust.client("markbook", "trust:4128=all")
    await judge(vendor, grade=98, mark=12.5, actor="T1")
    await judge(vendor, grade=98, mark=12.5)  # unchanged: no change
    await judge(other, grade=104, actor="T2", source="book")
    await judge(vendor, status="absent")
    await judge(vendor, withdrawn=True)
    await judge(other, grade=101)
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, "maths", 100)]))
    pupil = await find(vendor, "Surname1")
    judgement = next(row["id"] for row in await read(vendor, f"/v1/pupils/{pupil}/judgements") if row["subjectCode"] == "reading")
    rows = await read(vendor, f"/v1/judgements/{judgement}/history", fields=VALUES)
    assert [tuple(row.values()) for row in rows] == [
        ("created", None, None, None, "98", 12.5, None),
        ("updated", "98", 12.5, None, "104", None, None),
        ("updated", "104", None, None, None, None, "absent"),
        ("withdrawn", None, None, "absent", None, None, "withdrawn"),
        ("updated", None, None, "withdrawn", "101", None, None),
    ]
    whole = await read(vendor, f"/v1/judgements/{judgement}/history")
    assert [row["client"] for row in whole] == ["vendor", "markbook", "vendor", "vendor", "markbook"]
    assert [row["version"] for row in whole] == [1, 2, 3, 4, 5]
    assert [row["changedAt"] for row in whole] == sorted(row["changedAt"] for row in whole)
    assert [row["actor"] for row in whole][:2] == ["T1", "T2"]
    of_pupil = await read(vendor, f"/v1/pupils/{pupil}/history")
    assert [row for row in of_pupil if row["subjectCode"] == "reading"] == whole
    assert len(of_pupil) == 6
    told = (await asked(vendor, OF_PUPIL, id=pupil))["pupil"]["history"]
    assert told["totalCount"] == 6
    assert told["nodes"] == [{name: row[name] for name in told["nodes"][0]} for row in of_pupil]


async def test_history_follows_the_pupils_reach_of_today_and_actors_stay_at_their_school(small_trust: Trust, vendor: Any) -> None:
    await judge(vendor, grade=98, actor="T1")
    target = {
        "reference": "P1",
        "subject": "reading",
        "scheme": "ks2-scaled-score",
        "grade": 110,
        "basis": "teacher",
        "visibility": "school",
        "actor": "T7",
    }
    horizon = {"horizon": {"academicYear": "2018-19", "point": "KS2"}}
    await sent(vendor, "/v1/targets", {"school": {"urn": 100001}, "entries": [target | horizon]})
    pupil = await find(vendor, "Surname1")
    oak, elm = [
        await small_trust.client(name, f"school:{urn}=pupils:read,judgements:read,targets:read,audit:read")
        for name, urn in (("oak", 100001), ("elm", 100002))
    ]
    unaudited = await small_trust.client("unaudited", "school:100001=pupils:read,judgements:read,targets:read")
    quay = await small_trust.client("quay", "school:100004=all")
    assert [row["actor"] for row in await read(oak, f"/v1/pupils/{pupil}/history")] == ["T1"]
    assert (await elm.get(f"/v1/pupils/{pupil}/history")).status_code == 404
    assert await read(elm, "/v1/judgement-changes") == []
    moved = entry(1, reference="E1", enrolments=[{"from": "2018-05-15", "status": "C"}])
    left = entry(1, enrolments=[{"from": "2014-09-01", "to": "2018-05-14", "status": "C"}])
    await sent(vendor, "/v1/pupils", roll("Oak", [left], asOf="2018-05-15"))
    await sent(vendor, "/v1/pupils", roll("Elm", [moved], asOf="2018-05-16"))
    await sent(vendor, "/v1/judgements", batch("Elm", [{"reference": "E1", "subject": "reading", "grade": 99, "actor": "E9"}]))
    assert (await oak.get(f"/v1/pupils/{pupil}/history")).status_code == 404  # the pupil is Elm's today
    assert await read(oak, "/v1/judgement-changes") == []
    rows = await read(elm, f"/v1/pupils/{pupil}/history")
    assert [(row["toGrade"], row["actor"]) for row in rows] == [("98", None), ("99", "E9")]  # who judged at Oak stays there
    assert [row["actor"] for row in await read(vendor, f"/v1/pupils/{pupil}/history")] == ["T1", "E9"]
    assert [row["actor"] for row in await read(elm, f"/v1/pupils/{pupil}/judgements")] == ["E9"]
    assert [row["actor"] for row in await read(elm, f"/v1/pupils/{pupil}/targets")] == [None]
    assert [row["actor"] for row in await read(vendor, f"/v1/pupils/{pupil}/targets")] == ["T7"]
    nodes = (
        await asked(
            elm,
            "query ($id: ID!) { pupil(id: $id) { latestJudgements { nodes { actor } } targets { nodes { actor } } } }",
            id=pupil,
        )
    )["pupil"]
    assert nodes == {"latestJudgements": {"nodes": [{"actor": "E9"}]}, "targets": {"nodes": [{"actor": None}]}}
    for client in (quay, oak):
        assert (await asked(client, OF_PUPIL, id=pupil)) == {"pupil": None}
        assert (await client.get("/v1/judgement-changes", params={"totalCount": "true"})).json()["page"]["totalCount"] == 0
    for path in ("judgements", "targets", "judgement-changes"):
        refused = await unaudited.get(f"/v1/{path}", params={"fields": "actor"})
        assert (refused.status_code, refused.json()["issues"][0]["code"]) == (403, "scope-missing")
        assert all("actor" not in row for row in await read(unaudited, f"/v1/{path}"))


async def test_actor_is_no_filter_and_no_order(vendor: Any) -> None:
    for path in ("judgements", "targets", "judgement-changes"):
        for refused in ({"actor": "T1"}, {"sort": "actor"}):
            assert (await vendor.get(f"/v1/{path}", params=refused)).status_code == 422
    for path in ("judgements", "targets"):
        for body in ({"where": {"actor": "T1"}}, {"sort": ["actor"]}):
            assert (await vendor.post(f"/v1/{path}/lookup", json=body)).status_code == 422
        assert (await vendor.post(f"/v1/{path}/lookup", json={"where": {"subjectCode": ["reading"]}})).status_code == 200
    for query in (
        '{ judgements(where: {actor: ["T1"]}) { nodes { id } } }',
        "{ targets(orderBy: {field: actor}) { nodes { id } } }",
    ):
        assert "errors" in (await vendor.post("/graphql", json={"query": query})).json()


async def test_history_of_a_merged_record_and_of_a_new_identity_shows_no_former_identity(small_trust: Trust, vendor: Any) -> None:
    await judge(vendor, grade=98)
    await judge(vendor, grade=104)
    old = await find(vendor, "Surname1")
    version = (await vendor.get(f"/v1/pupils/{old}")).json()["version"]
    new = {"expectedVersion": version, "surname": "Other", "forename": "Name"}
    made = await sent(vendor, f"/v1/pupils/{old}/new-identity", new)
    assert (await vendor.get(f"/v1/pupils/{old}/history")).status_code == 404
    answer = await vendor.get(f"/v1/pupils/{made['id']}/history", params={"include": "pupil"})
    assert [row["toGrade"] for row in answer.json()["data"]] == ["98", "104"]
    everything = answer.text + (await vendor.get("/v1/judgement-changes")).text
    assert not any(trace in everything for trace in (old, "Surname1", '"P1"', upn(1)))
    assert (await vendor.get(f"/v1/pupils/{made['id']}")).json()["formerUpns"] == []


async def test_who_sits_a_window_is_the_census_within_reach(small_trust: Trust, vendor: Any) -> None:
    """One is of another year group, one left before the census, one moved after it; a subsidiary registration does not count."""
    await sent(
        vendor,
        "/v1/pupils",
        roll("Oak", [entry(0, yearGroup="5"), entry(1, enrolments=[{"from": "2014-09-01", "to": "2018-05-01", "status": "C"}])]),
    )
    moved = entry(2, reference="E2", enrolments=[{"from": "2018-06-01", "status": "C"}])
    await sent(vendor, "/v1/pupils", roll("Elm", [moved], asOf="2018-06-02"))
    second = entry(3, reference="A3", enrolments=[{"from": "2018-01-08", "status": "S"}])
    await sent(vendor, "/v1/pupils", roll("Ash", [second], asOf="2018-05-02"))
    (window,) = await read(vendor, "/v1/windows")
    path = f"/v1/windows/{window['id']}/pupils"
    everybody = {row["surname"] for row in await read(vendor, path, first=1000)}
    assert everybody == {f"Surname{n}" for n in (2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22)}
    answer = (await vendor.get(path, params={"first": 4, "totalCount": "true", "sort": "surname"})).json()
    assert (len(answer["data"]), answer["page"]["totalCount"], answer["page"]["hasMore"]) == (4, 11, True)
    rest = (await vendor.get(path, params={"first": 100, "sort": "surname", "after": answer["page"]["endCursor"]})).json()["data"]
    assert {row["surname"] for row in [*answer["data"], *rest]} == everybody
    assert len(rest) == 7
    at_oak = await read(vendor, path, countedAt=str(small_trust.ids["Oak"]))
    assert {row["surname"] for row in at_oak} == everybody - {"Surname20", "Surname21", "Surname22"}
    query = "{ windows { nodes { pupils(first: 100) { totalCount nodes { surname } } } } }"
    (told,) = (await asked(vendor, query))["windows"]["nodes"]
    assert (told["pupils"]["totalCount"], {row["surname"] for row in told["pupils"]["nodes"]}) == (11, everybody)
    scopes = "windows:read,pupils:read,pupils:name"
    elm, ash, quay = [
        await small_trust.client(n, f"school:{u}={scopes}") for n, u in (("elm", 100002), ("ash", 100003), ("quay", 100004))
    ]
    assert {row["surname"] for row in await read(elm, path)} == {"Surname2", "Surname20", "Surname21", "Surname22"}
    assert {row["surname"] for row in await read(ash, path)} == {"Surname3"}
    assert await read(elm, path, countedAt=str(small_trust.ids["Oak"])) == []  # where a child was before is Oak's to know
    assert len(await read(elm, path, countedAt=str(small_trust.ids["Elm"]))) == 3
    assert (await quay.get(path)).status_code == 404
    blind = await small_trust.client("blind", "trust:4128=windows:read,aggregates:read")
    assert (await blind.get(path)).status_code == 403
    assert (await blind.get(path, params={"totalCount": "true"})).status_code == 403


async def test_a_list_is_counted_where_it_is_asked_for_and_within_reach(small_trust: Trust, vendor: Any) -> None:
    assert "totalCount" not in (await vendor.get("/v1/pupils")).json()["page"]
    page = (await vendor.get("/v1/pupils", params={"first": 3, "totalCount": "true"})).json()["page"]
    assert page["totalCount"] == 13
    after = {"first": 3, "totalCount": "true", "after": page["endCursor"]}
    linked = await vendor.get("/v1/pupils", params=after)
    assert linked.json()["page"]["totalCount"] == 13  # of all pages, whichever is shown
    assert 'rel="next"' in linked.headers["Link"]
    assert (await vendor.get("/v1/pupils", params={"sex": "F", "totalCount": "true"})).json()["page"]["totalCount"] == 7
    looked = await sent(vendor, "/v1/pupils/lookup", {"where": {"surname": "Surname*"}, "first": 1, "totalCount": True})
    assert looked["page"]["totalCount"] == 13
    query = '{ pupils(first: 1, where: {sex: ["F"]}) { totalCount } schools(orderBy: {field: urn}) { nodes { pupils(first: 1) { n: totalCount } } } }'
    told = await asked(vendor, query)
    assert told["pupils"]["totalCount"] == 7
    nested = {"include": "pupils", "pupils.totalCount": "true", "pupils.first": 1, "sort": "urn", "fields": "urn,pupils.surname"}
    schools = (await vendor.get("/v1/schools", params=nested)).json()["data"]
    assert [row["pupils"]["page"]["totalCount"] for row in schools] == [row["pupils"]["n"] for row in told["schools"]["nodes"]]
    assert [len(row["pupils"]["data"]) for row in schools] == [1, 1, 0]
    (school,) = [row for row in (await vendor.get("/v1/schools")).json()["data"] if row["urn"] == 100001]
    row = (await vendor.get(f"/v1/schools/{school['id']}", params={"include": "pupils", "pupils.totalCount": "true"})).json()
    assert row["pupils"]["page"]["totalCount"] == schools[0]["pupils"]["page"]["totalCount"] > 1
    assert "totalCount" not in (await vendor.get("/v1/schools?include=pupils")).json()["data"][0]["pupils"]["page"]
    for wrong, at in (({"pupils.totalCount": "yes"}, "pupils.totalCount"), ({"fields": "pupils.totalCount"}, "fields")):
        refused = await vendor.get("/v1/schools", params={"include": "pupils", **wrong})
        assert (refused.status_code, [issue["at"] for issue in refused.json()["issues"]]) == (400, [at])
    assert "pupils.totalCount=true" in refused.json()["issues"][0]["message"]
    assert [node["pupils"]["n"] for node in told["schools"]["nodes"]] == [10, 3, 0]
    elm = await small_trust.client("elm", "school:100002=pupils:read,schools:read")
    assert (await elm.get("/v1/pupils", params={"totalCount": "true"})).json()["page"]["totalCount"] == 3
    portal = await small_trust.client("portal", "trust:4128=aggregates:read,schools:read,windows:read")
    for path in ("pupils", "judgements", "receipts", "returns", "judgement-changes", "enrolments"):
        assert (await portal.get(f"/v1/{path}", params={"totalCount": "true"})).status_code == 403
    refused = await portal.post("/graphql", json={"query": "{ schools { nodes { pupils { totalCount } } } }"})
    assert "pupils:read" in str(refused.json()["errors"])
    assert (await vendor.get("/v1/pupils", params={"totalCount": "yes"})).status_code == 400
    assert (await vendor.get("/v1/pupils", params={"totalCount": "true", "format": "csv"})).status_code == 400
    fields = '{ __type(name: "AggregateConnection") { fields { name } } }'
    assert "totalCount" not in str(await asked(vendor, fields))
