"""Every service of docker-compose.yml at work, and its health check, as processes: see composed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

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


@pytest.fixture
def composed(tmp_path):
    with Composed(tmp_path, SECRETS) as composed:
        yield composed


def test_every_service_at_work(composed):
    """One test: each start of them all takes as long as everything that is asked of them."""
    composed.up(*SERVICES)
    no_secret_is_in_the_list_of_processes(composed)
    redis_is_fit_for_a_buffer(composed)
    flower_asks_for_its_password_and_knows_the_worker(composed)
    the_metrics_are_the_endpoints_ledger(composed)
    a_wrong_password_is_unhealthy(composed)
    an_endpoint_that_is_away_is_not_the_workers_fault(composed)
    composed.up("segment")
    a_service_stops_when_asked_and_is_unhealthy_then(composed)


# ---------------------------------------------------------------- while they run


def arguments_of(folder, groups):
    """Return what anyone may read of a process of these groups."""
    try:
        process = int(folder.name)
        return (folder / "cmdline").read_bytes() if os.getpgid(process) in groups else None
    except OSError:  # it has ended
        return None


def no_secret_is_in_the_list_of_processes(up):
    groups = {process.pid for process in up.processes.values()}
    all_of_them = [arguments_of(folder, groups) for folder in Path("/proc").glob("[0-9]*")]
    found = [arguments for arguments in all_of_them if arguments]
    assert len(found) > len(groups)
    for arguments in found:
        assert not any(secret.encode() in arguments for secret in SECRETS.values())


def redis_is_fit_for_a_buffer(up):
    shown = up.execute("worker", "celery", "segment", "check", "--no-endpoint")
    states = {line.split()[2]: line.split()[0] for line in shown.splitlines()}
    for name in ("redis", "eviction", "aof", "fsync", "workers"):
        assert states[name] == "ok", shown


def a_wrong_password_is_unhealthy(up):
    assert not up.health("redis", REDISCLI_AUTH="another")
    url = up.services["worker"]["environment"]["REDIS_URL"]
    assert SECRETS["REDIS_PASSWORD"] in url
    wrong = url.replace(SECRETS["REDIS_PASSWORD"], "another")
    assert not up.health("worker", REDIS_URL=wrong)
    assert up.health("redis")
    assert up.health("worker")


def flower_asks_for_its_password_and_knows_the_worker(up):
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


def visited(composed):
    """Return what the metrics count at the end of a visit."""
    go_shopping(composed.url("web"))
    composed.execute("worker", "celery", "segment", "flush", "--timeout", "30")
    return figures(requests.get(composed.url("metrics") + "/metrics", timeout=5).text)


def ledger_of(composed):
    """Return the figures of the endpoint's ledger, which it logs as it stops."""
    assert composed.stop("segment") == 0
    *_, ledger = composed.log("segment").splitlines()
    counted = r"(\d+) requests?, (\d+) messages? accepted, (\d+) duplicates?, (\d+) violations?"
    requested, accepted, duplicates, violations = map(int, re.fullmatch(counted, ledger).groups())
    assert (duplicates, violations) == (0, 0)
    assert accepted > 0
    return {"accepted": accepted, "delivered": accepted, "attempts": requested}


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


def the_metrics_are_the_endpoints_ledger(up):
    metrics = visited(up)
    assert metrics == ledger_of(up)


@pytest.mark.skipif(
    not shutil.which("prometheus"),
    reason="there is no prometheus on the PATH to scrape the metrics",
)
def test_prometheus_has_the_endpoints_ledger(composed):
    composed.up(*SERVICES, "prometheus")
    delivered = visited(composed)["delivered"]
    wait_until(
        lambda: queries(composed)["delivered"] == delivered,
        40,  # it scrapes every 15 seconds
        "Prometheus does not come to count what is delivered",
    )
    queried = queries(composed)
    assert queried == ledger_of(composed)


# ---------------------------------------------------------------- at the end


def an_endpoint_that_is_away_is_not_the_workers_fault(up):
    assert up.processes["segment"].poll() == 0
    assert not up.health("segment")
    assert up.health("worker")


def a_service_stops_when_asked_and_is_unhealthy_then(up):
    for name in ("web", "metrics", "flower", "worker", "segment", "redis"):
        assert up.stop(name) == 0, up.log(name)[-2000:]
        assert not up.health(name), name
