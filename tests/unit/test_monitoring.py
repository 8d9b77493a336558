"""The dashboard, the alerts and the page about them name what the code exposes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from celery_segment.operations.metrics import METRICS, UNCONFIGURED, UP

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/monitoring.md").read_text("utf-8")
REFERENCE = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
DASHBOARD = json.loads((ROOT / "deploy/grafana/segment.json").read_text("utf-8"))
(GROUP,) = yaml.safe_load((ROOT / "deploy/prometheus/segment.rules.yml").read_text())["groups"]
RULES = {rule["alert"]: rule for rule in GROUP["rules"]}

EXPRESSIONS = [
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]),
    *(
        each["query"]["query"]
        for each in DASHBOARD["templating"]["list"]
        if each["name"] == "source"
    ),
    *(rule["expr"] for rule in RULES.values()),
]
STATES = {"buffered", "ready", "inflight", "dead", "open", "probing", "closed", "paused", "waiting"}


def named(expression):
    return set(re.findall(r"\bsegment_\w+", expression))


def test_every_metric_that_is_asked_for_exists():
    known = {metric.name for metric in (UP, *METRICS, UNCONFIGURED)}
    asked = set().union(*map(named, EXPRESSIONS))
    assert all(map(named, EXPRESSIONS))
    assert asked <= known
    assert known - asked == {"segment_gate_closed_seconds", "segment_messages_purged_total"} | {
        "segment_batches_delivered_total"
    }


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_label_that_is_asked_for_exists(expression):
    labels = {"source"} | {m.label for m in (*METRICS, UNCONFIGURED) if m.name in named(expression)}
    grouped = re.findall(r"\b(?:by|without|ignoring) \(([^)]*)\)", expression)
    matched = re.findall(r'(\w+)(?:=~|!=|=)"([^"]*)"', expression)
    assert {label for group in grouped for label in group.split(", ")} <= labels
    assert {label for label, _ in matched} <= labels
    states = {state for label, value in matched if label == "state" for state in value.split("|")}
    assert states <= STATES


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_two_that_tell_the_same_figures_are_not_added_up(expression):
    # Whichever process tells them, and however many do: they are the buffer's.
    if expression.startswith(("absent(", "label_values(")):
        return
    assert "max by (source" in expression
    assert "sum by" not in expression


def test_the_dashboard_can_be_provisioned():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert DASHBOARD["uid"] == "celery-segment"
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource", "source"]
    for panel in DASHBOARD["panels"]:
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"]
        assert all('source=~"$source"' in target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_what_is_wrong_and_the_mend(name):
    annotations = RULES[name]["annotations"]
    assert annotations["summary"].endswith(".")
    assert annotations["description"].endswith(".")
    assert RULES[name]["labels"]["severity"] in {"critical", "warning"}
    page, anchor = annotations["runbook"].split("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
    assert f"| `{name}` |" in PAGE


def test_the_reference_lists_the_metrics_as_the_code_has_them():
    rows = "\n".join(
        f"| `{m.name}` | {m.kind} | {f'`{m.label}`' if m.label else '-'} | {m.help} |"
        for m in (UP, *METRICS, UNCONFIGURED)
    )
    assert rows in REFERENCE


def test_the_page_is_short():
    assert len(PAGE.splitlines()) < 150
