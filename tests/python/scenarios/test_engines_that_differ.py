"""Engines that share a server: other models, tenants, types and stages, under request ids that collide."""

from __future__ import annotations

import pytest

from mpkit.deviation import differs
from mpkit.engine import CHUNK, Engine, prompt
from mpkit.wire import FAILED, VOID, Raw, encode

#: What the second of two engines has of its own.
OTHERS = {
    "model": ({"model": "other-model"}, ""),
    "salt": ({}, "attacker"),
    "dtype": ({"dtype_str": "uint8"}, ""),
}


def one_id(*engines: Engine) -> None:
    """Has engines choose the same request ids, as routers and older engines do."""
    for engine in engines:
        engine.full_id = lambda request_id: f"X-Request-{request_id}"


def expected(engine: Engine, tokens: list[int], chunks: int) -> list[bytes]:
    return [engine.content(tokens, index) for index in range(chunks)]


@pytest.mark.parametrize("what", OTHERS)
def test_one_request_id_in_two_engines(own_server, engines, model, what):
    server = own_server()
    other_fields, salt = OTHERS[what]
    first, second = engines(server), engines(server, **other_fields)
    first.flavour, second.flavour = "first", "second"
    one_id(first, second)
    tokens = prompt(model, 3)
    first.store(tokens, "s")
    first.end("s")
    assert first.lookup(tokens, "1") == 3
    second.lookup(tokens, "1", cache_salt=salt)
    got = second.retrieve(tokens, "1", cache_salt=salt)
    # The reference server leaves the layout out of an object's name and describes the objects as what they are.
    foreign = what == "dtype" and differs(server, "layout-is-part-of-the-name", peer=True, ours=False)
    assert got is None or foreign
    if foreign:
        return
    assert second.store(tokens, "t", cache_salt=salt) == 3
    assert second.lookup(tokens, "1", cache_salt=salt) == 3
    assert first.lookup(tokens, "1") == 3
    assert first.retrieve(tokens, "1") == expected(first, tokens, 3)
    assert second.retrieve(tokens, "1", cache_salt=salt) == expected(second, tokens, 3)


def test_ending_a_request_ends_no_other_engines(own_server, engines, model):
    server = own_server()
    first, second = engines(server), engines(server, model="other-model")
    one_id(first, second)
    tokens = prompt(model, 2)
    first.store(tokens, "s")
    first.scheduler.expect(VOID, "lookup", first.key(tokens, "1"), 1)
    second.end("1")
    second_says = second.scheduler.call("query_prefetch_status", "X-Request-1")
    assert second_says == differs(server, "sessions-are-a-connections", peer=2, ours=0)
    assert first.scheduler.call("query_prefetch_status", "X-Request-1") == (2 if server.is_ours else 0)
    assert first.retrieve(tokens, "1") == expected(first, tokens, 2)


def test_stages_of_a_pipeline_with_other_numbers_of_layers(server, engines, model):
    stages = [engines(server, world_size=2, rank=rank, num_layers=2 + rank) for rank in (0, 1)]
    tokens = prompt(model, 3)
    one_id(*stages)
    for stage in stages:
        assert stage.store(tokens, "stage-s") == 3
    assert stages[0].lookup(tokens, "stage-1") == 3
    for stage in stages:
        assert stage.retrieve(tokens, "stage-1") == expected(stage, tokens, 3)


def test_an_engine_that_comes_and_goes_leaves_nothing(server, engines, model):
    tokens = prompt(model, 2)
    first = engines(server)
    first.store(tokens)
    assert first.hits(tokens) == 2
    second = engines(server, dtype_str="uint8")
    assert first.hits(tokens) == 2
    own = differs(server, "layout-is-part-of-the-name", peer=2, ours=0)
    assert second.hits(tokens) == own
    assert second.store(tokens) == 2 - own
    if not own:
        assert (first.hits(tokens), second.hits(tokens)) == (2, 2)
        assert second.fetch(tokens, 2) == expected(second, tokens, 2)
    second.unregister()
    assert first.hits(tokens) == 2
    assert first.fetch(tokens, 2) == expected(first, tokens, 2)


def test_a_clear_between_lookup_and_retrieve(own_server, engines, model):
    """After a weight update nobody gets the old KV, whoever looked up before."""
    server = own_server()
    engine = engines(server)
    tokens = prompt(model, 2)
    engine.store(tokens)
    assert engine.lookup(tokens, "1") == 2
    engine.scheduler.expect(VOID, "clear", True)
    assert engine.retrieve(tokens, "1") is None
    engine.flavour = "new weights"
    assert engine.store(tokens) == 2
    assert engine.fetch(tokens, 2) == expected(engine, tokens, 2)


def test_two_stores_of_one_range_are_open_at_a_time(engine, model):
    """A worker's threads each store a prompt of their own; all of one length."""
    prompts = [prompt((model, index), 2) for index in range(3)]
    contexts = [engine.prepare_store(tokens, f"{index}") for index, tokens in enumerate(prompts)]
    slots = [slot["offset"] for context in contexts for slot in context["slots"]]
    assert len(set(slots)) == 6
    for tokens, context in zip(prompts, contexts):
        engine.fill(context, tokens)
    for index, tokens in reversed(list(enumerate(prompts))):
        assert engine.commit_store(tokens, f"{index}") is True
    for tokens in prompts:
        assert engine.fetch(tokens, 2) == expected(engine, tokens, 2)


def test_two_requests_store_one_prompt_at_a_time(own_server, engines, model):
    """The first reserves what is absent, what was there leaves, the second reserves that: each publishes what it wrote."""
    server = own_server()
    engine, other = engines(server), engines(server)
    tokens = prompt(model, 3)
    engine.store(tokens, "s", end=CHUNK)
    first = engine.prepare_store(tokens, "a")
    assert first["chunk_indices"] == [1, 2]
    engine.scheduler.expect(VOID, "clear", False)
    second = engine.prepare_store(tokens, "b")
    assert second["chunk_indices"] == [0]
    third = other.prepare_store(prompt((model, "other"), 3), "c")
    offsets = [slot["offset"] for context in (first, second, third) for slot in context["slots"]]
    assert len(set(offsets)) == len(offsets), "memory that is being written is handed out again"
    engine.fill(first, tokens)
    assert engine.commit_store(tokens, "a") is True
    # The reference server now publishes what the second was given and has not written.
    early = differs(server, "commit-of-another-request", peer=1, ours=0)
    assert engine.hits(tokens) == early
    if early:
        return
    engine.fill(second, tokens)
    assert engine.commit_store(tokens, "b") is True
    assert engine.fetch(tokens, 3) == expected(engine, tokens, 3)


def test_a_key_with_two_lists_of_tokens(own_server, engines, model):
    """The hashes of the first must never go with the length of the second."""
    server = own_server()
    engine = engines(server)
    stored, other = prompt(model, 64), prompt((model, "other"), 80)
    engine.store(stored)
    assert engine.hits(stored) == 64
    fields = encode(engine.key(other, "twice"))
    assert fields[0] == 0x8A
    key = Raw(b"\x8b" + encode("token_ids") + encode(stored) + fields[1:])
    engine.scheduler.expect(differs(server, "repeated-field", peer=VOID, ours=FAILED), "lookup", key, 1)
    engine.scheduler.expect(0, "wait_prefetch_status", engine.full_id("twice"), 10.0)
