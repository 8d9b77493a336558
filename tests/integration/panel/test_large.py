"""The panel of a source with 100,000 dead letters."""

from __future__ import annotations

import time

import pytest

from celery_segment.buffer import keys
from panels import bury, visitor_of

LETTERS = 100_000
#: Seconds in which a page answers.
GOAL = 0.3

#: Have ARGV[1] dead letters more, each like ARGV[2], a second apart; without their messages.
_MULTIPLY = """
local source, count, id, part = KEYS[1], tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local meta, sets = source .. ':meta:', {source .. ':dead'}
for messages, group in string.gmatch(redis.call('HGET', meta .. id, 'kinds'), '%w+ (%d+) (%w+)') do
  redis.call('HINCRBY', source .. ':groups', group .. ':messages', messages * count)
  sets[#sets + 1] = source .. ':dead:' .. group
end
local at = tonumber(redis.call('ZSCORE', sets[1], id))
local total = redis.call('HMGET', meta .. id, 'count', 'bytes')
for i = part * count + 1, (part + 1) * count do
  redis.call('COPY', meta .. id, meta .. id .. '.' .. i)
  for _, set in ipairs(sets) do
    redis.call('ZADD', set, at - i * 1000, id .. '.' .. i)
  end
end
redis.call('HINCRBY', source .. ':groups', 'letters', count)
redis.call('HINCRBY', source .. ':stats', 'dead', total[1] * count)
redis.call('HINCRBY', source .. ':stats', 'dead_bytes', total[2] * count)
"""
#: How many at a time: a script that runs for seconds has Redis refuse other clients.
PART = 10_000


@pytest.fixture
def letter(app, redis):
    bury(app, "Other", reason="HTTP 413 Payload Too Large")
    batch = bury(app, "Order Completed", "Signed Up", words="bad timestamp")
    for part in range(LETTERS // PART):
        redis.eval(_MULTIPLY, 1, keys.prefix("default"), PART, batch, part)
    return batch


def test_each_page_answers_at_once(app, letter):
    visitor = visitor_of(app)
    dead = visitor.open("/sources/default/dead")
    assert "200,003 messages in 100,002 batches" in dead.text, dead.text[:300]
    group = next(link for text, link in dead.links.items() if "Signed Up" in text)
    for path in (
        "/", "/sources/default", "/sources/default/dead", f"/sources/default/dead/{letter}",
        group.partition("#")[0], dead.links["Older"].partition("#")[0],
        "/sources/default/dead?reason=timestamp", "/sources/default/dead?reason=nowhere",
        "/sources/default/dead?reason=413&since=900d", "/sources/default/dead?until=2h",
    ):  # fmt: skip
        visitor.open(path)
        began = time.perf_counter()
        answer = visitor.get(path)
        took = time.perf_counter() - began
        assert answer.status_code == 200
        assert took <= GOAL, f"{path}: {took * 1000:.0f} ms"
