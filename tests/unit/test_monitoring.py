"""The dashboard, the alerts and the page about them name what the code exposes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from celery_segment.buffer import BUCKETS
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


HISTOGRAMS = {metric.name for metric in METRICS if metric.kind == "histogram"}


def named(expression):
    """The metrics of an expression; of a histogram, its buckets are asked for."""
    found = set(re.findall(r"\bsegment_\w+", expression))
    return {name.removesuffix("_bucket") if name[:-7] in HISTOGRAMS else name for name in found}


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


def test_the_reference_lists_the_bounds_of_the_buckets():
    *bounds, last = (f"{bound:g}" for bound in BUCKETS[:-1])
    listed = f"end at {', '.join(bounds)} and {last} seconds."
    assert listed in " ".join(REFERENCE.split())


def test_the_page_is_short():
    assert len(PAGE.splitlines()) < 150


def buckets(slow, pod):
    """Return buckets that count 10 messages a minute, of which so many take up to 2 minutes."""
    counts = {"0.3": 10 - slow, "60.0": 10 - slow, "120.0": 10, "+Inf": 10}
    name = "segment_delivery_latency_seconds_bucket"
    return [
        {"series": f'{name}{{source="a", pod="{pod}", le="{le}"}}', "values": f"0+{count}x40"}
        for le, count in counts.items()
    ]


@pytest.mark.skipif(not shutil.which("promtool"), reason="Prometheus' promtool is not on the PATH")
@pytest.mark.parametrize(("slow", "fires"), [(0, False), (1, True)])
def test_the_alert_of_slow_deliveries_fires_when_one_in_twenty_is(slow, fires, tmp_path):
    asked = {"alertname": "SegmentDeliverySlow", "eval_time": "30m"}
    rule = RULES["SegmentDeliverySlow"]
    summary = rule["annotations"]["summary"].replace("{{ $labels.source }}", "a")
    summary = summary.replace("{{ $value | humanizeDuration }}", "1m 30s")
    annotations = rule["annotations"] | {"summary": summary}
    labels = {"source": "a", **rule["labels"]}
    expected = [{"exp_labels": labels, "exp_annotations": annotations}] if fires else []
    test = {
        "interval": "1m",
        "input_series": [*buckets(slow, 1), *buckets(slow, 2)],
        "alert_rule_test": [asked | {"exp_alerts": expected}],
    }
    rules = str(ROOT / "deploy/prometheus/segment.rules.yml")
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": [rules], "tests": [test]}))
    command = ["promtool", "test", "rules", str(tmp_path / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
