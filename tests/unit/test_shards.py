"""A source's shards: their names, their slots, their parts of its limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from celery_segment import ConfigurationError
from celery_segment.buffer.keys import prefix_of, shard_name_in
from celery_segment.config import Source, load

SLOTS = 16_384
SOURCE = Source(name="shop")


def slot(prefix):
    key_slot = pytest.importorskip("redis.crc").key_slot
    return key_slot(prefix.encode())


def shards_of(name, count, **settings):
    return Source(name=name, shards=count, **settings).split()


def refused(**conf):
    with pytest.raises(ConfigurationError) as caught:
        load({f"segment_{name}": value for name, value in conf.items()}, {})
    return str(caught.value)


def test_the_first_shard_is_stored_as_the_source_was():
    one, *others = shards_of("shop", 3)
    assert prefix_of(one) == prefix_of(SOURCE) == "{segment:shop}"
    assert [each.shard_name for each in (one, *others)] == ["shop", "shop/1", "shop/2"]
    assert prefix_of(replace(others[0], namespace="eu")).startswith("{segment:eu:shop/1/")


@pytest.mark.parametrize("servers", [2, 3, 4, 6, 12])
def test_shards_are_spread_evenly_over_the_servers(servers):
    for name in ("default", "shop", "app.web", "x" * 64, "ios"):
        for count in (2, 3, 4, 5, 6, 8, 12, 24, 100):
            found = Counter(
                slot(prefix_of(shard)) * servers // SLOTS for shard in shards_of(name, count)
            )
            assert max(found.values()) <= -(-count // servers), (name, count)


def test_a_shard_keeps_its_place_when_others_are_added():
    few, many = shards_of("shop", 3), shards_of("shop", 90)
    assert list(map(prefix_of, few)) == list(map(prefix_of, many))[:3]
    assert len(set(map(prefix_of, many))) == 90


@pytest.mark.parametrize("name", ["shop", "shop/1", "shop/17", "default/2"])
def test_a_shard_is_found_again_by_the_name_in_its_keys(name):
    source = SOURCE.stored_as(name)
    tag = prefix_of(source)[len("{segment:") : -1]
    assert shard_name_in(tag) == source.shard_name == name


@pytest.mark.parametrize("name", ["shop/0", "shop/x", "shop/1/2", "/1", "shop/", "shop/12345"])
def test_what_is_no_shards_name_is_that_of_a_source(name):
    assert SOURCE.stored_as(name) == replace(SOURCE, name=name)


def test_limits_are_divided_and_nothing_is_lost_of_them():
    limits = {"max_inflight": 10, "max_dead_bytes": 10_000_001, "max_buffer_bytes": 999_998}
    shards = shards_of("shop", 4, **limits)
    for name, limit in limits.items():
        parts = [getattr(shard, name) for shard in shards]
        assert sum(parts) == limit
        assert max(parts) - min(parts) <= 1
    assert {shard.max_buffer_bytes for shard in shards_of("shop", 4)} == {None}


def test_of_an_ordered_shard_one_batch_is_under_way():
    assert {shard.max_inflight for shard in shards_of("shop", 4, ordered=True)} == {1}
    assert {shard.max_inflight for shard in shards_of("shop", 1, ordered=True)} == {1}


def test_what_cannot_be_divided_is_refused():
    said = refused(shards=4, max_inflight=3)
    assert "segment_max_inflight (3) of source 'default' is too small for its 4 shards" in said
    assert "set it to 4 at least, or lower segment_shards" in said
    assert "segment_max_dead_bytes (3,000,000)" in refused(shards=4, max_dead_bytes=3_000_000)
    assert "segment_max_buffer_bytes (100,000)" in refused(shards=2, max_buffer_bytes=100_000)
    load({"segment_shards": 40, "segment_max_inflight": 3, "segment_ordered": True}, {})


def test_batches_of_shards_have_different_names():
    first, second = shards_of("shop", 2)
    assert (first.batch_name("7.1"), second.batch_name("7.1")) == ("7.1", "1/7.1")
