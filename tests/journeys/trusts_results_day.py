"""A trust's results day: what a portal may show of six schools that mark in two schemes, one of them tiny, and why some of it is hidden.

python trusts_results_day.py .markonce/demo/demo.json
"""

import csv
import io
import json
import sys
from pathlib import Path

import httpx2

demo = json.loads(Path(sys.argv[1]).read_text())


def signed_in(name: str) -> httpx2.Client:
    client = demo["clients"][name]
    http = httpx2.Client(base_url=demo["baseUrl"])
    credentials = (client["clientId"], client["clientSecret"])
    token = http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=credentials).json()["access_token"]
    http.headers["Authorization"] = f"Bearer {token}"
    return http


portal, manager = signed_in("trust-portal"), signed_in("trust-data-manager")

# The trust as a whole: reading, writing and maths combined, pooled over pupils
whole = portal.get("/v1/aggregates", params={"window": "2025-26/KS2", "groupBy": "subject"}).json()
(rwm,) = [row for row in whole["data"] if row["subject"] == "rwm"]
print(f"RWM expected: {rwm['expectedPercent']} % of {rwm['eligible']} pupils in {rwm['schools']} schools")

# By school and disadvantage: the tiny school is hidden, and so is what would give it away
question = {"window": "2025-26/KS2", "subject": "rwm", "groupBy": "school,disadvantaged"}
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

# This autumn one school marks in another scheme: results are pooled by what a grade means, an average of two schemes is none
autumn = portal.get("/v1/aggregates", params={"window": "2026-27/Autumn", "groupBy": "subject"}).json()["data"]
print("autumn:", {row["subject"]: (row["expectedPercent"], row["average"]) for row in autumn})

# A spreadsheet for the governors, a row per school
sheet = portal.get(
    "/v1/aggregates", params={"window": "2025-26/KS2", "groupBy": "school,subject", "format": "csv", "shape": "wide"}
)
rows = list(csv.DictReader(io.StringIO(sheet.text.lstrip("\ufeff"))))
print(f"spreadsheet: {len(rows)} schools, {len(rows[0])} columns")
