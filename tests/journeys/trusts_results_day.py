"""A trust's results day: what a portal may show of six schools that mark in three schemes, one of them tiny, and why some of it is hidden.

python trusts_results_day.py .markonce/demo/demo.json
"""

import csv
import io
import json
import sys
from pathlib import Path

import httpx2

demo = json.loads(Path(sys.argv[1]).read_text())
results = next(window["code"] for window in demo["windows"] if window["template"] == "KS2" and window["state"] == "closed")
now = next(window["code"] for window in demo["windows"] if window["state"] == "open")


def signed_in(name: str) -> httpx2.Client:
    client = demo["clients"][name]
    http = httpx2.Client(base_url=demo["baseUrl"])
    credentials = (client["clientId"], client["clientSecret"])
    token = http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=credentials).json()["access_token"]
    http.headers["Authorization"] = f"Bearer {token}"
    return http


portal, manager = signed_in("trust-portal"), signed_in("trust-data-manager")

# The trust as a whole: reading, writing and maths combined, pooled over pupils
whole = portal.get("/v1/aggregates", params={"window": results, "groupBy": "subject"}).json()
(rwm,) = [row for row in whole["data"] if row["subject"] == "rwm"]
print(f"RWM expected: {rwm['expectedPercent']} % of {rwm['eligible']} pupils in {rwm['schools']} schools")

# By school and disadvantage: the tiny school is hidden, and so is what would give it away
question = {"window": results, "subject": "rwm", "groupBy": "school,disadvantaged"}
shown = portal.get("/v1/aggregates", params=question).json()
for row in shown["data"]:
    figure = row["status"] or f"{row['expectedPercent']} % of {row['eligible']}"
    print(f"  {row['schoolName']:<34} disadvantaged {row['disadvantaged']:<8} {figure}")
assert any(row["status"] == "c" and row["schoolName"].startswith("Fallowdene") for row in shown["data"])
print("  without results:", {school["schoolName"]: school["reason"] for school in shown["excluded"]})

# Why is it hidden? The trust's own data manager sees every figure, and what the portal would see, with reasons
own = manager.get("/v1/aggregates", params=question).json()["data"]
reasons = {row["reason"] for row in manager.get("/v1/aggregates", params={**question, "view": "public"}).json()["data"]}
assert not any(row["status"] == "c" for row in own)
print("  hidden because:", sorted(reasons - {None}))

# In the schools' own schemes results are compared by the trust's common scale; points that no crosswalk maps are in no percentage
term = portal.get("/v1/aggregates", params={"window": now, "groupBy": "subject"}).json()
print("this term:", {row["subject"]: (row["expectedPercent"], row["expectedOf"], row["eligible"]) for row in term["data"]})
print("  without a place:", {school["schoolName"]: school["reason"] for school in term["excluded"]})

# A spreadsheet for the governors, a row per school
sheet = portal.get("/v1/aggregates", params={"window": results, "groupBy": "school,subject", "format": "csv", "shape": "wide"})
rows = list(csv.DictReader(io.StringIO(sheet.text.lstrip("\ufeff"))))
print(f"spreadsheet: {len(rows)} schools, {len(rows[0])} columns")
