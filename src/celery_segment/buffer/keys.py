"""The buffer's keys, all of them, and what each holds.

Every key of a source starts with its prefix, ``{segment:<source>}``; where there is a
namespace, ``{segment:<namespace>:<source>}``. The braces
are a Redis Cluster hash tag: one source's keys share a slot, so a script may
touch them all. A source with several shards has all this once for each: for the first one with the
prefix of the source, for shard 2 with ``{segment:<source>/2/<n>}``, where a number n is chosen so
that the shards are in slots that are far from each other. Times are milliseconds of the server's
clock.

    :open        string  the open batch, which is being filled: its messages as JSON, each with
                         a comma behind it
    :count       string  how many messages the open batch holds; 2^40 more while calls are
                         refused, since Redis is too full
    :state       hash    since (time of the open batch's first message); sequence (the last
                         batch id); compressed (the batch number up to which a backlog is
                         compressed); numbers in a row: failures, and pauses after failures
                         (trips) and after refusals, and why the source was closed the last
                         time (tripped_cause). Until when the endpoint asked for a wait
                         (asked, asked_cause). Of drains: ticked (time of the last that
                         a tick started), unanswered (how many of them have not begun). Of
                         concurrent requests: limit, threshold (up to which it grows fast),
                         halved (time), latency and fastest (of the answers). Of a move to
                         another source: origin (a random name), mover and moves (numbers),
                         moving (the number, what is moved, its id). received: how many batches
                         were moved to this source. owner: the name of the application whose
                         worker was the first. format: in which all this is stored: see ``formats``
    :ready       zset    sealed batches by number, the oldest first
    :inflight    zset    claimed batches by the end of their lease
    :retrying    zset    batches that wait for a retry, by its time
    :waiting     zset    claimed batches whose delivery has not begun, by number
    :dead        zset    dead letters by the time they were given up
    :dead:<id>   zset    those of one group
    :groups      hash    of the groups of dead letters: the title of each by its id (its reason,
                         type and event as JSON); letters is how many dead letters are in any. A
                         letter is in a group for each kind of its messages; see ``groups``
    :grouped     zset    the ids of the groups by how many messages of dead letters are in each
    :batches     zset    the ids of all batches whose messages are stored, wherever they are, in
                         the order of their bytes: all scores are 0
    :batch:<id>  string  a sealed batch's messages, as in :open, or compressed (see ``body``)
    :callbacks   hash    of the open batch: the messages' callbacks, by the message's place in
                         the batch, from 1 on
    :callbacks:<id> hash the same of a sealed batch
    :traces      hash    of the open batch: the trace contexts of its first messages, by place
    :traces:<id> hash    the same of a sealed batch
    :settled     zset    batches whose callbacks have not run yet, as delivered:<id>, dead:<id>
                         or damaged:<id>, by the time from which another worker may run them;
                         those of deleted messages as forgotten:<id>:<bytes before>
    :settled:<name> hash such a batch: its callbacks; batch, count, bytes; token of the one who
                         calls them; cause unless it was delivered; reported when the source's own
                         callback has run
    :meta:<id>   hash    count, bytes, since (time of its first message), sealed (time); token of
                         the holder; attempts (counted), requests (all), began (first request);
                         failed (first failure), refusals; cause of the last failure; buried;
                         saved (by compression). Of a dead letter: kinds, which has for each kind
                         of its messages the kind's digest, how many messages, and the group's id;
                         while it is moved to another source, also title:<group>. Where it was
                         lost: lost (the place in which the figures still count it)
    :gate        string  why the source is closed; expires when it opens
    :paused      string  exists while an operator has closed the source
    :probe       string  the batch that asks whether a failing endpoint is back
    :looked      string  exists for a second after a refused call looked how full Redis is
    :tail        zset    who follows the source, by random names, and the number of the last batch
                         that each has read; expires
    :tailed:<id> string  a copy of a sealed batch that they have not read yet, as in :open; expires
    :stats       hash    messages, each with <name>_bytes: accepted (without those in :open),
                         delivered, purged and damaged in total; ready, inflight (:retrying
                         among them) and dead at present.
                         Totals: delivered_batches, buried, retries, splits, takeovers,
                         dropped_full, dropped_unavailable, dropped_unknown, attempts:<status>.
                         refused_callbacks, violations:<rule>. last_delivered: a time;
                         saved_bytes: what compression saves in ready and inflight. Of the latencies
                         of delivered messages: latency:<number of a bucket>, from 1 on, and
                         latency_sum, milliseconds: see ``latency``
    :violations  hash    how many messages violated the tracking plan in which way: by a JSON list
                         of their type, event, path and rule; by '' those of the other ways, once
                         there are too many. Likewise in :totals, as violation:<the list>
    :history:<n> hash    what was counted in the five minutes of that number since the epoch:
                         accepted, delivered, buried, attempts:<status>, latency:<number>,
                         latency_sum; expires a day after their end
    :totals      hash    :stats, or a :history:<n>, while it is moved to another source
    :origins     hash    for each source that was moved to this one, by its name as an origin:
                         the numbers of the last mover and of the last move, and a digest of what
                         that had. It stays for good: a mover that was stopped, and goes on much
                         later, doubles nothing

A batch's id is its number in the source; the halves of batch 7 are 7.1 and 7.2.
One that was moved from another source is 0.000000001 and so on.

All sources share two keys, which start with the prefix of a source without a name:

    {segment:}:pace    string  the time at which the next request may be made; expires
    {segment:}:sources hash    when a worker that delivers a source was last started, by the
                               source's name, or its shard's: see ``sources``
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import count

from celery_segment.config import Source

__all__ = ["batch_key", "prefix", "prefix_of", "shard_cells", "shard_name_in"]

#: The slots of a Redis Cluster, and in how many cells they are divided to spread shards.
_SLOTS, _CELLS = 16_384, 12


def prefix(name: str, namespace: str = "") -> str:
    """Return what every key of a source with one shard starts with; of what all share, with ""."""
    return f"{{{_tag(name, namespace)}}}"


def prefix_of(source: Source) -> str:
    """Return what every key of a source's shard starts with."""
    return _prefix_of(source.name, source.shard, source.namespace)


@lru_cache(maxsize=1_024)
def _prefix_of(name: str, shard: int, namespace: str) -> str:
    first = _tag(name, namespace)
    if not shard:
        return f"{{{first}}}"
    cell = shard_cells(_cell(first))[shard % _CELLS]
    tags = (f"{first}/{shard}/{number}" for number in count())
    return next(f"{{{tag}}}" for tag in tags if _cell(tag) == cell)


def batch_key(source: Source, batch_id: str) -> str:
    """Return the key of a sealed batch's messages."""
    return f"{prefix_of(source)}:batch:{batch_id}"


def shard_name_in(name: str) -> str:
    """Return the name of the shard to which a key belongs, given the name in its prefix."""
    first, mark, _ = name.rpartition("/")
    return first if mark and "/" in first else name


def _tag(name: str, namespace: str) -> str:
    return f"segment:{namespace}:{name}" if namespace else f"segment:{name}"


def _cell(tag: str) -> int:
    """Return in which cell the slot of a key with this tag is."""
    return crc_hqx(tag.encode(), 0) % _SLOTS * _CELLS // _SLOTS


def shard_cells(first: int) -> list[int]:
    """Return all cells in the order in which a source's shards are in them, given the first one.

    Each is where there are fewest others, in the halves, thirds, quarters … of all slots. So they
    are spread evenly over as many servers, as each has its part of the slots in a row. None changes
    its place when others are added.
    """
    cells = [first]
    while len(cells) < _CELLS:
        cells.append(min(range(_CELLS), key=partial(_neighbours, cells)))
    return cells


def _neighbours(cells: Sequence[int], cell: int) -> int:
    """Return how many cells are in the same part of all slots as one, counted for each division."""
    parts = [part for part in range(2, _CELLS + 1) if _CELLS % part == 0]
    return sum(other * part // _CELLS == cell * part // _CELLS for part in parts for other in cells)
