"""A full pool, abandoned and unfinished stores, and what becomes of their memory."""

from __future__ import annotations

import os

import pytest

from mpkit.deviation import differs
from mpkit.engine import CHUNK, OBJECT_BYTES, content, prompt
from mpkit.victim import victim
from mpkit.wait import becomes, until

#: 1 MiB: 128 objects of the tests' layout.
SMALL_GB = str(1 / 1024)
CAPACITY = (1 << 20) // OBJECT_BYTES


def objects(server) -> dict[str, int]:
    manager = server.status()["storage_manager"]["l1_manager"]
    return {name: manager[name] for name in ("total_object_count", "staging_object_count", "memory_used_bytes")}


def test_a_store_into_a_full_pool_finds_room(own_server, engines, model):
    server = own_server("--eviction-trigger-watermark", "1.0", l1_size_gb=SMALL_GB)
    engine = engines(server)
    lost = 0
    for index in range(CAPACITY // 4 * 3):
        tokens = prompt((model, index), 8)
        request_id = f"fill-{index}"
        if engine.store(tokens, request_id) != 8:
            lost += 1
        engine.end(request_id)
    loses = differs(server, "full-pool-loses-stores", peer=True, ours=False)
    assert (lost > 0) is loses
    if not loses:
        assert engine.fetch(tokens, 8) == [content(tokens, index) for index in range(8)]


def test_leased_objects_are_never_evicted(own_server, engines, model):
    server = own_server(l1_size_gb=SMALL_GB)
    engine = engines(server)
    held = prompt((model, "held"), 8)
    engine.store(held)
    assert engine.lookup(held, "reader") == 8
    for index in range(CAPACITY // 4):
        engine.store(prompt((model, index), 8))
    assert engine.retrieve(held, "reader") == [content(held, index) for index in range(8)]


def test_a_pool_full_of_leases_refuses_politely(own_server, engines, model):
    server = own_server(l1_size_gb=SMALL_GB)
    engine = engines(server)
    tokens = prompt(model, CAPACITY)
    for chunks in (CAPACITY // 2, CAPACITY):
        engine.store(tokens, end=chunks * CHUNK)
        assert engine.lookup(tokens, f"reader-{chunks}", end=chunks * CHUNK) == chunks
    assert engine.prepare_store(prompt((model, "new"), 2), "writer") == {"slots": [], "chunk_indices": []}
    for chunks in (CAPACITY // 2, CAPACITY):
        engine.free(tokens, f"reader-{chunks}")


def test_an_object_larger_than_the_pool_is_refused(own_server, engines, model):
    server = own_server(l1_size_gb=SMALL_GB)
    engine = engines(server, hidden_dim_size=1 << 20)
    assert engine.prepare_store(prompt(model, 1), "a") == {"slots": [], "chunk_indices": []}


def test_unregistering_before_commit_publishes_nothing(own_server, engines, model):
    server = own_server()
    leaver, reader = engines(server), engines(server)
    tokens = prompt(model, 2)
    assert len(leaver.prepare_store(tokens, "a")["slots"]) == 2
    leaver.unregister()
    garbage = differs(server, "unregister-publishes-garbage", peer=2, ours=0)
    assert reader.hits(tokens) == garbage


def test_vanishing_before_commit_publishes_nothing(own_server, engines, model):
    server = own_server()
    leaver, reader = engines(server), engines(server)
    tokens = prompt(model, 2)
    assert len(leaver.prepare_store(tokens, "a")["slots"]) == 2
    leaver.close()
    assert reader.hits(tokens) == 0


def test_an_abandoned_prepare_gives_its_memory_back(own_server, engines, model):
    server = own_server("--eviction-trigger-watermark", "1.0", l1_size_gb=SMALL_GB)
    writer = engines(server)
    reserved = differs(server, "reservations-are-bounded", peer=CAPACITY, ours=CAPACITY // 2)
    with victim(server, 8, model, f"{model}-left", "store", CAPACITY) as (_, slots):
        assert slots == reserved
        filler = prompt((model, "filler"), max(CAPACITY - reserved, 1))
        assert writer.store(filler) == CAPACITY - reserved
        writer.lookup(filler, "holds")
    tokens = prompt((model, "next"), 2)
    pinned = differs(server, "abandoned-prepare-pins", peer=True, ours=False)
    if pinned:
        # The reference server holds the slots for the write ttl, ten minutes.
        assert writer.store(tokens, "w") == 0
        return
    until(lambda: writer.store(tokens, "w") == 2, "the slots coming back")
    assert writer.fetch(tokens, 2) == [content(tokens, index) for index in range(2)]


def test_what_a_worker_reserved_stays_its_own_when_it_unregisters(own_server, engines, model):
    """The real client unregisters before its copies have ended; they end with its connections at the latest."""
    server = own_server(l1_size_gb=SMALL_GB)
    leaver, writer = engines(server), engines(server)
    reserved = {slot["offset"] for slot in leaver.prepare_store(prompt(model, 8), "a")["slots"]}
    leaver.unregister()
    tokens = prompt((model, "next"), CAPACITY)
    handed_out = {slot["offset"] for slot in writer.prepare_store(tokens, "w")["slots"]}
    assert len(reserved) == 8 and not reserved & handed_out
    if server.is_ours:
        assert server.status()["larder"]["set_aside"]["reserved_bytes"] == 8 * OBJECT_BYTES


@pytest.mark.ours_only
def test_a_worker_that_closed_its_connection_keeps_its_memory_while_its_process_lives(own_server, engines, model):
    """The scenario's own process is the worker's: it lives, and has the pool mapped."""
    server = own_server(l1_size_gb=SMALL_GB)
    worker, other = engines(server), engines(server)
    other.store(prompt(model, 1))
    assert len(worker.prepare_store(prompt((model, "w"), 8), "a")["slots"]) == 8

    def shown() -> dict[str, object]:
        return server.status()["non_cuda_context_meta"][str(worker.instance_id)]

    until(lambda: shown()["process"] == os.getpid(), "the worker's process")
    worker.worker.close()
    until(lambda: shown()["connections"] == 0, "the end of its connection")
    # A scheduler that vanishes after it is given up as soon as that may be.
    other.lookup(prompt(model, 1), "held")
    other.scheduler.close()
    until(lambda: server.status()["larder"]["leases"]["held_by_sessions"] == 0, "the end of a vanished scheduler")
    assert objects(server)["staging_object_count"] == 8
    assert shown()["reserved_bytes"] == 8 * OBJECT_BYTES


def test_a_vanished_reader_gives_its_leases_back(own_server, engines, model):
    server = own_server()
    other = engines(server)
    seed = f"{model}-left"
    other.store(prompt(seed, 2))
    with victim(server, 8, model, seed, "retrieve", 2) as (_, slots):
        assert slots == 2

    def gone() -> bool:
        other.scheduler.call("clear", False)
        return objects(server)["total_object_count"] == 0

    if differs(server, "vanished-reader-pins", peer=False, ours=True):
        until(gone, "the leases coming back")
    else:
        assert not gone()


def test_prepare_twice_keeps_every_slot_accounted(own_server, engines, model):
    """A second prepare of the same range reserves nothing and leaves the first in force."""
    server = own_server()
    engine = engines(server)
    tokens = prompt(model, 2)
    first = engine.prepare_store(tokens, "a")
    assert engine.prepare_store(tokens, "a") == {"slots": [], "chunk_indices": []}
    for slot, index in zip(first["slots"], first["chunk_indices"]):
        engine.pool.write(slot, content(tokens, index))
    assert engine.commit_store(tokens, "a") is True
    assert engine.fetch(tokens, 2) == [content(tokens, index) for index in range(2)]
    assert objects(server)["staging_object_count"] == 0


def test_memory_used_returns_to_nothing(own_server, engines, model):
    server = own_server()
    engine = engines(server)
    for index in range(10):
        engine.store(prompt((model, index), 4))
    assert objects(server)["total_object_count"] == 40
    assert objects(server)["memory_used_bytes"] == 40 * OBJECT_BYTES
    engine.scheduler.call("clear", False)
    assert objects(server) == {"total_object_count": 0, "staging_object_count": 0, "memory_used_bytes": 0}


def test_eviction_starts_above_the_watermark(own_server, engines, model):
    server = own_server("--eviction-trigger-watermark", "0.5", "--eviction-ratio", "0.2", l1_size_gb=SMALL_GB)
    engine = engines(server)
    tokens = [prompt((model, index), 16) for index in range(5)]
    for each in tokens:
        engine.store(each)
    until(lambda: objects(server)["total_object_count"] <= CAPACITY // 2, "an eviction")
    assert engine.hits(tokens[-1]) == 16
    assert engine.hits(tokens[0]) < 16


def test_later_chunks_of_a_prompt_go_first(own_server, engines, model):
    server = own_server("--eviction-trigger-watermark", "0.5", "--eviction-ratio", "0.25", l1_size_gb=SMALL_GB)
    engine = engines(server)
    tokens = prompt(model, 80)
    engine.store(tokens)
    until(lambda: objects(server)["total_object_count"] <= CAPACITY // 2, "an eviction")
    left = objects(server)["total_object_count"]
    assert engine.hits(tokens) == left


def test_eviction_per_salt_in_memory(own_server, engines, model):
    """The reference server starts, and its eviction thread dies at the first pass."""
    server = own_server(
        "--eviction-policy", "IsolatedLRU", "--eviction-trigger-watermark", "0.5", l1_size_gb=SMALL_GB
    )
    engine = engines(server)
    assert engine.store(prompt(model, 80)) == 80
    evicts = becomes(lambda: objects(server)["total_object_count"] <= CAPACITY // 2, limit_s=5)
    assert differs(server, "isolated-lru-on-l1", peer=False, ours=True) is bool(evicts)


def test_noop_never_evicts(own_server, engines, model):
    server = own_server("--eviction-policy", "noop", l1_size_gb=SMALL_GB)
    engine = engines(server)
    tokens = prompt(model, CAPACITY)
    assert engine.store(tokens) == CAPACITY
    assert engine.store(prompt((model, "more"), 2)) == 0
    assert engine.hits(tokens) == CAPACITY
    assert engine.hits(tokens, end=2 * CHUNK) == 2
