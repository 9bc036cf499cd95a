"""Windows are opened, closed, reopened, locked and unlocked, and their history says when and why."""

from typing import Any

from tests.fixtures.small_trust import asked, batch, entry, issues, judged, opened, roll, sent, window


async def test_a_window_is_locked_and_unlocked_with_a_reason(vendor: Any) -> None:
    id_ = await opened(vendor, "w")
    url = f"/v1/windows/{id_}"
    assert (await sent(vendor, f"{url}/lock", {"reason": "Too early"}, 409))["type"].endswith("window-state")
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    await sent(vendor, f"{url}/close")
    assert issues(await sent(vendor, f"{url}/lock", {}, 422)) == {"/reason": "required"}
    assert (await sent(vendor, f"{url}/lock", {"reason": "The results are final", "actor": "head"}))["state"] == "locked"
    assert (await sent(vendor, f"{url}/reopen", {"closesAt": "2099-07-31T17:00:00Z"}, 409))["type"].endswith("window-state")
    refused = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)], window="w"), 422)
    assert issues(refused) == {"/entries/0/window": "window-closed"} or "window" in str(issues(refused))
    assert issues(await sent(vendor, f"{url}/unlock", {}, 422)) == {"/reason": "required"}
    mutation = "mutation ($i: WindowLockInput!) { unlockWindow(input: $i) { state version } }"
    undone = await asked(vendor, mutation, i={"id": id_, "reason": "A school appealed"})
    assert undone["unlockWindow"]["state"] == "closed"
    await sent(vendor, f"{url}/reopen", {"closesAt": "2099-07-31T17:00:00Z", "reason": "Oak was late", "actor": "deputy"})
    await sent(vendor, f"{url}/close")
    rows = (await vendor.get(f"{url}/history?fields=outcome,reason,actor,client")).json()["data"]
    assert [tuple(row.values()) for row in rows] == [
        ("opened", None, None, "vendor"),
        ("closed", None, None, "vendor"),
        ("locked", "The results are final", "head", "vendor"),
        ("unlocked", "A school appealed", None, "vendor"),
        ("reopened", "Oak was late", "deputy", "vendor"),
        ("closed", None, None, "vendor"),
    ]
    nodes = (await asked(vendor, f'{{ window(id: "{id_}") {{ history {{ nodes {{ outcome }} }} version }} }}'))["window"]
    assert [node["outcome"] for node in nodes["history"]["nodes"]] == [row["outcome"] for row in rows]
    assert nodes["version"] == 7


async def test_a_window_that_is_deleted_takes_its_history_along(vendor: Any) -> None:
    id_ = await opened(vendor, "gone")
    answer = await vendor.delete(f"/v1/windows/{id_}", headers={"If-Match": "*"})
    assert answer.status_code == 204, answer.text
    assert (await vendor.get("/v1/window-state-changes?windowCode=gone")).status_code == 422


STATES = ("planned", "open", "closed", "locked")
CLOSING = {"closesAt": "2099-08-31T17:00:00Z"}
COMMANDS: dict[str, tuple[str, ...]] = {
    "open": ("planned",),
    "close": ("open",),
    "reopen": ("closed",),
    "lock": ("closed",),
    "unlock": ("locked",),
    "repin": ("planned", "open"),
    "name": ("planned", "open", "closed"),
    "censusOn": ("planned",),
    "closesAt": ("planned", "open"),
    "delete": ("planned", "open", "closed"),
    "judge": ("open",),
}
"""Each command, and change of a field, and the states in which it is accepted."""


async def test_every_command_in_every_state(vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    changes = {"name": "Another", "censusOn": "2018-05-15", **CLOSING}
    found: dict[str, list[str]] = {command: [] for command in COMMANDS}
    for state in STATES:
        for command in COMMANDS:
            code = f"{state} {command}"
            id_ = (await sent(vendor, "/v1/windows", window(code), 201))["id"]
            url = f"/v1/windows/{id_}"
            for verb, body in (("open", {}), ("close", {}), ("lock", {"reason": "It is final"}))[: STATES.index(state)]:
                await sent(vendor, f"{url}/{verb}", body)
            if command == "delete":
                answer = await vendor.delete(url, headers={"If-Match": "*"})
            elif command == "judge":
                answer = await vendor.post("/v1/judgements", json=batch("Oak", [judged(1)], window=code))
            elif command in changes:
                answer = await vendor.patch(url, json={command: changes[command]}, headers={"If-Match": "*"})
            else:
                more = {"reopen": CLOSING, "lock": {"reason": "It is final"}, "unlock": {"reason": "An error"}}
                answer = await vendor.post(f"{url}/{command}", json=more.get(command, {}))
            assert answer.status_code in (200, 204, 409, 422), answer.text
            if answer.is_success:
                found[command].append(state)
            elif command != "judge":
                assert answer.json()["type"].endswith("window-state"), (code, answer.text)
    assert found == {command: [*states] for command, states in COMMANDS.items()}
