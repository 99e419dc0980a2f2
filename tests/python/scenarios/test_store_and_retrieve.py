"""What an engine does all day, in both transfer modes: store chunks, find them, get the same bytes back."""

from __future__ import annotations

import pytest

from mpkit import wire
from mpkit.deviation import differs
from mpkit.engine import CHUNK, OBJECT_BYTES, SHAPE, content, prompt


def test_registration_announces_the_pool(server, engines):
    engine = engines(server)
    assert engine.uses_shm
    assert engine.pool.path == server.pool_path
    assert engine.pool.path.stat().st_size == 1 << 28
    assert engine.pool.path.stat().st_mode & 0o777 == 0o600


def test_registration_without_a_pool_means_pickle(server_name, shared_servers, model):
    with shared_servers(server_name, "pickle").client() as client:
        record = {"instance_id": 1, "model_name": model, "world_size": 1, "block_size": 16, "num_layers": 2,
                  "hidden_dim_size": 64, "dtype_str": "bfloat16", "use_mla": False}
        client.expect({"shm_name": "", "pool_size": 0}, "register_kv_cache_engine_driven_context", record)


def test_what_was_stored_comes_back(transfer_engine, model):
    tokens = prompt(model, 5)
    assert transfer_engine.lookup(tokens) == 0
    assert transfer_engine.store(tokens) == 5
    assert transfer_engine.hits(tokens) == 5
    assert transfer_engine.fetch(tokens, 5) == [content(tokens, index) for index in range(5)]


def test_a_prompt_stored_in_pieces_is_one_prefix(transfer_engine, model):
    tokens = prompt(model, 6, extra_tokens=5)
    request_id = "pieces"
    for start, end in ((0, 2), (2, 4), (4, 6)):
        transfer_engine.store(tokens, request_id, start=start * CHUNK, end=end * CHUNK)
    transfer_engine.end(request_id)
    assert transfer_engine.fetch(tokens, 6) == [content(tokens, index) for index in range(6)]


def test_a_range_is_retrieved_from_its_start(transfer_engine, model):
    tokens = prompt(model, 6)
    transfer_engine.store(tokens)
    assert transfer_engine.lookup(tokens, "part") == 6
    objects = transfer_engine.retrieve(tokens, "part", start=2 * CHUNK, end=5 * CHUNK)
    assert objects == [content(tokens, index) for index in (2, 3, 4)]


def test_a_shared_prefix_hits_up_to_the_difference(transfer_engine, model):
    tokens = prompt(model, 6)
    other = tokens[: 4 * CHUNK] + prompt(model + "other", 2)
    transfer_engine.store(tokens)
    assert transfer_engine.hits(other) == 4
    transfer_engine.store(other, start=4 * CHUNK)
    assert transfer_engine.fetch(other, 6) == [content(other, index) for index in range(6)]
    assert transfer_engine.fetch(tokens, 6) == [content(tokens, index) for index in range(6)]


def test_a_different_first_chunk_never_hits(transfer_engine, model):
    tokens = prompt(model, 4)
    transfer_engine.store(tokens)
    assert transfer_engine.hits(prompt(model + "other", 1) + tokens[CHUNK:]) == 0


def test_a_hole_ends_the_prefix(transfer_engine, model):
    tokens = prompt(model, 5)
    transfer_engine.store(tokens, start=0, end=2 * CHUNK)
    transfer_engine.store(tokens, start=3 * CHUNK, end=5 * CHUNK)
    assert transfer_engine.hits(tokens) == 2
    transfer_engine.store(tokens, start=2 * CHUNK, end=3 * CHUNK)
    assert transfer_engine.hits(tokens) == 5


def test_a_partial_chunk_is_ignored_by_lookup(transfer_engine, model):
    tokens = prompt(model, 3, extra_tokens=7)
    transfer_engine.store(tokens)
    assert transfer_engine.hits(tokens) == 3
    assert transfer_engine.hits(tokens, end=2 * CHUNK + 3) == 2
    assert transfer_engine.hits(tokens[: CHUNK - 1]) == 0
    assert transfer_engine.hits(tokens, end=len(tokens) + 100) == 3


def test_the_start_of_a_lookup_is_ignored(transfer_engine, model):
    tokens = prompt(model, 3)
    transfer_engine.store(tokens)
    assert transfer_engine.lookup(tokens, start=CHUNK) == 3


def test_slots_describe_the_object(engine, model):
    tokens = prompt(model, 3)
    context = engine.prepare_store(tokens, "a")
    assert context["chunk_indices"] == [0, 1, 2]
    for slot in context["slots"]:
        assert (slot["length"], slot["shape"], slot["dtype"]) == (OBJECT_BYTES, SHAPE, "bfloat16")
        assert slot["offset"] % 4096 == 0
    offsets = [slot["offset"] for slot in context["slots"]]
    assert len(set(offsets)) == 3
    assert engine.commit_store(tokens, "a") is True
    engine.lookup(tokens, "b")
    assert [slot["offset"] for slot in engine.prepare_retrieve(tokens, "b")["context"]["slots"]] == offsets


@pytest.mark.parametrize(("fields", "shape", "dtype", "length"), [
    ({"use_mla": True, "num_layers": 3, "hidden_dim_size": 24, "dtype_str": "uint8"}, [3, 16, 24], "uint8", 1152),
    ({"num_physical_slots": None}, [2, 2, 16, 64], "bfloat16", 8192),
    ({"num_physical_slots": 4}, [2, 2, 4, 64], "bfloat16", 2048),
    ({"dtype_str": "half"}, [2, 2, 16, 64], "float16", 8192),
    ({"dtype_str": "float32"}, [2, 2, 16, 64], "float32", 16384),
    ({"dtype_str": "float8_e4m3fn"}, [2, 2, 16, 64], "float8_e4m3fn", 4096),
])
def test_layouts(server, engines, model, fields, shape, dtype, length):
    engine = engines(server, **fields)
    (slot,) = engine.prepare_store(prompt(model, 1), "a")["slots"]
    assert (slot["shape"], slot["dtype"], slot["length"]) == (shape, dtype, length)


def test_chunks_already_there_are_left_out(engine, model):
    tokens = prompt(model, 4)
    engine.store(tokens, end=2 * CHUNK)
    assert engine.prepare_store(tokens, "b")["chunk_indices"] == [2, 3]
    engine.commit_store(tokens, "b")
    assert engine.prepare_store(tokens, "c") == {"slots": [], "chunk_indices": []}


def test_chunk_indices_count_from_the_start_of_the_range(engine, model):
    tokens = prompt(model, 4)
    engine.store(tokens, start=CHUNK, end=2 * CHUNK)
    assert engine.prepare_store(tokens, "b", start=CHUNK)["chunk_indices"] == [1, 2]


def test_a_chunk_being_written_is_left_out_and_invisible(server, engines, model):
    first, second = engines(server), engines(server)
    tokens = prompt(model, 2)
    assert first.prepare_store(tokens, "a")["chunk_indices"] == [0, 1]
    assert second.prepare_store(tokens, "b")["chunk_indices"] == []
    assert second.hits(tokens) == 0
    assert first.commit_store(tokens, "a") is True
    assert second.hits(tokens) == 2


def test_a_pickled_store_of_known_chunks_is_accepted(server_name, shared_servers, engines, model):
    engine = engines(shared_servers(server_name, "pickle"))
    tokens = prompt(model, 3)
    engine.store(tokens)
    assert engine.store(tokens) == 3
    assert engine.fetch(tokens, 3) == [content(tokens, index) for index in range(3)]


def test_a_commit_is_of_the_request_that_prepared(server, engine, model):
    """The reference server leaves the request id out of a transfer's name (spec/mp-protocol.md 3.2)."""
    tokens = prompt(model, 2)
    engine.fill(engine.prepare_store(tokens, "a"), tokens)
    others = differs(server, "commit-of-another-request", peer=True, ours=False)
    assert engine.commit_store(tokens, "b") is others
    assert engine.hits(tokens) == (2 if others else 0)
    assert engine.commit_store(tokens, "a") is not others
    assert engine.hits(tokens) == 2


def test_commits_without_prepare(engine, model):
    tokens = prompt(model, 2)
    assert engine.commit_store(tokens, "a") is False
    assert engine.commit_retrieve(tokens, "a") is True


def test_a_second_commit_finds_nothing(engine, model):
    tokens = prompt(model, 2)
    engine.prepare_store(tokens, "a")
    assert engine.commit_store(tokens, "a") is True
    assert engine.commit_store(tokens, "a") is False


def test_retrieve_needs_a_lookup(transfer_engine, model):
    tokens = prompt(model, 2)
    transfer_engine.store(tokens)
    assert transfer_engine.retrieve(tokens, "never-looked-up") is None


def test_retrieve_fails_whole_when_a_chunk_is_missing(transfer_engine, model):
    tokens = prompt(model, 4)
    transfer_engine.store(tokens, end=3 * CHUNK)
    assert transfer_engine.lookup(tokens, "a") == 3
    assert transfer_engine.retrieve(tokens, "a") is None


def test_each_retrieve_uses_up_its_lease(transfer_engine, model):
    tokens = prompt(model, 2)
    transfer_engine.store(tokens)
    transfer_engine.lookup(tokens, "a")
    assert transfer_engine.retrieve(tokens, "a") is not None
    assert transfer_engine.retrieve(tokens, "a") is None


def test_no_layout_means_no_hit(client, model):
    client.expect(wire.VOID, "lookup", wire.key(prompt(model, 2), "a", model_name="nobody-registered-this"), 1)
    client.expect(0, "wait_prefetch_status", "a", 5.0)


def test_no_layout_does_not_check_readers(client, model):
    key = wire.key(prompt(model, 2), "b", model_name="nobody-registered-this", num_kv_readers=0)
    client.expect(wire.VOID, "lookup", key, 1)
    client.expect(0, "query_prefetch_status", "b")


def test_layouts_of_world_sizes_are_apart(server, engines, model):
    engine = engines(server)
    tokens = prompt(model, 2)
    engine.store(tokens)
    assert engine.lookup(tokens, world_size=2) == 0


def test_registering_again_changes_nothing(engine, model):
    tokens = prompt(model, 2)
    engine.store(tokens)
    answer = engine.worker.call("register_kv_cache_engine_driven_context", engine.registration)
    assert answer["shm_name"] == engine.pool.path.name
    assert engine.fetch(tokens, 2) == [content(tokens, index) for index in range(2)]


def test_registering_again_with_another_layout(server, engine, model):
    again = engine.registration | {"num_layers": 7, "hidden_dim_size": 8}
    engine.worker.call("register_kv_cache_engine_driven_context", again)
    (slot,) = engine.prepare_store(prompt(model, 1), "n")["slots"]
    assert slot["shape"] == differs(server, "registering-another-layout", peer=SHAPE, ours=[2, 7, CHUNK, 8])


def test_unregistering_keeps_the_objects(server, engines, model):
    first, second = engines(server), engines(server)
    tokens = prompt(model, 2)
    first.store(tokens)
    first.unregister()
    assert second.fetch(tokens, 2) == [content(tokens, index) for index in range(2)]


def test_the_last_unregistration_takes_the_layout_away(server, engines, model):
    engine = engines(server)
    tokens = prompt(model, 2)
    engine.store(tokens)
    engine.unregister()
    assert engine.lookup(tokens) == 0


def test_unregistering_the_unknown_is_answered(client):
    client.expect(wire.VOID, "unregister_kv_cache_engine_driven_context", 987654321)
