"""Settings changed while the server runs: checked, versioned, carried out, taken back."""

from __future__ import annotations

import json

import pytest

from mpkit.engine import OBJECT_BYTES, prompt
from mpkit.wait import until

from test_capacity import CAPACITY, SMALL_GB
from test_cache_control import call, fs, l2_files

pytestmark = pytest.mark.ours_only

LIVE = "/config/live"


def change(server, status: int = 200, **request: object) -> dict:
    return call(server, LIVE, "PATCH", request, status)


def test_a_lower_watermark_evicts_without_a_restart(own_server, engines, model):
    server = own_server("--eviction-trigger-watermark", "1.0", l1_size_gb=SMALL_GB)
    engine = engines(server)
    for index in range(CAPACITY // 8 - 1):
        engine.store(prompt((model, index), 8))
    used = lambda: server.status()["storage_manager"]["l1_manager"]["memory_used_bytes"]
    assert used() == (CAPACITY // 8 - 1) * 8 * OBJECT_BYTES
    answer = change(server, settings={"eviction_trigger_watermark": 0.5}, expected_version=1, reason="too full")
    assert answer == {
        "version": 2, "changes": {"eviction_trigger_watermark": {"from": 1.0, "to": 0.5}}, "applied": True}
    assert until(lambda: used() < 0.5 * (1 << 20))
    assert server.status()["storage_manager"]["l1_eviction_controller"]["trigger_watermark"] == 0.5
    config = call(server, "/config")
    assert config["storage_manager"]["eviction_config"]["trigger_watermark"] == 0.5


def test_a_dry_run_and_a_stale_caller_change_nothing(own_server):
    server = own_server()
    dry = change(server, settings={"eviction_ratio": 0.5}, dry_run=True)
    assert dry["applied"] is False and dry["changes"]["eviction_ratio"] == {"from": 0.2, "to": 0.5}
    assert call(server, LIVE)["version"] == 1
    assert change(server, settings={"eviction_ratio": 0.5})["version"] == 2
    stale = change(server, status=409, settings={"eviction_ratio": 0.6}, expected_version=1)
    assert "version 2" in stale["detail"]
    assert call(server, LIVE)["settings"]["eviction_ratio"]["value"] == 0.5


def test_every_mistake_is_told_at_once(own_server):
    server = own_server()
    wrong = {"eviction_ratio": 7, "eviction_policy": "MRU", "l1_size_gb": 3, "colour": "red"}
    error = change(server, status=422, settings=wrong)["detail"]
    assert all(key in error for key in wrong), error
    assert change(server, status=422, setting={})["detail"].startswith("body: ")
    assert call(server, LIVE)["version"] == 1


def test_an_earlier_version_comes_back(own_server):
    server = own_server()
    change(server, settings={"eviction_ratio": 0.5, "log_level": "debug"}, reason="first")
    change(server, settings={"eviction_ratio": 0.9})
    answer = call(server, f"{LIVE}/rollback", "POST", {"version": 1, "reason": "it was better"})
    assert answer["version"] == 4 and answer["changes"]["eviction_ratio"] == {"from": 0.9, "to": 0.2}
    history = call(server, LIVE)["history"]
    assert [entry["version"] for entry in history] == [1, 2, 3, 4]
    assert history[1]["reason"] == "first" and history[1]["caller"].startswith("127.0.0.1:")
    call(server, f"{LIVE}/rollback", "POST", {"version": 99}, status=404)
    assert until(lambda: "version 2" in server.log()), "the log is written behind the answer"


def test_what_can_change_says_what_it_takes(own_server):
    server = own_server()
    settings = call(server, LIVE)["settings"]
    assert settings["eviction_policy"] | {"accepted": "", "help": ""} == {
        "value": "LRU", "source": "command line", "accepted": "", "help": ""}
    assert all(json.dumps(entry["accepted"]) for entry in settings.values())


def test_objects_stop_staying_in_memory(own_server, engines, model, tmp_path):
    server = own_server("--l2-adapter", fs(tmp_path))
    engine = engines(server)
    engine.store(prompt((model, "stays"), 2))
    assert until(lambda: l2_files(tmp_path) == 2)
    change(server, settings={"l2_store_policy": "skip_l1", "l2_prefetch_max_in_flight": 1})
    engine.store(prompt((model, "goes"), 3))
    resident = lambda: server.status()["storage_manager"]["l1_manager"]["total_object_count"]
    assert until(lambda: l2_files(tmp_path) == 5 and resident() == 2)
    assert engine.hits(prompt((model, "goes"), 3)) == 3
    assert server.status()["storage_manager"]["prefetch_controller"]["max_in_flight"] == 1


def test_a_policy_that_never_evicts_and_back(own_server, engines, model):
    server = own_server(l1_size_gb=SMALL_GB)
    engine = engines(server)
    change(server, settings={"eviction_policy": "noop"})
    for index in range(CAPACITY // 8):
        assert engine.store(prompt((model, index), 8)) == 8
    assert engine.store(prompt((model, "refused"), 8)) == 0
    change(server, settings={"eviction_policy": "S3FIFO"})
    assert engine.store(prompt((model, "taken"), 8)) == 8
    assert engine.hits(prompt((model, "taken"), 8)) == 8
