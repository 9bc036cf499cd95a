"""The journeys of those whom this is for, each a script of under 60 lines run against a demonstration on a socket; the README quotes them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.demo import PATIENCE
from tests.fixtures.settings import ROOT

HERE = Path(__file__).parent
SCRIPTS = sorted(path for path in HERE.glob("*.py") if path.name != Path(__file__).name)
SAYS = {
    "developers_first_hour": ["7 classes", "posted: updated", "posted: unchanged", "seen:"],
    "vendors_first_night": [
        "1 joined, 1 left",
        "['created', 'superseded', 'rejected']",
        "window-closed",
        "'updated'",
        "recordJudgements",
    ],
    "trusts_results_day": [
        "RWM expected",
        "disadvantaged true",
        " c\n",
        "hidden because",
        "spreadsheet: 6 schools",
        "Wrenlow Primary Academy': 'no-place'",
    ],
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_journey(script: Path, demo_facts: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script), str(demo_facts)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [text for text in SAYS[script.stem] if text not in done.stdout] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_journey_is_short_and_the_readme_leads_to_it(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 60
    assert str(script.relative_to(ROOT)) in (ROOT / "README.md").read_text()


def test_what_the_readme_quotes_is_in_the_journeys() -> None:
    quoted = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    texts = [path.read_text() for path in SCRIPTS]
    assert len(quoted) == len(SCRIPTS)
    assert [block for block in quoted if not any(block in text for text in texts)] == []
