"""A process that numbers the events of each of its users: for tests/topologies/test_shards.py."""

from __future__ import annotations

import json
import os
import sys

from celery_segment import Analytics, track
from support import new_app

USERS, BLOCK = 500, 100


def main(process: int, events: int) -> None:
    """Track events, a block in one round trip; the message id of each tells user and number."""
    app = new_app(json.loads(os.environ["TESTS_CONF"]))
    app.set_current()
    analytics = Analytics(app=app)
    for first in range(0, events, BLOCK):
        with analytics.batch():
            for n in range(first, min(first + BLOCK, events)):
                user = f"user-{process}-{n % USERS}"
                number = n // USERS + 1
                track.delay(user, "Event", {"n": number}, message_id=f"{user}:{number}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
