"""Every service of docker-compose.yml at work, and its health check, as processes: see composed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from composed import Composed
from support import wait_until

SECRETS = {
    "REDIS_PASSWORD": "r3d1sp4ssw0rd",
    "FLOWER_PASSWORD": "fl0w3rp4ssw0rd",
    "GRAFANA_PASSWORD": "gr4f4n4p4ssw0rd",
    "SHOP_SECRET_KEY": "sh0pk3y",
}
SERVICES = ["redis", "segment", "worker", "flower", "web", "metrics"]


@pytest.fixture(scope="module")
def composed(tmp_path_factory):
    with Composed(tmp_path_factory.mktemp("composed"), SECRETS) as composed:
        yield composed


@pytest.fixture
def up(composed):
    composed.up(*SERVICES)
    return composed


# ---------------------------------------------------------------- while they run


def arguments_of(folder, groups):
    """Return what anyone may read of a process of these groups."""
    try:
        process = int(folder.name)
        return (folder / "cmdline").read_bytes() if os.getpgid(process) in groups else None
    except OSError:  # it has ended
        return None


def test_no_secret_is_in_the_list_of_processes(up):
    groups = {process.pid for process in up.processes.values()}
    all_of_them = [arguments_of(folder, groups) for folder in Path("/proc").glob("[0-9]*")]
    found = [arguments for arguments in all_of_them if arguments]
    assert len(found) > len(groups)
    for arguments in found:
        assert not any(secret.encode() in arguments for secret in SECRETS.values())


def test_redis_is_fit_for_a_buffer(up):
    shown = up.execute("worker", "celery", "segment", "check", "--no-endpoint")
    states = {line.split()[2]: line.split()[0] for line in shown.splitlines()}
    for name in ("redis", "eviction", "aof", "fsync", "workers"):
        assert states[name] == "ok", shown


def test_a_wrong_password_is_unhealthy(up):
    assert not up.health("redis", REDISCLI_AUTH="another")
    url = up.services["worker"]["environment"]["REDIS_URL"]
    assert SECRETS["REDIS_PASSWORD"] in url
    wrong = url.replace(SECRETS["REDIS_PASSWORD"], "another")
    assert not up.health("worker", REDIS_URL=wrong)
    assert up.health("redis")
    assert up.health("worker")


def test_flower_asks_for_its_password_and_knows_the_worker(up):
    assert requests.get(up.url("flower"), timeout=5).status_code == 401
    login = ("admin", SECRETS["FLOWER_PASSWORD"])

    def known():
        answer = requests.get(up.url("flower") + "/workers?json=1", auth=login, timeout=5)
        assert answer.status_code == 200
        return [worker for worker in answer.json()["data"] if worker["status"]]

    (worker,) = wait_until(known)
    assert worker["hostname"].startswith("celery@")


# ---------------------------------------------------------------- an hour in the shop


def go_shopping(url):
    with requests.Session() as browser:

        def get(path):
            answer = browser.get(url + path, timeout=10)
            assert answer.status_code == 200
            return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', answer.text)

        def post(path, form, **fields):
            fields["csrfmiddlewaretoken"] = form[1]
            answer = browser.post(url + path, fields, timeout=10)
            assert answer.status_code == 200
            assert answer.history

        get("/")
        post("/sign-up/", get("/sign-up/"), name="Ada", email="ada@example.com", company="Acme")
        post("/items/teapot/buy/", get("/items/teapot/"))


@pytest.fixture(scope="module")
def ledgers(composed):
    """What the metrics and Prometheus count at the end of a visit, and the endpoint's ledger."""
    composed.up(*SERVICES)
    has_prometheus = bool(shutil.which("prometheus"))
    if has_prometheus:
        composed.up("prometheus")
    go_shopping(composed.url("web"))
    composed.execute("worker", "celery", "segment", "flush", "--timeout", "30")
    text = requests.get(composed.url("metrics") + "/metrics", timeout=5).text
    metrics = figures(text)
    queried = None
    if has_prometheus:
        wait_until(
            lambda: queries(composed)["delivered"] == metrics["delivered"],
            40,  # it scrapes every 15 seconds
            "Prometheus does not come to count what is delivered",
        )
        queried = queries(composed)
    assert composed.stop("segment") == 0
    *_, ledger = composed.log("segment").splitlines()
    counted = r"(\d+) requests?, (\d+) messages? accepted, (\d+) duplicates?, (\d+) violations?"
    requested, accepted, duplicates, violations = map(int, re.fullmatch(counted, ledger).groups())
    assert (duplicates, violations) == (0, 0)
    ledger = {"accepted": accepted, "delivered": accepted, "attempts": requested}
    return SimpleNamespace(ledger=ledger, metrics=metrics, queried=queried)


#: The figures that the endpoint's ledger has as well.
COMPARED = {
    "accepted": "segment_messages_accepted_total",
    "delivered": "segment_messages_delivered_total",
    "attempts": "segment_attempts_total",
}


def figures(text):
    samples = [sample for each in text_string_to_metric_families(text) for sample in each.samples]
    return {
        name: sum(sample.value for sample in samples if sample.name == metric)
        for name, metric in COMPARED.items()
    }


def queries(composed):
    found = {}
    for name, metric in COMPARED.items():
        url = composed.url("prometheus") + "/api/v1/query"
        answer = requests.get(url, {"query": f"sum({metric})"}, timeout=5).json()
        found[name] = sum(float(each["value"][1]) for each in answer["data"]["result"])
    return found


def test_the_metrics_are_the_endpoints_ledger(ledgers):
    assert ledgers.ledger["accepted"] > 0
    assert ledgers.metrics == ledgers.ledger


def test_prometheus_has_the_endpoints_ledger(ledgers):
    if ledgers.queried is None:
        pytest.skip("there is no prometheus on the PATH to scrape the metrics")
    assert ledgers.queried == ledgers.ledger


# ---------------------------------------------------------------- at the end


def test_an_endpoint_that_is_away_is_not_the_workers_fault(up):
    assert up.stop("segment") == 0
    assert not up.health("segment")
    assert up.health("worker")


def test_a_service_stops_when_asked_and_is_unhealthy_then(up):
    for name in ("web", "metrics", "flower", "worker", "segment", "redis"):
        assert up.health(name)
        assert up.stop(name) == 0, up.log(name)[-2000:]
        assert not up.health(name), name
