"""Tokens are got, kept, renewed and forgotten; batches are posted with them, and none is lost."""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import replace
from urllib.parse import parse_qs

import pytest
import time_machine

from authorization import KEY_ID, TOKEN, AuthorizationServer, refusal
from celery_segment import Analytics, ConfigurationError, track
from celery_segment.delivery.attempt import attempt_at_pace, attempt_delivery
from celery_segment.delivery.key import KeyRecord
from celery_segment.delivery.oauth.tokens import Token, Tokens
from celery_segment.runtime import runtime_of
from celery_segment.testing import Reply, SegmentServer
from delivering import source_of
from frames import shown_by, shown_by_logging
from proxies import proxy
from support import (
    WRITE_KEY,
    TLSFront,
    at_once,
    buffer_of,
    free_port,
    in_child,
    let_pass,
    wait_until,
)


@pytest.fixture
def auth():
    with AuthorizationServer() as auth:
        yield auth
        # No assertion is ever used twice, and none was refused that the test did not ask for.
        assert len(auth.assertions) == len({*auth.assertions})


@pytest.fixture
def server(auth):
    with SegmentServer(check_token=auth.check_token, write_keys=[WRITE_KEY]) as server:
        yield server
        assert server.violations == []


@pytest.fixture
def app(make_app, auth):
    return make_app(segment_oauth=auth.oauth(), segment_timeout=2)


@pytest.fixture
def client(auth):
    return Client(auth)


class Client:
    """The tokens of one process, and a source that they are for."""

    def __init__(self, auth, **conf):
        conf = {"segment_timeout": 2, "segment_oauth": auth.oauth(), **conf}
        self.source = source_of("http://127.0.0.1:1", **conf)
        server = self.source.oauth.server_of(self.source.host)
        self.tokens = Tokens(self.source.oauth, server)

    def get(self):
        found = self.tokens.get(self.source)
        return found.text if isinstance(found, Token) else found

    def wait_get(self):
        return wait_until(lambda: isinstance(found := self.get(), str) and found)


class TestTokens:
    def test_one_is_kept_until_half_of_its_life_has_passed(self, auth, client):
        auth.life = 1.0
        before = time.monotonic()
        first = client.get()
        after = asked = time.monotonic()
        while (now := client.get()) == first:
            assert asked < after + 0.5
            time.sleep(0.01)
            asked = time.monotonic()
        assert time.monotonic() >= before + 0.5
        assert now != first
        assert auth.requests == [200, 200]

    def test_where_it_cannot_be_renewed_it_is_used_while_it_is_valid(self, auth, client):
        auth.life = 1.0
        first = client.get()
        end = auth.granted[first]
        auth.always(Reply.status(503))
        wait_until(lambda: len(auth.requests) > 1 or client.get() != first)
        while isinstance(found := client.get(), str):
            assert found == first
            assert time.monotonic() < end
            time.sleep(0.01)
        assert found.wait > 0
        assert "503" in found.cause
        assert len(auth.requests) <= 4, "it backs off"
        auth.always(None)
        assert client.wait_get() != first

    def test_threads_share_one_request(self, auth, client):
        auth.delay = 0.3
        assert len({*at_once(8, client.get)}) == 1
        assert auth.requests == [200]

    def test_while_one_renews_the_others_go_on(self, auth, client):
        first = client.get()
        client.tokens._token = replace(client.tokens._token, renew_at=time.monotonic())
        auth.delay = 1.0
        thread = threading.Thread(target=client.get)
        thread.start()
        wait_until(lambda: len(auth.requests) == 2)
        assert client.get() == first
        assert thread.is_alive()
        thread.join()
        assert client.get() != first

    def test_a_thread_that_waits_in_vain_is_told(self, auth, client):
        auth.delay = 1.0
        thread = threading.Thread(target=client.get)
        thread.start()
        wait_until(lambda: auth.requests)
        found = client.tokens.get(replace(client.source, timeout=0.1))
        assert (found.cause, found.wait) == ("no token: another thread is asking for one", 1)
        thread.join()
        assert client.get().startswith(TOKEN)

    def test_a_forgotten_one_is_replaced_and_not_its_successor(self, client):
        first = client.get()
        client.tokens.forget(first)
        second = client.get()
        assert second != first
        client.tokens.forget(first)
        assert client.get() == second

    def test_a_child_has_its_own(self, auth, app):
        track.delay("u", "E")
        assert deliver(app).text.startswith("delivered")
        track.delay("u", "E")
        assert in_child(lambda: deliver(app).text.startswith("delivered"))
        assert len(auth.granted) == 2

    @pytest.mark.parametrize("ahead", [3_600, -3_600])
    def test_a_servers_clock_that_is_an_hour_off(self, auth, client, ahead):
        auth.ahead = ahead
        assert client.get().startswith(TOKEN)
        assert auth.requests == [400, 200]
        assert client.tokens.skew == pytest.approx(-ahead, abs=3)
        client.tokens.forget(client.get())
        client.get()
        assert auth.requests == [400, 200, 200]

    @pytest.mark.parametrize("hours", [1, -1])
    def test_this_hosts_clock_moves_by_an_hour(self, auth, client, hours):
        first = client.get()
        client.tokens.forget(first)
        # The server shares the process: its clock is put right.
        with time_machine.travel(time.time() + hours * 3_600, tick=True):
            auth.ahead = -hours * 3_600
            assert client.get() != first
        assert auth.requests == [200, 400, 200]

    def test_without_a_date_a_second_refusal_is_final(self, auth, client):
        auth.date, auth.ahead = False, 3_600
        found = client.get()
        assert found.wait is None
        assert "Token is expired); check the clock of this host" in found.cause
        assert auth.requests == [400, 400]

    @pytest.mark.parametrize(
        ("reply", "wait"),
        [
            (Reply.status(429, retry_after=7), 7),
            (Reply.status(429, headers={"X-RateLimit-Reset": "8"}), 8),
            (Reply.status(429), 5),
        ],
    )
    def test_a_429_is_waited_for_and_not_asked_again(self, auth, client, reply, wait):
        auth.reply(reply)
        found = client.get()
        assert found.wait == wait
        assert client.get().wait == pytest.approx(wait, abs=1)
        assert auth.requests == [429]

    def test_after_that_it_is_asked_again(self, auth, client):
        auth.reply(Reply.status(429, headers={"X-RateLimit-Reset": "1"}))
        began = time.monotonic()
        client.wait_get()
        assert time.monotonic() - began >= 1
        assert auth.requests == [429, 200]

    @pytest.mark.parametrize("status", [400, 401, 415, 404])
    def test_a_refusal_is_the_configurations(self, auth, client, status):
        auth.reply(refusal(status, "invalid_client", "who are you"))
        assert client.get().wait is None
        assert client.get().startswith(TOKEN), "what was mended works at the next attempt"

    @pytest.mark.parametrize(
        "reply", [Reply.close(), Reply.reset(), Reply.garbage(), Reply.status(500), Reply.hang(5)]
    )
    def test_what_may_pass_backs_off(self, auth, reply):
        client = Client(auth, segment_timeout=0.5)
        auth.reply(reply)
        found = client.get()
        assert 0 < found.wait < 1
        assert client.get().cause == found.cause
        assert len(auth.requests) == 1
        assert client.wait_get()

    def test_a_redirect_is_not_followed(self, auth, client):
        with AuthorizationServer() as other:
            auth.reply(Reply.redirect(f"{other.url}/token", 307))
            found = client.get()
            assert found.wait is None
            assert "307" in found.cause
            assert other.requests == []

    def test_nobody_listens(self, auth):
        client = Client(
            auth, segment_oauth=auth.oauth(auth_server=f"http://127.0.0.1:{free_port()}")
        )
        found = client.get()
        assert found.wait == pytest.approx(0.5, abs=0.1)
        assert "refused" in found.cause

    def test_a_key_that_was_replaced_in_its_file_is_read_again(self, auth, tmp_path):
        path = tmp_path / "key.pem"
        path.write_text(auth.pem())
        client = Client(auth, segment_oauth=auth.oauth(private_key=str(path)))
        assert client.get().startswith(TOKEN)
        auth.add_key(KEY_ID)  # another key by the same id
        client.tokens.forget(client.get())
        assert client.get().wait is None
        path.write_text(auth.pem())
        assert client.get().startswith(TOKEN)
        path.unlink()
        client.tokens.forget(client.get())
        assert client.get().startswith(TOKEN), "it was read"

    def test_it_goes_the_way_of_the_source(self, auth):
        with proxy() as way:
            port = auth.url.rpartition(":")[2]
            away = {"segment_oauth": auth.oauth(auth_server=f"https://auth.invalid:{port}")}
            client = Client(auth, **away, segment_proxies={"https": way.url("http")})
            assert "SSL" in client.get().cause, "what is behind the proxy speaks none"
            assert way.asked == ["auth.invalid"]

    def test_certificates_are_checked(self, auth, tmp_path):
        with TLSFront(int(auth.url.rpartition(":")[2]), tmp_path) as front:
            auth.audience = f"https://localhost:{front.port}"
            setting = {"segment_oauth": auth.oauth(auth_server=auth.audience)}
            assert "CERTIFICATE" in Client(auth, **setting).get().cause
            bundle = str(front.bundle)
            assert Client(auth, **setting, segment_ca_bundle=bundle).get().startswith(TOKEN)


def claimed(app):
    """Return the buffer, and the id of a batch that was claimed."""
    buffer = buffer_of(app)
    (batch,) = buffer.claim(1)
    return buffer, batch.id


def deliver(app, key=None):
    """Claim a batch, and attempt its delivery."""
    return attempt_delivery(*claimed(app), key)


def milliseconds(redis):
    """Return the server's time, as its scripts know it."""
    seconds, microseconds = redis.time()
    return seconds * 1_000 + microseconds // 1_000


class TestAttempts:
    def test_a_batch_is_posted_with_a_token_and_the_write_key_in_its_body(self, app, auth, server):
        for gzip in (True, False):
            track.delay("u", "E", source="default")
            assert deliver(app).text.startswith("delivered 1 message"), gzip
        (first, second) = server.requests
        assert [r.scheme for r in server.requests] == ["bearer", "bearer"]
        assert first.write_key == second.write_key == WRITE_KEY
        assert len(auth.granted) == 1

    @pytest.mark.parametrize("status", [401, 403, 511])
    def test_a_refused_token_is_replaced_and_the_same_batch_posted_again(
        self, app, auth, server, status
    ):
        message_id = track.delay("u", "E").id
        server.reply(Reply.status(status))
        assert deliver(app).text.startswith("delivered")
        assert [r.status for r in server.requests] == [status, 200]
        assert [r.message_ids for r in server.requests] == [(message_id,)] * 2
        assert [r.retry_count for r in server.requests] == [0, 1]
        assert len(auth.used) == len(auth.granted) == 2
        assert Analytics().stats().retries == 0

    @pytest.mark.parametrize(("rate", "counted"), [(1.25, 2), (0.1, 1)])
    def test_what_is_posted_again_keeps_to_the_rate_unless_that_takes_too_long(
        self, app, redis, server, rate, counted
    ):
        app.conf.segment_max_requests_per_second = rate
        track.delay("u", "E")
        server.reply(Reply.status(401))
        began, each = milliseconds(redis), 1_000 / rate
        pace = runtime_of(app).pace
        assert attempt_at_pace(pace, 0, *claimed(app)).text.startswith("delivered")
        assert [r.status for r in server.requests] == [401, 200]
        took = milliseconds(redis) - began
        assert (counted - 1) * each <= took < 2_000
        next_at = float(redis.get("{segment:}:pace")) - began
        assert counted * each <= next_at < (counted + 1) * each

    @pytest.mark.parametrize(
        ("status", "text"), [(401, "401 Unauthorized"), (403, "403"), (511, "511")]
    )
    def test_twice_refused_it_is_as_ever(self, app, server, status, text):
        track.delay("u", "E")
        server.always(Reply.status(status))
        assert deliver(app).text.startswith(text)
        assert [r.status for r in server.requests] == [status, status]
        stats = Analytics().stats()
        assert (stats.waiting, stats.dead.messages) == (1, 0)

    def test_other_statuses_keep_the_token(self, app, auth, server):
        track.delay("u", "E")
        server.reply(Reply.status(500))
        deliver(app)
        assert len(server.requests) == 1
        track.delay("u", "E")
        assert deliver(app).text.startswith("delivered")
        assert len(auth.granted) == 1

    def test_a_429_for_a_token_closes_the_source_for_its_wait(self, app, auth, server):
        track.delay("u", "E")
        auth.reply(Reply.status(429, retry_after=200))
        report = deliver(app)
        assert report.retry_in == pytest.approx(200, abs=1)
        gate = Analytics().stats().gate
        assert gate.state == "closed"
        assert "429 Too Many Requests" in gate.reason
        assert server.requests == []
        assert Analytics().stats().attempts == {}

    def test_refused_credentials_close_the_gate_and_bury_nothing(self, app, auth, server, redis):
        for _ in range(3):
            track.delay("u", "E")
        batch = claimed(app)
        for status in (400, 401, 415) * 7:
            auth.always(refusal(status, "invalid_client", "unknown key"))
            report = attempt_delivery(*batch)
            assert "check segment_oauth" in report.text
            assert report.rests_for
            assert Analytics().stats().gate.refused
            let_pass(redis, 43_200)
        stats = Analytics().stats()
        assert (stats.waiting, stats.dead.messages) == (3, 0)
        assert server.requests == []
        auth.always(None)
        assert attempt_delivery(*batch).text.startswith("delivered 3 messages")

    def test_a_server_that_is_away_buries_nothing_either(self, app, auth, redis):
        for _ in range(3):
            track.delay("u", "E")
        auth.always(Reply.status(500))
        batch = claimed(app)
        for _ in range(20):
            assert attempt_delivery(*batch).retry_in > 0
            let_pass(redis, 43_200)
        stats = Analytics().stats()
        assert (stats.waiting, stats.dead.messages) == (3, 0)

    def test_a_worker_whose_key_is_revoked_leaves_the_source_to_others(
        self, make_app, app, auth, redis
    ):
        auth.add_key("new")
        other = make_app(segment_oauth=auth.oauth("new"), segment_timeout=2)
        auth.remove_key(KEY_ID)
        track.delay("u", "E")
        batch, key = claimed(app), KeyRecord()
        assert attempt_delivery(*batch, key).rests_for
        let_pass(redis, 6)
        assert attempt_delivery(buffer_of(other), batch[1]).text.startswith("delivered")
        track.delay("u", "E")
        report = deliver(app, key)
        assert report.text.startswith("put back: no token: the authorization server answers 401")
        assert report.rests_for == 30
        assert Analytics().stats().gate.state == "open"
        assert deliver(other).text.startswith("delivered")
        assert len(auth.requests) == 3

    def test_sources_with_the_same_credentials_share_a_token(self, make_app, auth, server):
        sources = {"a": {"write_key": WRITE_KEY}, "own": {"write_key": WRITE_KEY, "oauth": None}}
        make_app(segment_oauth=auth.oauth(), segment_sources=sources, segment_timeout=2)
        for source in ("default", "a", "own"):
            track.delay("u", "E", source=source)
            assert Analytics(source).deliver(timeout=5) == 0
        assert [r.scheme for r in server.requests] == ["bearer", "bearer", "basic"]
        assert len(auth.granted) == 1

    def test_a_wrong_key_is_told_before_anything_is_delivered(self, make_app, auth):
        make_app(segment_oauth=auth.oauth(private_key="/nowhere/key.pem"))
        track.delay("u", "E")
        with pytest.raises(ConfigurationError, match="private_key in segment_oauth of source"):
            Analytics().deliver(timeout=5)
        assert Analytics().stats().waiting == 1


class TestFrames:
    @pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
    def test_neither_key_nor_token_nor_assertion_is_shown(self, app, auth, server, status):
        def quote(_request):
            return Reply.status(status, body=f"I refuse {[*auth.granted]} of {WRITE_KEY}")

        server.rule(quote)
        track.delay("u", "E")
        with shown_by_logging() as shown:
            report = deliver(app)
        assert auth.granted
        check(auth, [("report", repr(report)), *shown])

    def test_what_the_authorization_server_quotes_is_not_shown(self, app, auth):
        def quote(*_):
            auth.assertions.append(_assertion_of(_[-1]))
            return refusal(400, "invalid_request", auth.assertions[-1])

        auth._verified = quote
        track.delay("u", "E")
        with shown_by_logging() as shown:
            report = deliver(app)
        assert "400 Bad Request" in report.text
        check(auth, [("report", repr(report)), *shown])

    @pytest.mark.parametrize("where", ["HTTPConnection.send", "HTTPResponse.begin"])
    def test_no_frame_of_a_request_for_a_token_shows_it(self, app, auth, monkeypatch, where):
        def fail(*_, **__):
            raise Unforeseen

        track.delay("u", "E")
        monkeypatch.setattr(f"http.client.{where}", fail)
        with pytest.raises(Unforeseen) as caught:
            deliver(app)
        check(auth, shown_by(caught.value, all_frames=True))
        functions = {frame.name for frame in traceback.extract_tb(caught.value.__traceback__)}
        assert {"_ask", "_exchange"} <= functions

    @pytest.mark.parametrize("name", ["jwt.encode", "uuid.uuid4"])
    def test_nor_one_of_its_signing(self, app, auth, monkeypatch, name):
        def fail(*_, **__):
            raise Unforeseen

        track.delay("u", "E")
        monkeypatch.setattr("celery_segment.delivery.oauth.assertion.uuid4", fail)
        if name == "jwt.encode":
            monkeypatch.undo()
            monkeypatch.setattr(name, fail)
        with pytest.raises(Unforeseen) as caught:
            deliver(app)
        check(auth, shown_by(caught.value, all_frames=True))


class Unforeseen(BaseException):
    """What nothing catches, such as a soft time limit or the end of a greenlet."""


def _assertion_of(data):
    return parse_qs(data.decode())["client_assertion"][0]


def check(auth, shown):
    lines = [line for line in auth.pem().splitlines() if "-----" not in line]
    secrets = [*lines, *auth.granted, *auth.assertions, WRITE_KEY]
    shown = list(shown)
    assert shown
    for place, text in shown:
        for secret in secrets:
            assert secret not in text, f"{secret} is in {place}"
