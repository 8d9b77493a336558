"""The buffer's keys, all of them, and what each holds.

Every key of a source starts with its prefix, ``{segment:<source>}``. The braces
are a Redis Cluster hash tag: one source's keys share a slot, so a script may
touch them all. Times are milliseconds of the server's clock.

    :open        string  the batch being filled: messages as JSON, each with a comma behind it
    :state       hash    count, since (first message's time) of the open batch; flushed (last
                         seal); woken (1 once a worker was called); sequence (last batch id);
                         packed (up to which number the ready ones of a backlog were);
                         in a row: failures, and pauses after them (trips) and after refusals
    :ready       zset    sealed batches by number, the oldest first
    :inflight    zset    claimed batches by the end of their lease
    :waiting     zset    of these, by number, the ones that no delivery has begun
    :dead        zset    dead letters by the time they were given up
    :batch:<id>  string  a sealed batch's messages, as in :open, or packed (see ``packing``)
    :callbacks   hash    of the open batch: what a message's caller wants called once it is
                         settled, by the message's place in the batch, from 1 on
    :callbacks:<id> hash of a sealed batch, the same
    :traces      hash    of the open batch: the trace contexts of its first messages' calls,
                         likewise by place
    :traces:<id> hash    of a sealed batch, the same
    :settled     zset    batches whose callbacks have still to be called, as delivered:<id> or
                         dead:<id>, by the time until when their worker is left to it
    :settled:<name> hash of such a batch: its callbacks; batch, count, bytes; cause when dead
    :meta:<id>   hash    count, bytes, since; token of the holder; attempts (counted), requests
                         (all), began (first request); cause of the last failure; buried
    :gate        string  why the source is closed; expires when it opens
    :paused      string  exists while an operator has closed the source
    :probe       string  the batch that asks whether a failing endpoint is back
    :tick        string  exists while a drain that a tick called for has not begun; expires
    :stats       hash    accepted (less :open), delivered, purged: totals; ready, inflight, dead:
                         at present; each in messages, and <name>_bytes; batches, buried,
                         retries, splits, takeovers, dropped_full, dropped_unavailable, and
                         attempts:<status>: totals; last_delivered: when;
                         saved_bytes: by how much ready and in flight lie in less, packed

A batch's id is its number in the source; the halves of batch 7 are 7.1 and 7.2.
"""

from __future__ import annotations

__all__ = ["batch_key", "prefix"]


def prefix(source: str) -> str:
    """Return what every key of a source starts with."""
    return f"{{segment:{source}}}"


def batch_key(source: str, batch_id: str) -> str:
    """Return the key of a sealed batch's messages."""
    return f"{prefix(source)}:batch:{batch_id}"
