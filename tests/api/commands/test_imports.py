"""What `python -m api serve` imports before it hands over to the supervisor: the start waits for it."""

import subprocess
import sys

from tests.fixtures.settings import ROOT

SLOW = ("graphql", "strawberry", "alembic")


def test_the_command_line_imports_what_is_slow_only_for_the_commands_that_need_it() -> None:
    program = f"import sys, api.__main__; print([name for name in {SLOW} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
