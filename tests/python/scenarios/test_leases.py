"""Read leases: who takes them, who gives them back, and that nobody gives back another's."""

from __future__ import annotations

import pytest

from mpkit.deviation import differs
from mpkit.engine import CHUNK, content, prompt
from mpkit.wire import SILENCE, VOID


def locked(server) -> int:
    """Objects that some reader holds, as the server reports it."""
    return server.status()["storage_manager"]["l1_manager"]["read_locked_count"]


@pytest.fixture
def stored(engine, model):
    """An engine, and a prompt of four chunks that is stored."""
    tokens = prompt(model, 4)
    engine.store(tokens)
    return engine, tokens


def test_a_lookup_holds_what_it_found(server, stored):
    engine, tokens = stored
    before = locked(server)
    assert engine.lookup(tokens, "a") == 4
    assert locked(server) == before + 4
    engine.free(tokens, "a")
    assert locked(server) == before


def test_retrieve_gives_back_what_it_took(server, stored):
    engine, tokens = stored
    before = locked(server)
    engine.lookup(tokens, "a")
    engine.retrieve(tokens, "a")
    assert locked(server) == before


def test_held_chunks_survive_a_clear(stored):
    engine, tokens = stored
    engine.lookup(tokens, "a", end=2 * CHUNK)
    engine.scheduler.expect(VOID, "clear", False)
    assert engine.retrieve(tokens, "a", end=2 * CHUNK) == [content(tokens, 0), content(tokens, 1)]
    assert engine.hits(tokens) == 2


def test_a_forced_clear_takes_everything(stored):
    engine, tokens = stored
    engine.lookup(tokens, "a")
    engine.scheduler.expect(VOID, "clear", True)
    assert engine.hits(tokens) == 0
    engine.store(tokens)
    assert engine.fetch(tokens, 4) == [content(tokens, index) for index in range(4)]


def test_clear_leaves_a_store_in_progress_alone(engine, model):
    tokens = prompt(model, 2)
    engine.prepare_store(tokens, "a")
    engine.scheduler.expect(VOID, "clear", False)
    assert engine.commit_store(tokens, "a") is True
    assert engine.hits(tokens) == 2


def test_free_only_covers_its_range(server, stored):
    engine, tokens = stored
    before = locked(server)
    engine.lookup(tokens, "a")
    engine.free(tokens, "a", end=2 * CHUNK)
    assert locked(server) == before + 2
    assert engine.retrieve(tokens, "a", start=2 * CHUNK) == [content(tokens, 2), content(tokens, 3)]
    assert locked(server) == before


def test_free_rounds_an_unaligned_end_down(server, stored):
    engine, tokens = stored
    before = locked(server)
    engine.lookup(tokens, "a")
    engine.free(tokens, "a", end=2 * CHUNK + CHUNK // 2)
    assert locked(server) == before + 2
    assert engine.retrieve(tokens, "a", start=2 * CHUNK) is not None


def test_free_of_an_empty_range_does_nothing(server, stored):
    engine, tokens = stored
    before = locked(server)
    engine.lookup(tokens, "a")
    engine.free(tokens, "a", start=CHUNK, end=CHUNK)
    engine.free(tokens, "a", start=3 * CHUNK, end=CHUNK)
    assert locked(server) == before + 4
    engine.free(tokens, "a")


def test_free_without_a_lookup_does_nothing(server, stored):
    engine, tokens = stored
    before = locked(server)
    engine.free(tokens, "never-looked-up")
    assert locked(server) == before


def test_free_consumes_the_result(stored):
    engine, tokens = stored
    engine.scheduler.expect(VOID, "lookup", engine.key(tokens, "a"), 1)
    engine.free(tokens, "a")
    engine.scheduler.expect(0, "query_prefetch_status", engine.full_id("a"))


def test_a_result_is_consumed_once(stored):
    engine, tokens = stored
    engine.scheduler.expect(VOID, "lookup", engine.key(tokens, "a"), 1)
    engine.scheduler.expect(4, "query_prefetch_status", engine.full_id("a"))
    engine.scheduler.expect(0, "query_prefetch_status", engine.full_id("a"))
    engine.free(tokens, "a")


def test_several_readers_each_have_a_lease(server, engines, model):
    """With `num_kv_readers` 2 (MLA under tensor parallelism) both ranks read the same object."""
    engine, other = engines(server), engines(server)
    tokens = prompt(model, 3)
    engine.store(tokens)
    before = locked(server)
    engine.lookup(tokens, "a", num_kv_readers=2)
    assert engine.retrieve(tokens, "a") is not None
    assert locked(server) == before + 3
    key = engine.worker_key(tokens, "a")
    assert other.worker.call("prepare_retrieve", key, other.instance_id)["success"] is True
    assert other.worker.call("commit_retrieve", key, other.instance_id) is True
    assert locked(server) == before
    assert engine.retrieve(tokens, "a") is None


def test_free_gives_back_the_leases_of_all_readers(server, stored):
    engine, tokens = stored
    before = locked(server)
    engine.lookup(tokens, "a", num_kv_readers=3)
    engine.free(tokens, "a", num_kv_readers=3)
    assert locked(server) == before


def test_free_needs_to_know_the_readers(server, stored):
    engine, tokens = stored
    engine.lookup(tokens, "a")
    wanted = differs(server, "free-without-readers", peer=SILENCE, ours=VOID)
    engine.scheduler.expect(wanted, "free_lookup_locks", engine.key(tokens, "a", num_kv_readers=0), 1)


def test_two_requests_hold_the_same_chunks(server, stored):
    engine, tokens = stored
    before = locked(server)
    engine.lookup(tokens, "a")
    engine.lookup(tokens, "b")
    assert locked(server) == before + 4
    engine.free(tokens, "a")
    assert locked(server) == before + 4
    assert engine.retrieve(tokens, "b") is not None
    assert locked(server) == before


def test_freeing_twice_does_not_take_anothers_lease(server, stored):
    engine, tokens = stored
    engine.lookup(tokens, "a")
    engine.lookup(tokens, "b")
    engine.free(tokens, "a")
    engine.free(tokens, "a")
    survives = differs(server, "double-free-steals", peer=False, ours=True)
    assert (engine.retrieve(tokens, "b") is not None) is survives


def test_an_unasked_retrieve_does_not_take_anothers_lease(server, stored):
    engine, tokens = stored
    engine.lookup(tokens, "a")
    allowed = differs(server, "retrieve-without-lookup", peer=True, ours=False)
    assert (engine.retrieve(tokens, "stranger") is not None) is allowed
    assert (engine.retrieve(tokens, "a") is not None) != allowed


def test_a_failed_retrieve_keeps_the_leases_of_others(server, stored):
    engine, tokens = stored
    longer = tokens + prompt("tail", 1)
    engine.lookup(tokens, "a")
    engine.lookup(longer, "b")
    assert engine.retrieve(longer, "b") is None
    assert engine.retrieve(tokens, "a") is not None


def test_a_second_lookup_releases_the_first(server, stored):
    engine, tokens = stored
    before = locked(server)
    engine.lookup(tokens, "a")
    engine.lookup(tokens, "a")
    engine.free(tokens, "a")
    leaked = differs(server, "duplicate-lookup-leaks", peer=4, ours=0)
    assert locked(server) == before + leaked


def test_the_end_of_a_request_returns_its_leases(server, stored):
    engine, tokens = stored
    before = locked(server)
    engine.lookup(tokens, "a")
    engine.end("a")
    leaked = differs(server, "end-session-keeps-leases", peer=4, ours=0)
    assert locked(server) == before + leaked


def test_an_unconsumed_lookup_ends_with_its_session(server, stored):
    engine, tokens = stored
    engine.scheduler.expect(VOID, "lookup", engine.key(tokens, "a"), 1)
    engine.end("a")
    left = differs(server, "end-session-keeps-leases", peer=4, ours=0)
    engine.scheduler.expect(left, "query_prefetch_status", engine.full_id("a"))


def test_a_reused_request_id_means_the_new_tokens(server, engine, model):
    old, new = prompt(model + "old", 2), prompt(model + "new", 2)
    engine.store(old, "r")
    engine.lookup(old, "r")
    wrong = differs(server, "reused-request-id", peer=True, ours=False)
    assert (engine.retrieve(new, "r") is not None) is wrong
