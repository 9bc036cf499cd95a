"""An MIS vendor's first nightly push (python vendors_first_night.py demo.json): a whole roll, a correction, a closed window, a retry."""

import json
import sys
import uuid
from datetime import date
from pathlib import Path

import httpx2

demo = json.loads(Path(sys.argv[1]).read_text())
me = demo["clients"]["mis-vendor"]
http = httpx2.Client(base_url=demo["baseUrl"], timeout=60)
token = http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=(me["clientId"], me["clientSecret"])).json()
http.headers |= {"Authorization": f"Bearer {token['access_token']}", "Prefer": "handling=lenient, return=representation"}
school = next(school for school in demo["schools"] if school["name"].startswith("Quillbrook"))
window = {window["state"]: window["code"] for window in demo["windows"]}

# What the MIS holds tonight: the roll of last night, less one who left, and one who came this morning
facts = "reference,upn,surname,forename,dateOfBirth,sex,yearGroup"
known = http.get(f"/v1/schools/{school['id']}/onRoll", params={"first": 1000, "fields": facts, "sort": "surname,forename"}).json()
leaver, *roll = known["data"]
joiner = {"reference": f"new-{uuid.uuid4().hex[:8]}", "surname": "Okafor", "forename": "Ada", "dateOfBirth": "2016-03-14"}
joiner |= {"sex": "F", "yearGroup": "5", "enrolments": [{"from": str(date.today()), "status": "C"}]}

# The whole roll: the joiner is on it, and whoever is not on it has left
night = {"school": {"urn": school["urn"]}, "asOf": str(date.today()), "complete": True, "entries": [*roll, joiner]}
answer = http.post("/v1/pupils", json=night).json()
print(f"roll: {answer['created']} joined, {answer['left']} left, {answer['unchanged']} unchanged, {len(answer['issues'])} issues")

# Judgements: the joiner's, one recorded too long ago to matter, and one for a window that is closed
pupil = next(row for row in roll if row["yearGroup"] == "5")["reference"]
entries = [
    {"reference": joiner["reference"], "subject": "reading", "window": window["open"], "grade": "EXS"},
    {"reference": pupil, "subject": "maths", "window": window["open"], "status": "absent", "recordedAt": "2026-01-01T09:00:00Z"},
    {"reference": pupil, "subject": "writing", "window": window["closed"], "status": "exempt"},
]
batch, key = {"school": {"urn": school["urn"]}, "entries": entries}, uuid.uuid4().hex
first = http.post("/v1/judgements", json=batch, headers={"Idempotency-Key": key})
print("judgements:", [result["outcome"] for result in first.json()["results"]], first.json()["issues"])

# The answer was lost? The same request again gets the same answer, and changes nothing; the key alone tells it too
again = http.post("/v1/judgements", json=batch, headers={"Idempotency-Key": key})
assert (again.headers["Idempotency-Replayed"], again.content) == ("true", first.content)
assert http.get(f"/v1/idempotency-keys/{key}").json()["data"][0]["answer"]["rejected"] == 1

# A correction: the later value stands, the earlier is kept as history
corrected = {**batch, "entries": [entries[0] | {"grade": "GDS"}]}
print("correction:", http.post("/v1/judgements", json=corrected).json()["results"])

# What was last accepted, from whom
for receipt in http.get(f"/v1/schools/{school['id']}/receipts", params={"first": 3}).json()["data"]:
    print("  ", *(receipt[name] for name in ("receivedAt", "client", "operation", "subjectCode", "received")), "rows")
