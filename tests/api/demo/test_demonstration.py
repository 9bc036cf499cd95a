"""The demonstration: what its data promises, that a start which was cut short is completed, and that `demo` serves what it prints."""

import asyncio
import json
import shlex
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from rich.console import Console

from api.demo import assessment_data, files, run, school_data, seed, window_data
from api.demo.school_data import FALLOWDENE, DemoPupil
from api.demo.story import Story
from domain import COMMANDS
from domain.roster import upn
from domain.roster.gias import parse
from domain.support import clock
from tests.fixtures.clock import freeze_clock
from tests.fixtures.databases import Databases
from tests.fixtures.demo import PATIENCE, Demonstration
from tests.fixtures.server import free_port
from tests.fixtures.settings import ROOT

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
STORY = Story(date(2026, 11, 23))
DAYS = [
    date(2027, month, day)
    for month, day in ((1, 1), (1, 31), (2, 12), (4, 15), (4, 16), (6, 27), (7, 31), (8, 31), (9, 1), (10, 9), (12, 31))
]
"""Days on which the demonstration may be made: ends and beginnings of terms, holidays, half term."""


@pytest.fixture(scope="module")
def everybody() -> list[DemoPupil]:
    return school_data.make_pupils(STORY)


def on_roll(everybody: list[DemoPupil], urn: int) -> list[DemoPupil]:
    return [p for p in everybody if (spell := p.find_main_spell(STORY.today)) is not None and spell.school.urn == urn]


def test_the_register_reads_without_an_issue() -> None:
    extract = parse.parse_gias(school_data.make_register())
    assert extract.issues == []
    assert [group.name for group in extract.groups] == ["Larkfield Learning Trust"]
    assert {e.urn for e in extract.establishments} == {link.urn for link in extract.links}
    assert len(extract.establishments) == 6
    assert all(e.urn // 1000 == 999 for e in extract.establishments), "URNs the DfE does not use"


def test_every_upn_is_valid_and_given_once(everybody: list[DemoPupil]) -> None:
    numbers = [upn.parse_upn(p.upn) for p in everybody if p.upn is not None]
    assert len({n.text for n in numbers}) == len(numbers)
    assert sum(n.is_temporary for n in numbers) == 1
    without = [p for p in everybody if p.upn is None]
    assert [STORY.start - p.entry for p in without] == [0, 0, 0], "only pupils in Reception have none"


def test_the_schools_are_as_promised(everybody: list[DemoPupil]) -> None:
    tiny = on_roll(everybody, FALLOWDENE.urn)
    assert len(tiny) == 23
    assert sum(STORY.start - p.entry == 6 for p in tiny) == 4
    assert 850 < sum(p.find_main_spell(STORY.today) is not None for p in everybody) < 1000
    assert sorted(Counter(school.scheme for school in school_data.SCHOOLS).values()) == [1, 2, 3]
    assert all(on_roll(everybody, school.urn) for school in school_data.SCHOOLS)


def test_spells_hold_leavers_movers_and_one_dual_registration(everybody: list[DemoPupil]) -> None:
    dual = [p for p in everybody if any(spell.status == "S" for spell in p.spells)]
    assert len(dual) == 1
    main, second = dual[0].find_main_spell(STORY.today), next(spell for spell in dual[0].spells if spell.status == "S")
    assert main is not None
    assert main.status == "M"
    assert second.is_on(STORY.today)
    assert second.school is not main.school
    gone = [p for p in everybody if p.find_main_spell(STORY.today) is None]
    assert all(spell.last is not None for p in gone for spell in p.spells)
    assert sum(p.entry == 2019 for p in gone) > 100, "last summer's Year 6"
    assert sum(p.entry != 2019 for p in gone) >= 5
    moved = [p for p in everybody if len({spell.school.urn for spell in p.spells if spell.status in "CM"}) == 2]
    assert len(moved) > 30
    for p in everybody:
        assert all(spell.last is None or spell.last >= spell.first for spell in p.spells)
        main_spells = [spell for spell in p.spells if spell.status in "CM"]
        assert all(a.last is not None and a.last < b.first for a, b in pairwise(main_spells))


def test_the_same_seed_makes_the_same_trust(everybody: list[DemoPupil]) -> None:
    assert school_data.make_rolls(school_data.make_pupils(STORY), STORY) == school_data.make_rolls(everybody, STORY)
    assert assessment_data.make_judgements(everybody, STORY, NOW) == assessment_data.make_judgements(everybody, STORY, NOW)
    assert school_data.make_pupils(STORY, seed=1) != everybody


def make_bodies(everybody: list[DemoPupil], story: Story, now: datetime) -> dict[str, list[Any]]:
    return {
        "record_pupils": school_data.make_rolls(everybody, story),
        "record_groups": school_data.make_classes(everybody, story),
        "create_scheme": window_data.make_schemes(),
        "create_common_scale": [window_data.SCALE],
        "create_crosswalk": [window_data.make_crosswalk(*window_data.DRAFT)],
        "create_window": window_data.make_windows(story, now),
        "record_judgements": assessment_data.make_judgements(everybody, story, now),
        "record_targets": assessment_data.make_targets(everybody, story, now),
    }


def test_every_body_is_what_its_command_takes(everybody: list[DemoPupil]) -> None:
    for name, bodies in make_bodies(everybody, STORY, NOW).items():
        assert bodies
        for body in bodies:
            read = COMMANDS[name].parse(json.loads(json.dumps(body)))
            assert not getattr(read, "issues", ()), name


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_on_every_day_of_the_year_one_window_is_open_and_the_classes_are_full(day: date) -> None:
    story, now = Story(day), datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=7)
    everybody = school_data.make_pupils(story)
    here = Counter(story.start - p.entry for p in everybody if p.find_main_spell(day))
    assert [year for year, n in sorted(here.items()) if n > 100] == [*range(7)]
    windows = {window.code: window for window in window_data.list_windows(story)}
    (current,) = (window for window in windows.values() if window.term.stage == "open")
    assert current.term.census_on <= day
    assert {window.code.partition("/")[0] for window in windows.values()} == {story.name_year(1), story.name_year()}
    assert {season for season in ("Autumn", "Spring", "Summer", "KS2") if windows[f"{story.name_year(1)}/{season}"].is_closed} == {
        *("Autumn", "Spring", "Summer", "KS2")
    }
    for body in window_data.make_windows(story, now):
        window = windows[body["code"]]
        opens, closes = (datetime.fromisoformat(body[name]) for name in ("opensAt", "closesAt"))
        assert opens < closes
        assert {"closed": closes < now, "open": closes > now, "planned": opens > now}[window.term.stage], body["code"]
        assert story.name_year(story.start - window.start) == body["academicYear"]
        first = date(window.start, 9, 1)
        assert first <= date.fromisoformat(body["censusOn"]) < first.replace(year=first.year + 1)
    bodies = assessment_data.make_judgements(everybody, story, now)
    judged = Counter(b["window"] for b in bodies for _ in b["entries"])
    assert set(judged) == {code for code, window in windows.items() if window.term.stage != "planned"}
    targets = [e for b in assessment_data.make_targets(everybody, story, now) for e in b["entries"]]
    assert {e["visibility"] for e in targets} == {"staff", "school", "trust", "family"}
    assert all(datetime.fromisoformat(e["recordedAt"]) <= now for e in [*targets, *(e for b in bodies for e in b["entries"])])


def test_judgements_are_believable(everybody: list[DemoPupil]) -> None:
    bodies = assessment_data.make_judgements(everybody, STORY, NOW)
    windows = {window.code: window for window in window_data.list_windows(STORY)}
    entries = {code: [e for b in bodies if b["window"] == code for e in b["entries"]] for code in windows}
    former = ["2025-26/Autumn", "2025-26/Spring", "2025-26/Summer", "2025-26/KS2"]
    assert [code for code, given in entries.items() if given] == [*former, "2026-27/Autumn"]
    autumn = windows["2026-27/Autumn"]
    asked = [p for p in everybody if p.find_main_spell(autumn.term.census_on) and STORY.start - p.entry in autumn.years]
    references = {p.reference for p in asked}
    missing = 1 - sum(e["reference"] in references for e in entries[autumn.code]) / (3 * len(asked))
    assert 0.03 <= missing <= 0.05
    scores = [int(e["grade"]) for e in entries["2025-26/KS2"] if e["grade"].isdecimal()]
    assert 102 < sum(scores) / len(scores) < 108
    assert {"absent", "left", "new"} <= {e["status"] for given in entries.values() for e in given if "status" in e}
    ever6 = {p.reference: p.characteristics.get("ever6Fsm") for p in everybody}
    share = {
        value: sum(e["grade"] != "WTS" for e in of) / len(of)
        for value in ("true", "false")
        if (
            of := [
                e for e in entries["2025-26/Summer"] if ever6[e["reference"]] == value and e.get("grade") in ("WTS", "EXS", "GDS")
            ]
        )
    }
    assert 0.4 < share["true"] < share["false"] < 0.85


def test_nothing_is_recorded_after_now_on_a_clock_that_is_behind(everybody: list[DemoPupil]) -> None:
    early = datetime(2024, 5, 1, tzinfo=UTC)
    bodies = assessment_data.make_judgements(everybody, STORY, early)
    assert {e["recordedAt"] for b in bodies for e in b["entries"]} == {early.isoformat()}


_VERSIONS = """
SELECT (SELECT sum(version) FROM pupils), (SELECT sum(version) FROM judgements), (SELECT sum(version) FROM targets),
    (SELECT count(*) FROM enrolments) AS spells, (SELECT count(*) FROM characteristics) AS dated, (SELECT count(*) FROM judgement_history),
    (SELECT string_agg(code || ' ' || window_state(state, opens_at, closes_at, now()), ', ' ORDER BY code) FROM windows),
    (SELECT sum(n) FROM cells) AS counted, (SELECT count(*) FROM grants) AS grants
"""


async def test_a_seeding_cut_short_is_completed_and_a_whole_one_left_alone(databases: Databases, tmp_path: Path) -> None:
    kept, console = files.DemoSecrets.read(tmp_path / "secrets.json"), Console(file=StringIO())
    connection = await asyncpg.connect(databases.operator_url)
    try:
        begun = asyncio.create_task(seed.prepare_data(databases.app_url, databases.operator_url, kept, console))
        while await connection.fetchval("SELECT count(*) FROM judgements") == 0:
            assert not begun.done()
            await asyncio.sleep(0.01)
        begun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begun
        assert set(kept.clients) == {"mis-vendor", "trust-data-manager"}
        facts = await seed.prepare_data(databases.app_url, databases.operator_url, kept, console)
        before = await connection.fetchrow(_VERSIONS)
        assert before is not None
        stages = {window.code: window.term.stage for window in window_data.list_windows(Story(kept.day))}
        assert before["string_agg"] == ", ".join(f"{code} {stage}" for code, stage in sorted(stages.items()))
        assert before["count"] == 0
        assert await seed.prepare_data(databases.app_url, databases.operator_url, kept, console) == facts
        assert await connection.fetchrow(_VERSIONS) == before
        with freeze_clock(datetime.now(UTC) + timedelta(60)):
            later = await seed.prepare_data(databases.app_url, databases.operator_url, kept, console)
        assert [window["state"] for window in later["windows"]].count("open") >= 1, "started again weeks later it goes on"
    finally:
        await connection.close()
    lost = files.DemoSecrets.read(tmp_path / "lost.json")
    lost.markonce = kept.markonce
    again = await seed.prepare_data(databases.app_url, databases.operator_url, lost, console)
    assert [c["clientId"] for c in again["clients"].values()] == [c["clientId"] for c in facts["clients"].values()]
    assert all(again["clients"][name]["clientSecret"] != c["clientSecret"] for name, c in facts["clients"].items())


def pasted(printed: Path) -> list[Any]:
    """What the requests answer when their lines are pasted into one shell, in order."""
    lines = [line for line in printed.read_text().splitlines() if line.startswith(("TOKEN=", "curl "))]
    assert len(lines) == 3
    script = "\n".join(line + ("; echo" if line.startswith("curl") else "") for line in lines)
    done = subprocess.run(["/bin/sh"], input=script, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def ask_for_a_token(printed: str, said: str) -> tuple[int, bool, bool]:
    """Runs the printed line that asks for a token: its status, and whether the text and a traceback are on standard error."""
    line = next(line for line in printed.splitlines() if line.startswith("TOKEN="))
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, said in done.stderr, "Traceback" in done.stderr


def test_the_requests_printed_are_those_of_the_documentation() -> None:
    client = {"clientId": "CLIENT_ID", "clientSecret": "CLIENT_SECRET"}
    requests = run.make_requests({"baseUrl": "http://127.0.0.1:8000", "clients": {"partner-app": client}})
    readme = (ROOT / "README.md").read_text()
    assert [command for _, command in requests if f"```sh\n{command}\n```" not in readme] == []
    assert f"| {run.PRINT_ACCESS}; }}" in (ROOT / "docs" / "integrating.md").read_text()
    assert [name for name, purpose in seed.PURPOSES.items() if f"`{name}` {purpose}" not in " ".join(readme.split())] == []
    assert list(seed.PURPOSES) == list(seed.GRANTS)


def test_a_server_that_is_down_is_no_traceback() -> None:
    client = {"clientId": "CLIENT_ID", "clientSecret": "CLIENT_SECRET"}
    requests = run.make_requests({"baseUrl": f"http://127.0.0.1:{free_port()}", "clients": {"partner-app": client}})
    assert ask_for_a_token(requests[0][1], "curl: (7)") == (1, True, False)


def test_demo_serves_what_it_prints_and_keeps_its_secrets(demonstration: Demonstration, tmp_path: Path) -> None:
    port, folder, facts = demonstration.port, demonstration.folder, demonstration.facts
    assert facts["baseUrl"] == f"http://127.0.0.1:{port}"
    assert set(facts["clients"]) == {"mis-vendor", "partner-app", "trust-portal", "trust-data-manager", "operator"}
    assert all(
        set(c) == {"clientId", "clientSecret", "scopes"} and c["scopes"] == sorted(c["scopes"]) for c in facts["clients"].values()
    )
    assert [trust["name"] for trust in facts["trusts"]] == ["Larkfield Learning Trust"]
    assert {s["urn"]: s["name"] for s in facts["schools"]} == {s.urn: s.name for s in school_data.SCHOOLS}
    story = Story(clock.read_today())
    stages = [(window.code, window.term.stage) for window in window_data.list_windows(story)]
    assert [(w["code"], w["state"]) for w in facts["windows"]] == stages
    for name in ("demo.json", "demo.env", "secrets.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    rest, graphql = pasted(demonstration.printed)
    printed = demonstration.printed.read_text()
    pupils = graphql["data"]["pupils"]["nodes"]
    assert len(pupils) == 3
    assert [(p["id"], p["forename"], p["school"]) for p in rest["data"]] == [(p["id"], p["forename"], p["school"]) for p in pupils]
    assert all(pupil["forename"] and pupil["school"]["name"] for pupil in pupils)
    assert any(pupil["judgements"]["nodes"] for pupil in pupils)
    named = [line.split()[0] for line in printed.splitlines() if line.endswith(tuple(seed.PURPOSES.values()))]
    assert named == list(facts["clients"])
    wrong = printed.replace(facts["clients"]["partner-app"]["clientSecret"], "wrong")
    assert ask_for_a_token(wrong, "invalid_client") == (1, True, False)

    for other_port, other_folder, said in ((port, tmp_path / "other", "is in use"), (free_port(), folder, "is running in")):
        command = [sys.executable, "-m", "api", "demo", "--port", str(other_port), "--data-dir", str(other_folder)]
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert refused.returncode == 1
        assert said in refused.stdout
        assert "Traceback" not in refused.stderr
    assert (folder / "demo.json").exists()

    exported = f". {shlex.quote(str(folder / 'demo.env'))}; {shlex.quote(sys.executable)} -m api client list"
    clients = subprocess.run(["/bin/sh", "-c", exported], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "mis-vendor" in clients.stdout

    demonstration.stop()
    demonstration.start()
    assert demonstration.facts == facts
    assert [answer["data"] for answer in pasted(demonstration.printed)] == [rest["data"], graphql["data"]]
