"""Settings: names that are near known ones, everything that is wrong at once, and the format of logs."""

import json
import os
import subprocess
import sys

import pytest

from api.setting_names import compare_names
from api.settings import SETTINGS, Settings, SettingsError
from tests.fixtures.settings import ROOT, SECRET

GOOD = {"DATABASE_URL": "postgres://app@h/d", "MARKONCE_SECRET": SECRET}


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("MARKONCE_RATES", "MARKONCE_RATE"),
        ("MARKONCE_BRUST", "MARKONCE_BURST"),
        ("MARKONCE_POOLSIZE", "MARKONCE_POOL_SIZE"),
        ("MARKONCE_POOL", "MARKONCE_POOLER"),
        ("MARKONCE_BASE_URI", "MARKONCE_BASE_URL"),
        ("MARKONCE_LOG_LEVEL", "MARKONCE_LOG"),
        ("MARKONCE_SECRET_FILE", "MARKONCE_SECRET"),
        ("markonce_secret", "MARKONCE_SECRET"),
        ("MARKONCE-BASE-URL", "MARKONCE_BASE_URL"),
        ("MARKONE_SECRET", "MARKONCE_SECRET"),
        ("MARKONCE_DATABASE_URL", "DATABASE_URL"),
        ("DATABASE_OPERATER_URL", "DATABASE_OPERATOR_URL"),
        ("DATABASE_OWNER_URI", "DATABASE_OWNER_URL"),
        ("Database_Owner_Url", "DATABASE_OWNER_URL"),
    ],
)
def test_a_name_near_a_setting_is_an_error_that_names_it(name: str, setting: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({**GOOD, name: "hush"})
    assert raised.value.faults == [f"{name} is no setting; did you mean {setting}?"]


@pytest.mark.parametrize(
    "name",
    ["MARKONCE_PORT", "MARKONCE_SERVICE_HOST", "MARKONCE_PORT_8000_TCP_ADDR", "MARKONCE_POSTGRES_SERVICE_PORT", "MARKONCE_RELEASE"],
)
def test_another_name_is_a_warning(name: str) -> None:
    assert Settings.from_environment({**GOOD, name: "x"}).rate == 100
    assert compare_names({**GOOD, name: "x", "MARK": "x", "HOME": "/"}, SETTINGS) == (
        [],
        [f"{name} is no setting, and has no effect"],
    )


def test_a_name_of_another_program_is_wrong_only_where_ours_is_not_set() -> None:
    assert compare_names(GOOD | {"DATABASE_URI": "x", "DATABASE": "x", "DATADOG_URL": "x"}, SETTINGS) == ([], [])
    assert compare_names({"DATABSE_URL": "x"}, SETTINGS)[0] == ["DATABSE_URL is no setting; did you mean DATABASE_URL?"]


@pytest.mark.parametrize(
    "url", ["api.example.org", "localhost:8000", "ftp://h", "https://", "https://h:port", "https://h/?a=b", "https://u:p@h"]
)
def test_a_base_url_without_scheme_or_host_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="MARKONCE_BASE_URL"):
        Settings.from_environment({**GOOD, "MARKONCE_BASE_URL": url})


def test_an_empty_setting_is_none() -> None:
    empty = dict.fromkeys(SETTINGS - GOOD.keys(), "")
    assert Settings.from_environment({**empty, **GOOD}) == Settings.from_environment(GOOD)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    wrong = {
        "MARKONCE_BASE_URL": "h",
        "MARKONCE_SECRET": "short",
        "MARKONCE_LOG_FORMAT": "xml",
        "MARKONCE_LOG": "loud",
        "MARKONCE_RATE": "0",
    }
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"DATABASE_URL": "postgres://u:hush@h:x/d?sslmode=on", "MARKONCE_RATES": "1", **wrong})
    assert len(raised.value.faults) == 8
    assert {name for name in (*wrong, "MARKONCE_RATES", "DATABASE_URL") if name not in str(raised.value)} == set()
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_format_of_logs_is_a_setting(form: str) -> None:
    program = (
        "from api.logs import configure_logging; import structlog; configure_logging(); structlog.get_logger().info('began', n=1)"
    )
    environment = {"PATH": os.environ["PATH"], "MARKONCE_LOG_FORMAT": form}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    if form == "json":
        assert json.loads(done.stderr)["event"] == "began"
    else:
        assert "began" in done.stderr
        assert not done.stderr.startswith("{")
