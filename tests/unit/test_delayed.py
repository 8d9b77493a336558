"""Task messages that RabbitMQ holds until they are due."""

from __future__ import annotations

from datetime import timedelta

import pytest
from celery import Celery
from kombu import Exchange, Queue
from kombu.transport.native_delayed_delivery import calculate_routing_key

from celery_segment.calls.delayed import holdable, origin_queue

QUORUM = {"task_default_queue_type": "quorum", "task_default_exchange_type": "topic"}


@pytest.fixture
def make_app():
    made = []

    def make(broker="amqp://", **conf):
        app = Celery("delayed", broker=broker, set_as_current=False)
        app.conf.update(conf)
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


class TestHoldable:
    @pytest.mark.parametrize("seconds", [0.001, 0.5, 0.999])
    def test_less_than_a_second_is_one(self, make_app, seconds):
        app = make_app(**QUORUM)
        assert holdable(app, {"countdown": seconds, "queue": "q"}) == {
            "countdown": 1,
            "eta": None,
            "queue": "q",
        }
        # What Celery makes of it can be published.
        assert calculate_routing_key(1, "q").endswith(".1.q")
        with pytest.raises(ValueError, match="must be a positive number"):
            calculate_routing_key(int(seconds), "q")

    @pytest.mark.parametrize("form", [lambda eta: eta, lambda eta: eta.isoformat()])
    def test_a_time_within_the_next_second_is_one(self, make_app, form):
        app = make_app(**QUORUM)
        options = holdable(app, {"eta": form(app.now() + timedelta(seconds=0.5))})
        assert options == {"countdown": 1, "eta": None}
        later = {"eta": form(app.now() + timedelta(seconds=5))}
        assert holdable(app, later) == later

    @pytest.mark.parametrize(
        "options", [{}, {"countdown": 0}, {"countdown": None}, {"countdown": 1}, {"countdown": 7.5}]
    )
    def test_others_stay_as_they_are(self, make_app, options):
        assert holdable(make_app(**QUORUM), options) is options

    def test_other_queues_and_brokers_wait_exactly(self, make_app):
        options = {"countdown": 0.5}
        assert holdable(make_app(), options) is options
        assert holdable(make_app("memory://", **QUORUM), options) is options


class TestOriginQueue:
    @pytest.fixture
    def origin(self, make_app):
        queues = [
            Queue("celery", Exchange("celery", "topic"), "celery"),
            Queue("analytics", Exchange("all", "topic"), "for.analytics"),
            Queue("mail", Exchange("all", "topic"), "for.mail"),
        ]
        app = make_app(task_queues=queues)

        @app.task(bind=True, shared=False)
        def runs(self, delivery_info):
            self.request.delivery_info = delivery_info
            return origin_queue(self)

        return runs

    @pytest.mark.parametrize("times", [1, 2, 3])
    def test_a_message_that_was_held_is_of_the_queue_that_it_was_published_to(self, origin, times):
        key = "for.analytics"
        for _ in range(times):  # each retry is held again
            key = calculate_routing_key(5, key)
        held = {"exchange": "celery_delayed_delivery", "routing_key": key}
        assert origin(held) == "analytics"

    def test_a_message_through_an_exchange_is_of_the_queue_that_is_bound_to_it(self, origin):
        through = {"exchange": "all", "routing_key": "for.mail"}
        assert origin(through) == "mail"

    @pytest.mark.parametrize(
        "delivery_info",
        [
            None,
            {},
            {"exchange": "", "routing_key": "analytics"},
            {"exchange": "all", "routing_key": ""},
            {"exchange": "all", "routing_key": "for.others"},
            {"exchange": "other", "routing_key": "for.mail"},
        ],
    )
    def test_others_are_left_to_celery(self, origin, delivery_info):
        assert origin(delivery_info) is None
