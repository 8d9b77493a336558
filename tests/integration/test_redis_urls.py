"""Where Celery connects to its broker, the buffer connects as well: kombu is asked first."""

from __future__ import annotations

import asyncio
import ssl
import time
from functools import partial

import pytest
from celery import Celery
from redis.credentials import CredentialProvider

from celery_segment import BufferUnavailable, ConfigurationError
from celery_segment.aio.bridge import run
from celery_segment.aio.loop import OnLoop
from celery_segment.buffer.address import address_of
from celery_segment.config import load
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis
from celery_segment.worker.ticker import Ticker
from support import TLSFront, free_port


class Login(CredentialProvider):
    """Credentials as a cloud's provider gives them: never in a URL."""

    def get_credentials(self):
        return "app", "p@:/w"


class ProviderError(Exception):
    """An error of a cloud's own library."""


class Expired(CredentialProvider):
    """A provider that has lost its own credentials."""

    def get_credentials(self):
        raise ProviderError("the token s3cret has expired")


class Unmade(CredentialProvider):
    def __init__(self):
        raise ProviderError("the token s3cret has expired")


LOGIN, EXPIRED, UNMADE = (f"{__name__}.{name}" for name in ("Login", "Expired", "Unmade"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A Redis with an ACL user behind TCP, a unix socket, and TLS."""
    folder = tmp_path_factory.mktemp("redis")
    config = {"unixsocket": str(folder / "redis.sock")}
    with (
        EmbeddedRedis(password="s3cret", appendonly=False, config=config) as own,
        TLSFront(own.port, folder) as front,
    ):
        client = own.client()
        client.acl_setuser(
            "app",
            enabled=True,
            passwords=["+p@:/w"],
            keys=["*"],
            commands=["+@all"],
            channels=["*"],
        )
        client.close()
        yield {
            "tcp": f"127.0.0.1:{own.port}",
            "tls": f"localhost:{front.port}",
            "sock": config["unixsocket"],
            "ca": str(front.bundle),
            "away": f"127.0.0.1:{free_port()}",
        }


#: A broker's URL or URLs, and broker_use_ssl or other settings.
BROKERS = [
    ("redis://:s3cret@{tcp}/1", {}),
    ("redis://app:p%40%3A%2Fw@{tcp}", {}),
    ("redis://{tcp}/1", {"broker_user": "app", "broker_password": "p@:/w"}),
    ("redis://{tcp}/1?credential_provider=" + LOGIN, {}),
    ("redis://other:wrong@{tcp}/1?credential_provider=" + LOGIN, {}),
    ("redis+socket://app:p%40%3A%2Fw@{sock}", {}),
    ("redis+socket://app:p%40%3A%2Fw@{sock}?virtual_host=1", {}),
    ("redis+socket://{sock}?virtual_host=1&credential_provider=" + LOGIN, {}),
    ("redis://:s3cret@{tcp}/1;redis://{away}/0", {}),
    (["redis://:s3cret@{tcp}/1", "amqp://{away}"], {}),
    ("redis://:s3cret@{tcp}/1", {"broker_use_ssl": True}),
    ("redis://:s3cret@{tcp}/1", {"broker_use_ssl": {}}),
    (
        "redis://:s3cret@{tcp}/1",
        {
            "broker_transport_options": {
                "visibility_timeout": 60,
                "global_keyprefix": "shop:",
                "socket_timeout": 5,
                "socket_keepalive": True,
                "max_connections": 20,
                "client_name": "shop",
            }
        },
    ),
    ("rediss://:s3cret@{tls}/1", {}),
    ("rediss://:s3cret@{tls}/1?ssl_cert_reqs=none", {}),
    ("rediss://:s3cret@{tls}/1?ssl_cert_reqs=CERT_NONE&ssl_check_hostname=false", {}),
    ("rediss://:s3cret@{tls}/1?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={ca}", {}),
    ("redis://:s3cret@{tls}/1?ssl_ca_certs={ca}", {}),
    ("rediss://:s3cret@{tls}/1?ssl_cert_reqs=required&ssl_ca_certs={ca}", {"broker_use_ssl": True}),
    *(
        (f"{scheme}://:s3cret@{{tls}}/1", {"broker_use_ssl": options})
        for scheme in ("redis", "rediss")
        for options in (
            {"ssl_cert_reqs": None},
            {"ssl_cert_reqs": 0},
            {"ssl_cert_reqs": "none"},
            {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_min_version": ssl.TLSVersion.TLSv1_2},
            {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "{ca}", "ssl_keyfile": None},
            {"ssl_cert_reqs": "required", "ssl_ca_certs": "{ca}", "ssl_check_hostname": False},
            {
                "ssl_ca_certs": "{ca}",
                "ssl_include_verify_flags": [ssl.VerifyFlags.VERIFY_X509_STRICT],
            },
            {"ssl_ca_certs": "{ca}", "ssl_ciphers": "ECDHE+AESGCM"},
        )
    ),
]


def filled(value, place):
    match value:
        case str():
            return value.format(**place)
        case dict():
            return {key: filled(each, place) for key, each in value.items()}
        case list() if value and isinstance(value[0], str):
            return [filled(each, place) for each in value]
        case _:
            return value


@pytest.fixture
def application():
    made = []

    def make(**conf):
        app = Celery("tests", set_as_current=False)
        app.conf.update(conf)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


def ping(app):
    topology = runtime_of(app).topology
    try:
        return topology.server("").execute("PING")
    finally:
        topology.close()


async def aping(app):
    runtime = runtime_of(app).on_loop()
    return await run(runtime.topology.server("").execute, "PING")


@pytest.mark.parametrize(("broker", "conf"), BROKERS)
def test_where_celery_connects_the_buffer_does(application, place, broker, conf):
    app = application(broker_url=filled(broker, place), **filled(conf, place))
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        assert channel.client.ping()
        database = channel.client.connection_pool.connection_kwargs["db"]
    assert ping(app) == b"PONG"
    assert asyncio.run(aping(app)) == b"PONG"
    assert runtime_of(app).topology.database == database


@pytest.mark.parametrize(
    "query",
    [
        "ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={ca}",
        "ssl_cert_reqs=CERT_NONE",
        "ssl_cert_reqs=none&ssl_min_version=771",
        "ssl_ca_certs={ca}&visibility_timeout=60&global_keyprefix=shop&socket_timeout=5",
        "ssl_ca_certs={ca}&protocol=3&decode_responses=true&health_check_interval=5&timeout=1",
    ],
)
def test_a_url_of_ones_own(application, place, query):
    url = f"rediss://:s3cret@{place['tls']}/1?{filled(query, place)}"
    assert ping(application(broker_url="memory://", segment_redis_url=url)) == b"PONG"


def test_a_url_of_ones_own_with_a_credential_provider(application, place):
    for url in (f"redis://{place['tcp']}/1?", f"unix://{place['sock']}?db=1&"):
        app = application(segment_redis_url=f"{url}credential_provider={LOGIN}")
        assert ping(app) == b"PONG"
        assert asyncio.run(aping(app)) == b"PONG"


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_redis_py_reads_its_version_from_a_file_once(scheme):
    address = address_of(f"{scheme}://h:1/0", {})
    one, other = address.connection(1), address.connection(1)
    assert one.driver_info is other.driver_info
    on_loop = address_of(f"{scheme}://h:1/0", {}, waits=OnLoop(None))
    assert on_loop.arguments["driver_info"].lib_version == one.driver_info.lib_version


class Slow(CredentialProvider):
    """A provider that asks somebody else, and waits."""

    def get_credentials(self):
        time.sleep(0.2)
        return "app", "p@:/w"


class Awaited(CredentialProvider):
    """A provider for event loops."""

    async def get_credentials_async(self):
        await asyncio.sleep(0)
        return "app", "p@:/w"


@pytest.mark.parametrize("name", ["Slow", "Awaited"])
def test_a_provider_does_not_hold_up_an_event_loop(application, place, name):
    url = f"redis://{place['tcp']}/1?credential_provider={__name__}.{name}"
    app = application(segment_redis_url=url)
    gaps = []

    async def watch():
        last = time.monotonic()
        while True:
            await asyncio.sleep(0)
            gaps.append(time.monotonic() - last)
            last += gaps[-1]

    async def main():
        watching = asyncio.create_task(watch())
        assert await aping(app) == b"PONG"
        watching.cancel()

    asyncio.run(main())
    assert max(gaps) < 0.15


def test_what_is_checked_in_threads_alone_is_refused_on_a_loop(application, place):
    url = f"rediss://:s3cret@{place['tls']}/1?ssl_validate_ocsp_stapled=true"
    app = application(segment_redis_url=url)
    with pytest.raises(ConfigurationError, match="have no ssl_validate_ocsp_stapled"):
        asyncio.run(aping(app))


@pytest.fixture
def expired(application, place):
    """Make applications whose provider of credentials fails."""
    url = f"redis://{place['tcp']}/1?credential_provider={EXPIRED}"
    return partial(application, segment_redis_url=url)


def test_a_provider_that_fails_is_a_redis_that_is_unavailable(expired):
    call = expired().tasks["segment.track"]
    for _ in range(2):
        with pytest.raises(BufferUnavailable, match="raises ProviderError") as raised:
            call.delay("u", "E")
        assert "s3cret" not in str(raised.value)
        with pytest.raises(BufferUnavailable, match="raises ProviderError") as raised:
            asyncio.run(call.adelay("u", "E"))
        assert "s3cret" not in str(raised.value)
    expired(segment_on_unavailable="drop").tasks["segment.track"].delay("u", "E")


def test_a_provider_that_fails_does_not_end_the_tick(expired):
    runtime = runtime_of(expired())
    ticker = Ticker(runtime.settings.enabled, runtime.connect(1.0), 0.25, 1.0)
    assert ticker.tick() == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://:s3cret@h/0?socket_timeuot=3", "no parameter 'socket_timeuot'"),
        ("redis://:s3cret@h/0?ssl_ca_certs=ca", "'ssl_ca_certs' without TLS"),
        ("unix:///run/r.sock?virtual_host=1", "no parameter 'virtual_host'"),
        ("rediss://:s3cret@h/0?ssl_cert_reqs=sometimes", "(?i)ssl certificate requirements"),
        ("redis://h/0?db=first", "'db'"),
        ("redis://h/0?credential_provider=no.such.Class", "credential_provider cannot be imported"),
        ("redis://h/0?credential_provider=ssl.SSLError", "credential_provider must be"),
        (f"redis://h/0?credential_provider={UNMADE}", "credential_provider raises ProviderError"),
    ],
)
def test_a_url_that_is_not_understood_is_told_by_its_parameter(application, url, told):
    with pytest.raises(ConfigurationError, match=told) as caught:
        _ = runtime_of(application(segment_redis_url=url)).topology
    assert "s3cret" not in str(caught.value)


def test_no_option_shows_in_the_settings():
    conf = {"broker_url": "redis://h", "broker_use_ssl": {"ssl_password": "s3cret"}}
    assert "s3cret" not in repr(load(conf, {}))
