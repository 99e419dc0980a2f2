"""Salts, ranks and models: what is kept apart, and what a hit needs."""

from __future__ import annotations

from mpkit.engine import CHUNK, content, prompt
from mpkit.wire import VOID


def test_salts_share_nothing(transfer_engine, model):
    tokens = prompt(model, 3)
    transfer_engine.store(tokens, cache_salt="alice")
    assert transfer_engine.hits(tokens) == 0
    assert transfer_engine.hits(tokens, cache_salt="bob") == 0
    assert transfer_engine.hits(tokens, cache_salt="alice") == 3
    transfer_engine.store(tokens)
    assert transfer_engine.hits(tokens) == 3
    assert transfer_engine.fetch(tokens, 3, cache_salt="alice") == [content(tokens, index) for index in range(3)]


def test_models_share_nothing(server, engines, model):
    one, two = engines(server, model=model + "-one"), engines(server, model=model + "-two")
    tokens = prompt(model, 3)
    one.store(tokens)
    assert two.hits(tokens) == 0
    assert one.hits(tokens) == 3


def test_a_hit_needs_every_rank(server, engines, model):
    ranks = [engines(server, world_size=2, rank=rank) for rank in range(2)]
    tokens = prompt(model, 4)
    ranks[0].store(tokens)
    assert ranks[0].hits(tokens) == 0
    ranks[1].store(tokens, end=3 * CHUNK)
    assert ranks[0].hits(tokens) == 3


def test_each_rank_gets_its_own_bytes(server, engines, model):
    ranks = [engines(server, world_size=2, rank=rank) for rank in range(2)]
    scheduler = ranks[0]
    tokens = prompt(model, 2)
    for engine in ranks:
        engine.store(tokens)
    assert scheduler.lookup(tokens, "r") == 2
    for engine in ranks:
        key = engine.worker_key(tokens, "r") | {"request_id": scheduler.full_id("r")}
        answer = engine.worker.call("prepare_retrieve", key, engine.instance_id)
        got = [engine.pool.read(slot) for slot in answer["context"]["slots"]]
        assert got == [content(tokens, index, engine.rank) for index in range(2)]
        assert engine.worker.call("commit_retrieve", key, engine.instance_id) is True
    scheduler.end("r")


def test_free_can_be_for_one_rank(server, engines, model):
    ranks = [engines(server, world_size=2, rank=rank) for rank in range(2)]
    tokens = prompt(model, 2)
    for engine in ranks:
        engine.store(tokens)

    def locked() -> int:
        return server.status()["storage_manager"]["l1_manager"]["read_locked_count"]

    before = locked()
    assert ranks[0].lookup(tokens, "r") == 2
    assert locked() == before + 4
    ranks[0].free(tokens, "r", worker_id=1)
    assert locked() == before + 2
    ranks[0].free(tokens, "r", worker_id=0)
    assert locked() == before


def test_clear_is_for_everybody(server, engines, model):
    one, two = engines(server, model=model + "-one"), engines(server, model=model + "-two")
    one.store(prompt("one", 2))
    two.store(prompt("two", 2), cache_salt="s")
    one.scheduler.expect(VOID, "clear", False)
    assert one.hits(prompt("one", 2)) == 0
    assert two.hits(prompt("two", 2), cache_salt="s") == 0
