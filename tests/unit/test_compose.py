"""docker-compose.yml, the Dockerfile and deploy/ fit each other, and what is promised of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
import yaml

from celery_segment.config import declared
from celery_segment.config.source import Source
from composed import ROOT, copied, in_context, instructions, loaded, port_of, seconds

PAGE = (ROOT / "docs/how-to/containers.md").read_text("utf-8")
TEXT = (ROOT / "docker-compose.yml").read_text()
SECRETS = {
    "REDIS_PASSWORD": "r3d1s",
    "FLOWER_PASSWORD": "fl0w3r",
    "GRAFANA_PASSWORD": "gr4f4n4",
    "SHOP_SECRET_KEY": "sh0p",
    "SEGMENT_WRITE_KEY": "wr1t3",
    "SEGMENT_OAUTH": '{"private_key": "0auth"}',
}
#: Those that only Segment gives.
SEGMENTS = {"SEGMENT_WRITE_KEY", "SEGMENT_OAUTH"}
FILE = loaded(SECRETS)
SERVICES = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
each_service = pytest.mark.parametrize("name", SERVICES)


def mounts(name):
    return [volume.split(":")[:2] for volume in SERVICES[name].get("volumes", ())]


def run(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def of_this_environment(program):
    return str(Path(sys.executable).parent / program)


# ---------------------------------------------------------------- the file


def test_the_file_is_valid_by_the_compose_specification():
    program = of_this_environment("check-jsonschema")
    run(program, "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_what_comes_up_and_what_with_the_profile():
    always = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert always == {"redis", "worker", "flower", "web", "segment"}
    assert {name for name in SERVICES if SERVICES[name].get("profiles") == ["monitoring"]} == {
        *("metrics", "prometheus", "grafana")
    }


@each_service
def test_a_service_can_do_no_more_than_it_must(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert "ALL" in service["cap_drop"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["user"].partition(":")[0] not in {"", "0", "root"}
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)
    for volume in service.get("volumes", ()):
        assert volume.startswith("./") == volume.endswith(":ro")


def test_a_port_is_this_machines_alone():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert {"redis", "flower", "web"} <= published.keys()
    for port in chain.from_iterable(published.values()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@each_service
def test_a_service_is_started_again_and_looked_after(name):
    assert SERVICES[name]["restart"] in {"unless-stopped", "always"}
    assert {"max-size", "max-file"} <= SERVICES[name]["logging"]["options"].keys()
    check = SERVICES[name]["healthcheck"]
    assert seconds(check["timeout"]) < seconds(check["interval"])


@each_service
def test_a_service_has_one_image_that_is_pinned_or_built_here(name):
    service = SERVICES[name]
    assert ("image" in service) != ("build" in service)
    if "build" in service:
        assert (ROOT / service["build"] / "Dockerfile").exists()
    else:
        assert pinned(service["image"])


def test_the_base_of_our_image_is_pinned():
    bases = [given.split()[0] for stage in instructions() for n, given in stage if n == "FROM"]
    assert bases
    assert all(map(pinned, bases))


def pinned(image):
    return re.search(r":v?\d+\.\d+[\w.-]*$", image) is not None


def test_a_stopping_worker_may_finish_its_request():
    timeout = declared(Source)["timeout"].default
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > 2 * timeout


@pytest.mark.parametrize("name", OURS)
def test_a_signal_stops_our_service_while_it_starts(name):
    assert SERVICES[name]["init"] is True


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize("name", sorted(SECRETS.keys() - SEGMENTS))
@pytest.mark.parametrize("value", [None, ""])
def test_a_password_is_asked_for(name, value):
    with pytest.raises(KeyError, match=f"set {name}"):
        loaded({**SECRETS, name: value})


def test_without_a_write_key_the_stand_in_is_what_the_worker_has():
    worker = loaded({**SECRETS, "SEGMENT_WRITE_KEY": ""})["services"]["worker"]["environment"]
    assert worker["SEGMENT_WRITE_KEY"] == worker["SEGMENT_HOST"] == ""
    assert worker["SEGMENT_STAND_IN"] == f"http://segment:{port_of(SERVICES['segment'])}"


def test_a_secret_is_nowhere_but_in_environments_and_segments_in_the_workers():
    having = {
        name: {n for n, s in SERVICES.items() if secret in repr(s.get("environment"))}
        for name, secret in SECRETS.items()
    }
    assert all(having[name] == {"worker"} for name in SEGMENTS)
    assert all(having.values())
    for service in SERVICES.values():
        rest = repr({key: value for key, value in service.items() if key != "environment"})
        assert not any(secret in rest for secret in SECRETS.values())


def test_no_secret_is_written_in_the_file():
    values = re.findall(r"^ *\w*(?:PASSWORD|SECRET|OAUTH|AUTH|KEY)\w*: (.*)$", TEXT, re.MULTILINE)
    assert values
    for value in values:
        assert re.fullmatch(r"(\$\{\w+:[-?][\w ]*\}:?)+", value), value


# ---------------------------------------------------------------- what it mounts


def test_what_is_mounted_exists_and_volumes_are_declared():
    named = set()
    for name in SERVICES:
        for source, target in mounts(name):
            assert target.startswith("/")
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
            else:
                named.add(source)
    assert named == set(FILE["volumes"])


def test_what_is_to_outlive_a_container_is_in_a_volume():
    for name in ("redis", "web", "prometheus", "grafana"):
        assert [source for source, _ in mounts(name) if source in FILE["volumes"]], name


def test_prometheus_scrapes_the_metrics_and_has_the_alerts():
    mounted = {target: ROOT / source for source, target in mounts("prometheus")}
    (option,) = (o for o in SERVICES["prometheus"]["command"] if o.startswith("--config.file="))
    path = Path(option.partition("=")[2])
    folder = mounted[str(path.parent)]
    conf = yaml.safe_load((folder / path.name).read_text())
    (job,) = conf["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"metrics:{port_of(SERVICES['metrics'])}"]}]
    assert conf["rule_files"] == ["segment.rules.yml"]
    assert (folder / "segment.rules.yml").exists()


@pytest.mark.skipif(not shutil.which("promtool"), reason="Prometheus' promtool is not on the PATH")
def test_prometheus_takes_its_configuration():
    found = run("promtool", "check", "config", "deploy/prometheus/prometheus.yml")
    assert re.search(r"SUCCESS: \d+ rules found", found)


def test_grafana_is_provisioned_with_the_data_source_and_the_dashboard():
    mounted = {target: ROOT / source for source, target in mounts("grafana")}
    provisioning = mounted["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["type"] == "prometheus"  # what the dashboard's variable looks for
    assert source["isDefault"]
    assert source["url"] == f"http://prometheus:{port_of(SERVICES['prometheus'])}"
    (provider,) = yaml.safe_load((provisioning / "dashboards/segment.yml").read_text())["providers"]
    assert provider["type"] == "file"
    dashboards = [target for target in mounted if target.startswith(provider["options"]["path"])]
    assert [mounted[target].name for target in dashboards] == ["segment.json"]


# ---------------------------------------------------------------- the image


def test_the_dockerfile_passes_its_linter():
    assert run(of_this_environment("hadolint"), "--no-color", "Dockerfile") == ""


def test_the_image_gets_what_it_is_made_of():
    named = [
        source for stage in instructions() for sources, _ in copied(stage) for source in sources
    ]
    assert named
    for source in map(ROOT.joinpath, named):
        files = [source] if source.is_file() else source.rglob("*")
        assert any(map(in_context, files)), source


def test_the_wheel_has_what_it_is_built_from():
    build, _ = instructions()
    given = {source for sources, _ in copied(build) for source in sources}
    pyproject = (ROOT / "pyproject.toml").read_text()
    named = re.findall(r"^(?:readme|license-files|path|packages) = (.+)$", pyproject, re.MULTILINE)
    files = {file.partition("/")[0] for names in named for file in re.findall(r'"(.+?)"', names)}
    assert files <= given


def test_the_image_runs_as_the_user_of_the_file_and_leaves_the_build_behind():
    _, final = instructions()
    (user,) = (given for name, given in final if name == "USER")
    assert {service["user"] for service in OURS.values()} == {user}
    assert not any("pip" in given for _, given in final)


# ---------------------------------------------------------------- the page


def test_the_page_names_every_service_and_variable():
    for name in SERVICES:
        assert f"`{name}`" in PAGE
    for name in re.findall(r"(?<!\$)\$\{(\w+)", TEXT):
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize("text", [PAGE, TEXT], ids=["page", "file"])
def test_the_passwords_are_made_by_one_loop(text):
    names = re.search(r"for name in ([A-Z_ ]+); do", text)[1].split()
    assert set(names) == set(SECRETS) - SEGMENTS
