"""The developer's first hour with gql: the schema comes by introspection, and every document is checked against it before it is sent."""

import os
from datetime import UTC, datetime

import httpx
from gql import Client, gql
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXTransport

base_url = os.environ["BASE_URL"]
client = (os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"])
token = httpx.post(f"{base_url}/oauth/token", data={"grant_type": "client_credentials"}, auth=client).json()["access_token"]

CLASS = gql("""
  query Class($code: String!) {
    schools(orderBy: [{field: name}]) { nodes { id name } }
    windows(where: {state: ["open"]}) { nodes { code } }
    groups(first: 1, where: {kind: ["class"], code: [$code]}) {
      nodes {
        pupils(first: 5) {
          nodes {
            id
            school { id }
            latestJudgements { nodes { subjectCode grade } }
            currentTargets { nodes { subjectCode grade } }
          }
        }
      }
    }
  }
""")
POST = gql("""
  mutation Post($batch: JudgementBatchInput!) {
    recordJudgements(input: $batch, return: "representation") { created updated results { id } }
  }
""")
SEE = gql("query See($id: ID!) { judgement(id: $id) { grade } }")

transport = HTTPXTransport(f"{base_url}/graphql", headers={"Authorization": f"Bearer {token}"})
with Client(transport=transport, fetch_schema_from_transport=True) as session:
    found = session.execute(CLASS, variable_values={"code": "4A"})
    (window,) = found["windows"]["nodes"]
    pupil = found["groups"]["nodes"][0]["pupils"]["nodes"][3]
    assert pupil["school"]["id"] in {school["id"] for school in found["schools"]["nodes"]}
    *_, latest = (judgement for judgement in pupil["latestJudgements"]["nodes"] if judgement["subjectCode"] == "reading")
    assert any(target["subjectCode"] == "reading" and target["grade"] for target in pupil["currentTargets"]["nodes"])

    def post(grade: str) -> dict:
        now = datetime.now(UTC).isoformat()
        entry = {"id": pupil["id"], "subject": "reading", "grade": grade, "actor": "staff-42", "recordedAt": now}
        batch = {"school": {"id": pupil["school"]["id"]}, "window": window["code"], "entries": [entry]}
        return session.execute(POST, variable_values={"batch": batch})["recordJudgements"]

    try:
        raise AssertionError(f"a wrong grade landed: {post('no such grade')}")
    except TransportQueryError as refused:
        (error,) = refused.errors
        assert error["extensions"]["problem"]["issues"][0]["code"] == "grade-unknown", error

    grade = "GDS" if latest["grade"] == "EXS" else "EXS"
    recorded = post(grade)
    assert recorded["created"] + recorded["updated"] == 1, recorded
    seen = session.execute(SEE, variable_values={"id": recorded["results"][0]["id"]})["judgement"]
    assert seen["grade"] == grade, seen
