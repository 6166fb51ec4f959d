"""deploy/observability/: what dashboard, alerts and Prometheus are told is what the service has."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.app import create_app
from service.gauges import BREAKER_STATES
from service.lifecycle import STATES
from service.metrics import Metrics
from tests.service.conftest import settings_for

FOLDER = Path(__file__).parents[2] / "deploy" / "observability"
ENDINGS = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "info": ("_info",),
}


def dashboard() -> dict[str, Any]:
    """The Grafana dashboard."""
    loaded = json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def panels() -> list[dict[str, Any]]:
    """Its panels, headings left out."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    loaded = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def expressions() -> dict[str, list[str]]:
    """The PromQL of each file."""
    return {
        "dashboard": [target["expr"] for panel in panels() for target in panel["targets"]],
        "alerts": [rule["expr"] for rule in rules()],
    }


def metrics_in(texts: list[str]) -> set[str]:
    """The metrics that are named."""
    return set(re.findall(r"\b(?:stamp|process)_\w+", "\n".join(texts)))


def series() -> dict[str, set[str]]:
    """Each family with the names that may be queried."""
    return {
        family.name: {family.name + ending for ending in ENDINGS[family.type]}
        for family in Metrics().registry.collect()
    }


@pytest.mark.parametrize("file", ["dashboard", "alerts"])
def test_every_metric_named_exists(file: str) -> None:
    """A metric that was renamed would leave a panel empty and an alert silent."""
    named = metrics_in(expressions()[file])

    assert named
    assert named - set().union(*series().values()) == set()


def test_every_metric_has_a_panel() -> None:
    """What is counted can be looked at."""
    named = metrics_in(expressions()["dashboard"])

    assert [family for family, names in series().items() if not names & named] == []


def test_states_named_exist() -> None:
    """Of the service and of the breaker."""
    named = set(re.findall(r'state="(\w+)"', str(expressions())))

    assert named
    assert named <= {*STATES, *BREAKER_STATES}


def test_routes_named_exist(tmp_path: Path) -> None:
    """A path in a selector is one of the API's, or a pattern."""
    named = set(re.findall(r'route="([^"]+)"', str(expressions())))
    app = create_app(settings_for(tmp_path))

    assert named <= set(app.openapi()["paths"])


def test_every_panel_asks_the_chosen_data_source() -> None:
    """The variable `datasource`, so that the file fits any Grafana."""
    variables = {entry["name"]: entry["type"] for entry in dashboard()["templating"]["list"]}
    sources = {panel["datasource"]["uid"] for panel in panels()}

    assert variables["datasource"] == "datasource"
    assert sources == {"${datasource}"}


def test_panels_do_not_overlap() -> None:
    """Each cell of the grid is one panel's."""
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard()["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_every_alert_says_what_to_do() -> None:
    """How bad it is, in a line, and where to look."""
    incomplete = [
        rule["alert"]
        for rule in rules()
        if not {"severity"} <= rule["labels"].keys()
        or not {"summary", "description"} <= rule["annotations"].keys()
        or "for" not in rule
    ]

    assert incomplete == []


def test_prometheus_loads_the_alerts_and_scrapes_the_service() -> None:
    """By the job's name that an alert asks for."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = config["scrape_configs"]

    assert config["rule_files"] == ["alerts.yml"]
    assert (FOLDER / "alerts.yml").exists()
    assert f'job="{job["job_name"]}"' in "\n".join(expressions()["alerts"])
    assert job["metrics_path"] == "/metrics"
