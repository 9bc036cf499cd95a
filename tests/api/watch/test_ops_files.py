"""The alert rules and the dashboard ask for figures, labels and label values that there are. `make operations` has promtool check them too."""

import json
import re
from typing import Any

import pytest
import yaml

from api.http.health import make_routes
from api.watch.figures import FIGURES
from domain.jobs.backlogs import JOBS, ROLLS
from domain.store.outages import FAILURES
from tests.fixtures.settings import ROOT

OPS = ROOT / "ops"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
PANELS: list[dict[str, Any]] = json.loads((OPS / "dashboard.json").read_text())["panels"]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel.get("targets", [])]
OF_PROMETHEUS = {"instance", "job", "le"}
VALUES = {
    "backlog": {JOBS, ROLLS},
    "outcome": {"applied", "refused", "failed"},
    "use": {"lent", "writing", "idle"},
    "kind": set(FAILURES),
    "interface": {"rest", "graphql", "oauth", "health", "pages"},
}


def find_series(expression: str) -> list[tuple[str, dict[str, str]]]:
    """Every figure of an expression, with its label matchers."""
    found = []
    for name, matchers in re.findall(r"(markonce_[a-z_]+)(?:\{([^}]*)\})?", expression):
        found.append((name, dict(re.findall(r'(\w+)\s*(?:=|=~|!=|!~)\s*"([^"]*)"', matchers))))
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_what_there_is(expression: str) -> None:
    assert find_series(expression) or expression.startswith("up{")
    for name, matchers in find_series(expression):
        base = name if name in FIGURES else re.sub("_(bucket|sum|count)$", "", name)
        assert base in FIGURES, name
        assert (base != name) == (FIGURES[base].kind == "histogram")
        assert set(matchers) <= {*FIGURES[base].labels, *OF_PROMETHEUS}
        for label, value in matchers.items():
            if label in VALUES:
                assert set(value.split("|")) <= VALUES[label]
        if FIGURES[base].kind == "counter":
            assert re.search(rf"(rate|increase)\({name}\b", expression), "a counter alone says nothing"
    for labels in re.findall(r"\bby \(([^)]*)\)", expression):
        known = {label for name, _ in find_series(expression) for label in FIGURES[re.sub("_(bucket|sum|count)$", "", name)].labels}
        assert set(labels.replace(" ", "").split(",")) <= known | OF_PROMETHEUS


def test_an_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 12
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket", "info")
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["annotations"]["action"].endswith(".") or rule["annotations"]["action"].endswith("?")
    tested = yaml.safe_load((OPS / "alerts_test.yml").read_text())["tests"]
    assert {each["alertname"] for test in tested for each in test["alert_rule_test"]} <= {rule["alert"] for rule in RULES}
    assert {route.path for route in make_routes()} == {"/health/live", "/health/ready"}


def test_panels_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & cells, panel["title"]
        cells |= mine
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
