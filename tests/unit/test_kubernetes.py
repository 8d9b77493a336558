"""deploy/kubernetes: each manifest is valid, they fit each other, and they fit the product."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess

import pytest
import yaml
from celery.bin.celery import celery
from jsonschema import Draft202012Validator

from celery_segment.config import Settings, declared
from celery_segment.config.source import Source
from celery_segment.operations.metrics import METRICS
from composed import ROOT, instructions
from manifests import (
    BASE,
    COMPONENTS,
    EXAMPLE,
    FOLDER,
    KUSTOMIZE,
    container,
    kustomization,
    load,
    named,
    pod,
    render,
    resources,
)

FILE = json.loads((ROOT / "tests/schemas/kubernetes.json").read_text("utf-8"))
SCHEMAS = FILE["$defs"]
RULES = ROOT / "deploy/prometheus/segment.rules.yml"
PAGE = (ROOT / "docs/how-to/kubernetes.md").read_text("utf-8")
RESOURCES = resources()
DEPLOYMENTS = [name.split()[1] for name in RESOURCES if name.startswith("Deployment ")]
PROBES = ["startupProbe", "readinessProbe", "livenessProbe"]
each_deployment = pytest.mark.parametrize("name", DEPLOYMENTS)


def problems(manifest):
    """Return where a manifest is not as the schema of its kind demands, and how."""
    schema = SCHEMAS[f"{manifest['apiVersion']} {manifest['kind']}"]
    found = Draft202012Validator({**schema, "$defs": SCHEMAS}).iter_errors(manifest)
    return {each.json_path: each.message for each in found}


def setting(name):
    return declared(Settings if name in declared(Settings) else Source)[name].default


# ---------------------------------------------------------------- valid


def test_each_file_is_named_by_one_kustomization():
    folders = [BASE, EXAMPLE, *COMPONENTS]
    there = {path for path in FOLDER.rglob("*") if path.is_file()}
    kustomizations = [folder / "kustomization.yaml" for folder in folders]
    files = [path for folder in folders for path in named(folder) if path.is_file()]
    assert sorted([*kustomizations, *files]) == sorted(there)
    assert {path for path in named(EXAMPLE) if path.is_dir()} == {BASE, *COMPONENTS}


def test_the_page_tells_the_version_of_the_schemas():
    version = re.match(r"v(\d+\.\d+)\.", FILE["$comment"])
    assert version
    assert f"the schemas of Kubernetes {version[1]}," in PAGE


@pytest.mark.parametrize("name", RESOURCES)
def test_a_resource_is_valid_and_in_no_namespace(name):
    assert problems(RESOURCES[name]) == {}
    assert "namespace" not in RESOURCES[name]["metadata"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d["spec"].update(replica=2), "$.spec"),
        (lambda d: d["spec"].update(replicas="two"), "$.spec.replicas"),
        (lambda d: d["spec"].pop("selector"), "$.spec"),
        (
            lambda d: d["spec"]["template"]["spec"].update(terminationGracePeriod=1),
            "$.spec.template.spec",
        ),
    ],
)
def test_what_kubernetes_would_refuse_is_refused(change, place):
    manifest = copy.deepcopy(RESOURCES["Deployment segment-worker"])
    change(manifest)
    assert [*problems(manifest)] == [place]


@pytest.fixture(scope="module")
def rendered():
    """What kustomize makes of the base and of the example, by kind."""
    made = {folder: render(folder) for folder in (BASE, EXAMPLE)}
    if None in made.values():
        pytest.skip(f"none of {', '.join(KUSTOMIZE)} is on the PATH")
    return {
        folder: {(m["kind"], m["metadata"]["name"]): m for m in made[folder]} for folder in made
    }


def test_what_kustomize_makes_is_valid(rendered):
    for folder in rendered:
        for manifest in rendered[folder].values():
            assert problems(manifest) == {}, manifest["metadata"]["name"]


def test_the_example_is_the_base_with_its_changes(rendered):
    manifests = rendered[EXAMPLE]
    assert {manifest["metadata"]["namespace"] for manifest in manifests.values()} == {"shop"}
    worker = manifests["Deployment", "segment-worker"]
    assert "replicas" not in worker["spec"], "the ScaledObject sets them"
    (config,) = (manifest for (kind, _), manifest in manifests.items() if kind == "ConfigMap")
    assert config["data"]["APP"] == "shop"
    for name in DEPLOYMENTS:
        (made,) = manifests["Deployment", name]["spec"]["template"]["spec"]["containers"]
        assert made["image"] == "registry.example.com/shop:1.0"
        assert made["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]


def test_kubeconform_finds_nothing(rendered, tmp_path):
    program = shutil.which("kubeconform")
    if program is None:
        pytest.skip("there is no kubeconform on the PATH")
    for name, schema in SCHEMAS.items():
        if " " in name:
            kind = name.split()[1].lower()
            (tmp_path / f"{kind}.json").write_text(json.dumps({**schema, "$defs": SCHEMAS}))
    for folder, manifests in rendered.items():
        (tmp_path / f"{folder.name}.yaml").write_text(yaml.safe_dump_all(manifests.values()))
        command = [program, "-strict", "-schema-location", f"{tmp_path}/{{{{.ResourceKind}}}}.json"]
        done = subprocess.run(
            [*command, f"{tmp_path}/{folder.name}.yaml"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_are_a_prometheus_rule_by_the_command_of_the_page():
    (command,) = re.findall(r"^\{ cat <<END\n(.*?)\| kubectl apply", PAGE, re.DOTALL | re.MULTILINE)
    script = "{ cat <<END\n" + command
    done = subprocess.run(
        ["/bin/sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (rule,) = yaml.safe_load_all(done.stdout)
    assert problems(rule) == {}
    assert rule["spec"] == yaml.safe_load(RULES.read_text("utf-8"))


# ---------------------------------------------------------------- fitting each other


def test_selectors_select_the_pods_of_their_name():
    labels = {
        n: RESOURCES[f"Deployment {n}"]["spec"]["template"]["metadata"]["labels"]
        for n in DEPLOYMENTS
    }
    assert len({tuple(each.items()) for each in labels.values()}) == len(labels)
    for name, manifest in RESOURCES.items():
        spec = manifest["spec"]
        selector = spec.get("podSelector") or spec.get("selector") or spec["scaleTargetRef"]
        if manifest["kind"] == "ScaledObject":
            assert selector == {"name": name.split()[1]}
        else:
            assert selector.get("matchLabels", selector) == labels[name.split()[1]]
    service, monitor = (
        RESOURCES[f"{kind} segment-metrics"] for kind in ("Service", "ServiceMonitor")
    )
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]


def test_ports_are_those_of_the_metrics():
    (port,) = container("segment-metrics")["ports"]
    (published,) = RESOURCES["Service segment-metrics"]["spec"]["ports"]
    (endpoint,) = RESOURCES["ServiceMonitor segment-metrics"]["spec"]["endpoints"]
    (ingress,) = RESOURCES["NetworkPolicy segment-metrics"]["spec"]["ingress"]
    assert str(port["containerPort"]) == container("segment-metrics")["command"][-1]
    assert published["port"] == port["containerPort"]
    names = {
        published["targetPort"],
        published["name"],
        endpoint["port"],
        ingress["ports"][0]["port"],
    }
    assert names == {port["name"]}


# ---------------------------------------------------------------- safe


@each_deployment
def test_a_pod_is_restricted_as_the_pod_security_standards_demand(name):
    context, limits = pod(name)["securityContext"], container(name)["securityContext"]
    (user,) = (given for n, given in instructions()[-1] if n == "USER")
    assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert limits == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod(name))
    assert pod(name)["automountServiceAccountToken"] is False
    assert [{*volume} for volume in pod(name)["volumes"]] == [{"name", "emptyDir"}]


def variables(name):
    """Return the variables of a container, and the key of the Secret that each is."""
    asked = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container(name)["env"]}
    assert {reference["name"] for reference in asked.values()} == {"segment"}
    return {name: reference["key"] for name, reference in asked.items()}


def test_the_metrics_have_no_key():
    assert {*variables("segment-metrics")} == {"REDIS_URL", "SEGMENT_REDIS_URL"}


def test_every_variable_is_read():
    fields = {**declared(Settings), **declared(Source)}
    read = {f"SEGMENT_{n.upper()}" for n in fields if fields[n].metadata["from_environment"]}
    read |= {*re.findall(r'environ\S*?\W"(\w+)"', (ROOT / "celeryconfig.py").read_text("utf-8"))}
    read |= {option.envvar for option in celery.params if option.envvar}
    literals = [
        literal.partition("=")[0]
        for folder in (BASE, EXAMPLE)
        for generated in kustomization(folder)["configMapGenerator"]
        for literal in generated["literals"]
    ]
    given = {**variables("segment-worker"), **variables("segment-metrics")}
    assert {*literals, *given} <= read
    assert all(name == key for name, key in given.items())
    assert all(f"`{name}`" in PAGE for name in {*literals, *given})


@each_deployment
def test_services_set_no_options_of_commands(name):
    # A Service celery-segment-metrics would set CELERY_SEGMENT_METRICS_PORT=tcp://…
    assert pod(name)["enableServiceLinks"] is False


# ---------------------------------------------------------------- patient


def test_probes_ask_for_the_worker_that_the_container_runs():
    command = container("segment-worker")["command"]
    probes = [container("segment-worker")[kind] for kind in PROBES]
    for probe in probes:
        assert probe["exec"]["command"][:4] == ["celery", "segment", "check", "--worker"]
        assert probe["exec"]["command"][4:] == command[command.index("-n") + 1 :]
        assert probe["timeoutSeconds"] >= 2 * 10, "twice the longest that the command takes"
        assert probe["timeoutSeconds"] <= probe["periodSeconds"] or probe is probes[0]


@pytest.mark.parametrize("kind", ["startupProbe", "livenessProbe"])
def test_a_broker_that_is_away_for_minutes_restarts_no_worker(kind):
    probe = container("segment-worker")[kind]
    assert probe["periodSeconds"] * (probe["failureThreshold"] - 1) >= 8 * 60


def test_a_stopping_worker_may_finish_its_request():
    workers = [
        pod("segment-worker"),
        *(each["spec"]["template"]["spec"] for each in load(EXAMPLE / "worker.yaml")),
    ]
    for worker in workers:
        assert worker["terminationGracePeriodSeconds"] > 2 * setting("timeout")
    # As the first process of a namespace, it would ignore SIGTERM until Celery has a handler.
    assert pod("segment-worker")["shareProcessNamespace"] is True


# ---------------------------------------------------------------- scaling


def test_the_scaling_asks_for_metrics_and_states_that_exist():
    known = {metric.name: metric.label for metric in METRICS}
    (trigger,) = RESOURCES["ScaledObject segment-worker"]["spec"]["triggers"]
    patched = (EXAMPLE / "kustomization.yaml").read_text("utf-8")
    asked = trigger["metadata"]["query"]
    for query in (asked, patched.partition("metadata/query")[2]):
        assert {*re.findall(r"\bsegment_\w+", query)} <= {*known}
        assert re.findall(r'(\w+)="open"', query) == [known["segment_gate"]]
    of_all = re.sub(r'\{namespace="shop"\}|, namespace="shop"', "", patched)
    assert " ".join(asked.split()) in " ".join(of_all.split())


def series(metric, value, **labels):
    """Return a series of one value, as promtool's tests have it."""
    listed = ",".join(f'{name}="{label}"' for name, label in labels.items())
    return {"series": f"{metric}{{{listed}}}", "values": f"{value}+0x8"}


def told(source, age, *, is_open, pods=1):
    """Return the figures of a source, as so many pods tell them."""
    return [
        each
        for pod in range(pods)
        for each in (
            series("segment_oldest_message_age_seconds", age, source=source, pod=pod),
            series("segment_gate", int(is_open), source=source, pod=pod, state="open"),
            series("segment_gate", int(not is_open), source=source, pod=pod, state="closed"),
        )
    ]


@pytest.mark.skipif(not shutil.which("promtool"), reason="Prometheus' promtool is not on the PATH")
@pytest.mark.parametrize(
    ("figures", "ages"),
    [
        (told("a", 90, is_open=True, pods=2) + told("b", 30, is_open=True), [90]),
        (told("a", 90, is_open=True) + told("b", 9000, is_open=False), [90]),
        (told("b", 9000, is_open=False), [0]),
        ([series("segment_up", 0, source="a", pod=0)], []),
    ],
)
def test_the_scaling_has_the_age_of_what_may_be_delivered(figures, ages, tmp_path):
    (trigger,) = RESOURCES["ScaledObject segment-worker"]["spec"]["triggers"]
    expected = [{"labels": "{}", "value": age} for age in ages]
    asked = {"expr": trigger["metadata"]["query"], "eval_time": "1m", "exp_samples": expected}
    test = {"interval": "15s", "input_series": figures, "promql_expr_test": [asked]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"tests": [test]}))
    command = ["promtool", "test", "rules", str(tmp_path / "test.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_more_workers_than_requests_that_they_may_make():
    spec = RESOURCES["ScaledObject segment-worker"]["spec"]
    (processes,) = re.findall(
        r"^worker_concurrency = (\d+)", (ROOT / "celeryconfig.py").read_text("utf-8"), re.MULTILINE
    )
    at_once = int(processes) * setting("worker_share")
    assert spec["maxReplicaCount"] * at_once == setting("max_inflight")
    assert spec["minReplicaCount"] == RESOURCES["Deployment segment-worker"]["spec"]["replicas"] > 1


def test_the_scaling_waits_for_longer_than_a_flush():
    (trigger,) = RESOURCES["ScaledObject segment-worker"]["spec"]["triggers"]
    assert float(trigger["metadata"]["threshold"]) > 2 * setting("flush_interval")
