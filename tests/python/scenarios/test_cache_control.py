"""What operators do to the cache by hand: list, delete, clear a tier, bring a prompt back, take leases back."""

from __future__ import annotations

import json

import pytest

from mpkit.engine import OBJECT_BYTES, content, prompt
from mpkit.wait import until


def call(server, path: str, method: str = "GET", body: object = None, status: int = 200) -> object:
    code, text = server.http(path, method, body)
    assert code == status, f"{method} {path}: {code} {text}"
    return json.loads(text)


def l2_files(folder) -> int:
    return sum(1 for _ in folder.rglob("*.data"))


def fs(folder) -> str:
    return json.dumps({"type": "fs", "base_path": str(folder)})


@pytest.fixture
def l2_server(own_server, tmp_path):
    """A server with a directory as its second tier."""
    return own_server("--l2-adapter", fs(tmp_path))


def test_a_prompt_is_brought_back_ahead_of_its_request(l2_server, engines, model, tmp_path):
    engine, tokens = engines(l2_server), prompt(model, 3)
    engine.store(tokens)
    assert until(lambda: l2_files(tmp_path) == 3)
    call(l2_server, "/cache/clear", "POST", {"force": True})
    body = {"model_name": model, "world_size": 1, "token_ids": tokens}
    submitted = call(l2_server, "/cache/prefetches", "POST", body, status=202)
    assert submitted["status"] == "submitted" and submitted["chunks"] == 3
    path = f"/cache/prefetches/{submitted['request_id']}"
    answers = []
    assert until(lambda: answers.append(call(l2_server, path)) or answers[-1]["status"] == "completed")
    assert answers[-1] == {"request_id": submitted["request_id"], "status": "completed", "found_keys": 3, "total_keys": 3}
    assert l2_server.status()["storage_manager"]["l1_manager"]["total_object_count"] == 3
    assert engine.fetch(tokens, 3) == [content(tokens, index) for index in range(3)]
    missing = call(l2_server, path, status=404)
    assert missing["detail"].startswith("unknown prefetch request_id=")


def test_prefetches_that_can_not_begin(server, engine, model):
    body = {"model_name": model, "world_size": 1, "token_ids": prompt(model, 0, 5)}
    assert call(server, "/cache/prefetches", "POST", body, status=202) == {"chunks": 0, "status": "noop"}
    wrong = body | {"token_ids": prompt(model, 1), "source_tier": "l1"}
    assert "direction 'l1'->'l1'" in call(server, "/cache/prefetches", "POST", wrong, status=400)["detail"]
    unknown = body | {"token_ids": prompt(model, 1), "model_name": "nobody"}
    assert "no layout registered" in call(server, "/cache/prefetches", "POST", unknown, status=503)["detail"]
    salted = body | {"token_ids": prompt(model, 1), "cache_salt": "a/b"}
    call(server, "/cache/prefetches", "POST", salted, status=400)
    call(server, "/cache/prefetches", "POST", {"model_name": model}, status=422)


@pytest.mark.ours_only
def test_the_objects_of_both_tiers_are_listed(l2_server, engines, model, tmp_path):
    engine, tokens = engines(l2_server), prompt(model, 5)
    engine.store(tokens)
    assert until(lambda: l2_files(tmp_path) == 5)
    listings = []
    for tier in ("l1", "l2"):
        token, entries = "", []
        for _ in range(20):
            page = call(l2_server, f"/cache/objects?tier={tier}&page_size=2&model_name={model}{token}")
            entries += page["entries"]
            if page["next_page_token"] is None:
                break
            token = f"&page_token={page['next_page_token']}"
        assert {entry["size_bytes"] for entry in entries} == {OBJECT_BYTES}
        listings.append({json.dumps(entry["key"], sort_keys=True) for entry in entries})
    assert len(listings[0]) == 5 and listings[0] == listings[1]
    assert call(l2_server, "/cache/objects?model_name=nobody")["entries"] == []


def test_listings_that_can_not_be(server):
    assert "no L2 adapter" in call(server, "/cache/objects", status=503)["detail"].replace("No L2", "no L2")
    call(server, "/cache/objects?tier=bogus", status=422)
    call(server, "/cache/objects?page_size=0", status=422)


@pytest.mark.ours_only
def test_objects_are_deleted_by_name(l2_server, engines, model, tmp_path):
    engine, tokens = engines(l2_server), prompt(model, 3)
    engine.store(tokens)
    assert until(lambda: l2_files(tmp_path) == 3)
    keys = [entry["key"] for entry in call(l2_server, "/cache/objects?tier=l1")["entries"]]
    absent = keys[0] | {"chunk_hash_hex": "0" * 64}
    engine.lookup(tokens, "reader")
    answer = call(l2_server, "/cache/objects", "DELETE", {"keys": [*keys, absent], "tier": "l1"})
    assert answer == {"deleted": 0, "skipped": 3, "ok": True}
    engine.end("reader")
    answer = call(l2_server, "/cache/objects", "DELETE", {"keys": [*keys, absent], "tier": "all"})
    assert answer == {"deleted": 6, "skipped": 0, "ok": True}
    assert l2_files(tmp_path) == 0 and engine.hits(tokens) == 0
    bad = {"keys": [keys[0] | {"chunk_hash_hex": "zz"}]}
    assert call(l2_server, "/cache/objects", "DELETE", bad, status=400)["detail"].startswith("keys[0]: ")
    bad = {"keys": [keys[0] | {"model_name": "m@x"}]}
    assert "`m@x`" in call(l2_server, "/cache/objects", "DELETE", bad, status=400)["detail"]


@pytest.mark.ours_only
def test_storage_is_cleared_and_memory_is_not(l2_server, engines, model, tmp_path):
    engine, tokens = engines(l2_server), prompt(model, 3)
    engine.store(tokens)
    assert until(lambda: l2_files(tmp_path) == 3)
    answer = call(l2_server, "/cache/clear", "POST", {"tier": "l2"})
    assert answer["cleared"]["adapters"] == [{"type_name": "fs", "deleted": 3, "skipped": 0, "error": None}]
    assert l2_files(tmp_path) == 0 and engine.hits(tokens) == 3


@pytest.mark.ours_only
def test_leases_have_owners_and_can_be_taken_back(server, engine, model):
    tokens = prompt(model, 2)
    engine.store(tokens)
    engine.lookup(tokens, "forgotten")
    mine = [h for h in call(server, "/leases")["holders"] if h["model_name"] == model]
    assert [(h["request_id"], h["leases"], h["orphaned"]) for h in mine] == [(engine.full_id("forgotten"), 2, False)]
    assert call(server, "/leases")["leaked"] == 0
    release = {"request_id": engine.full_id("forgotten"), "reason": "stuck"}
    assert call(server, "/leases/release", "POST", release) == {"released": 2}
    assert engine.retrieve(tokens, "forgotten") is None
    call(server, "/leases/release", "POST", release, status=404)
    call(server, "/leases/release", "POST", release | {"reason": " "}, status=400)

    engine.lookup(tokens, "copying")
    engine.prepare_retrieve(tokens, "copying")
    release = {"instance_id": engine.instance_id, "reason": "hung in its copy"}
    assert call(server, "/leases/release", "POST", release) == {"released": 2}
    after = call(server, "/leases")
    assert after["leaked"] == 0 and not [h for h in after["holders"] if h["model_name"] == model]
