"""A partner app developer's first hour: a token, my schools, a class with what stands of its pupils today, one judgement posted and seen.

python developers_first_hour.py .markonce/demo/demo.json
"""

import json
import sys
from pathlib import Path

import httpx2

demo = json.loads(Path(sys.argv[1]).read_text())
me = demo["clients"]["partner-app"]
http = httpx2.Client(base_url=demo["baseUrl"])

# A token, good for ten minutes
token = http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=(me["clientId"], me["clientSecret"])).json()
http.headers["Authorization"] = f"Bearer {token['access_token']}"

# My schools, and the classes of one
schools = http.get("/v1/schools", params={"fields": "id,name", "sort": "name"}).json()["data"]
school = next(school for school in schools if school["name"].startswith("Harebell"))
classes = http.get(f"/v1/schools/{school['id']}/groups", params={"kind": "class", "sort": "code"}).json()["data"]
print(f"{school['name']} has {len(classes)} classes:", ", ".join(group["name"] for group in classes))

# A class: who is in it today, with their latest judgements and current targets, in one request
year_6 = next(group for group in classes if group["code"].startswith("6"))
page = http.get(
    f"/v1/groups/{year_6['id']}/pupils",
    params={
        "include": "latestJudgements,currentTargets",
        "fields": "id,forename,surname,latestJudgements.subjectCode,latestJudgements.grade,latestJudgements.carriedFrom",
        "sort": "surname,forename",
    },
).json()
for pupil in page["data"][:3]:
    latest = {row["subjectCode"]: row["grade"] for row in pupil["latestJudgements"]["data"]}
    print(f"  {pupil['forename']} {pupil['surname']}: {latest}, {len(pupil['currentTargets']['data'])} targets")

# Post one judgement. The same again changes nothing, and says so
pupil = page["data"][0]
now = next((row["grade"] for row in pupil["latestJudgements"]["data"] if row["subjectCode"] == "reading"), None)
entry = {"id": pupil["id"], "subject": "reading", "grade": "GDS" if now == "EXS" else "EXS", "actor": "staff-6"}
window = next(window["code"] for window in demo["windows"] if window["state"] == "open")
batch = {"school": {"id": school["id"]}, "window": window, "entries": [entry]}
for _ in range(2):
    answer = http.post("/v1/judgements", json=batch, headers={"Prefer": "return=representation"}).json()
    print("posted:", answer["results"][0]["outcome"])

# See it, by GraphQL
query = """query ($id: ID!) {
  pupil(id: $id) { latestJudgements(where: {subjectCode: ["reading"]}) { nodes { grade windowCode carriedFrom } } }
}"""
seen = http.post("/graphql", json={"query": query, "variables": {"id": pupil["id"]}}).json()["data"]["pupil"]
print("seen:", seen["latestJudgements"]["nodes"])
assert seen["latestJudgements"]["nodes"] == [{"grade": entry["grade"], "windowCode": window, "carriedFrom": None}]
