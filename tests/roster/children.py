"""Four children, of whom two are twins, as a roll has them; and what is stored of them."""

from typing import Any

from tests.fixtures.small_trust import Trust, entry, issues, roll, sent

ANN, BEN, EVA, EVAN = 1, 2, 3, 4
NAMES = {ANN: "Ann", BEN: "Ben", EVA: "Eva", EVAN: "Evan"}
BORN = {ANN: "2007-03-01", BEN: "2007-05-09", EVA: "2007-07-07", EVAN: "2007-07-07"}
SEX = {ANN: "F", BEN: "M", EVA: "F", EVAN: "M"}
SURNAME = {ANN: "Archer", BEN: "Baker", EVA: "Ellis", EVAN: "Ellis"}


def child(number: int, **changed: Any) -> dict[str, Any]:
    usual = {"forename": NAMES[number], "dateOfBirth": BORN[number], "sex": SEX[number], "surname": SURNAME[number]}
    return entry(number, **usual | changed)


async def put(client: Any, *entries: dict[str, Any], at: str = "Oak", **headers: str) -> dict[str, Any]:
    return dict(await sent(client, "/v1/pupils", roll(at, entries), **headers))


async def refuse(client: Any, *entries: dict[str, Any], at: str = "Oak") -> dict[str, str]:
    return issues(await sent(client, "/v1/pupils", roll(at, entries), 422))


def warned(answer: dict[str, Any]) -> dict[str, str]:
    return {warning["at"]: warning["code"] for warning in answer["warnings"]}


async def pupil(client: Any, **where: Any) -> dict[str, Any]:
    (found,) = (await sent(client, "/v1/pupils/lookup", {"where": where}))["data"]
    return dict(found)


async def patch(client: Any, row: dict[str, Any], status: int = 200, **change: Any) -> Any:
    answer = await client.patch(f"/v1/pupils/{row['id']}", json=change, headers={"If-Match": "*"})
    assert answer.status_code == status, answer.text
    return answer.json()


async def upns(here: Trust, id_: str) -> dict[str, bool]:
    rows = await here.operator.fetch("SELECT upn, current FROM upns WHERE pupil_id::text = $1", id_)
    return {row["upn"]: row["current"] for row in rows}


async def references(here: Trust) -> dict[str, list[str]]:
    rows = await here.operator.fetch(
        "SELECT p.forename, array_agg(x.value ORDER BY x.value) FROM external_ids x JOIN pupils p USING (id)"
        " WHERE x.kind = 'pupil' GROUP BY 1"
    )
    return {row[0]: row[1] for row in rows}
