"""The second tier under an operator's hands: adapters attached, paused and detached, eviction, adapters that never answer."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from mpkit.engine import OBJECT_BYTES, content, prompt
from mpkit.process import StartFailed
from mpkit.wait import until

from test_cache_control import call, fs, l2_files

pytestmark = pytest.mark.ours_only

ADAPTERS = "/config/adapters"
GIB = 1 << 30


def config(folder, **keys: object) -> dict:
    return json.loads(fs(folder)) | keys


def attach(server, folder, status: int = 201, index: int | None = None, **keys: object) -> dict:
    body = {"config": config(folder, **keys)} | ({} if index is None else {"index": index})
    return call(server, ADAPTERS, "POST", body, status)


def ids(server) -> list[str]:
    return [adapter["id"] for adapter in call(server, ADAPTERS)["adapters"]]


def clear(server) -> None:
    call(server, "/cache/clear", "POST", {"force": True})


def metric(server, name: str) -> float:
    """The sum of a family's samples."""
    lines = server.http("/metrics")[1].splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))


def test_an_adapter_comes_and_goes_while_the_server_runs(own_server, engines, model, tmp_path):
    server = own_server()
    engine, tokens = engines(server), prompt(model, 4)
    assert call(server, ADAPTERS) == {"adapters": []}
    engine.store(tokens)
    attached = attach(server, tmp_path)
    assert (attached["id"], attached["index"], attached["phase"], attached["tier"]) == ("fs-0", 0, "active", "l2")
    assert l2_files(tmp_path) == 0, "what was stored before stays where it is"
    other = prompt((model, "other"), 4)
    engine.store(other)
    assert until(lambda: l2_files(tmp_path) == 4)
    clear(server)
    assert engine.fetch(other, 4) == [content(other, index) for index in range(4)]
    gone = call(server, f"{ADAPTERS}/fs-0?timeout_seconds=10", "DELETE")
    assert gone == {"status": "detached", "id": "fs-0", "drained": True, "in_use_by": 0, "closed": True}
    assert ids(server) == []
    clear(server)
    assert engine.hits(other) == 0
    attach(server, tmp_path)
    assert ids(server) == ["fs-1"], "an id is not given twice"
    assert engine.hits(other) == 4


def test_the_shown_configuration_has_the_adapters_that_are_there(own_server, tmp_path):
    server = own_server("--l2-adapter", fs(tmp_path / "a"))

    def shown() -> list[str]:
        return re.findall(r'"base_path": ?"([^"]*)"', server.http("/config")[1])

    attach(server, tmp_path / "b")
    assert set(shown()) == {str(tmp_path / "a"), str(tmp_path / "b")}
    call(server, f"{ADAPTERS}/fs-0", "DELETE")
    assert set(shown()) == {str(tmp_path / "b")}


def test_the_order_of_the_list_is_the_order_of_preference(own_server, engines, model, tmp_path):
    server = own_server("--l2-adapter", fs(tmp_path / "a"))
    attach(server, tmp_path / "b", index=0)
    assert ids(server) == ["fs-1", "fs-0"]
    assert [adapter["primary"] for adapter in call(server, ADAPTERS)["adapters"]] == [True, False]
    engine, tokens = engines(server), prompt(model, 3)
    engine.store(tokens)
    assert until(lambda: l2_files(tmp_path / "a") == l2_files(tmp_path / "b") == 3)
    clear(server)
    assert engine.hits(tokens) == 3
    loaded = server.http("/metrics")[1]
    assert 'larder_l2_ok_keys_total{adapter="fs-1",l2_name="fs",op="load"} 3' in loaded
    assert 'larder_l2_ok_keys_total{adapter="fs-0",l2_name="fs",op="load"} 0' in loaded


def test_a_paused_adapter_is_left_alone(own_server, engines, model, tmp_path):
    server = own_server("--l2-adapter", fs(tmp_path))
    engine, tokens = engines(server), prompt(model, 3)
    engine.store(tokens)
    assert until(lambda: l2_files(tmp_path) == 3)
    paused = call(server, f"{ADAPTERS}/fs-0/pause", "POST")
    assert (paused["phase"], paused["paused"]) == ("paused", True)
    clear(server)
    assert engine.hits(tokens) == 0
    engine.store(prompt((model, "more"), 2))
    assert call(server, f"{ADAPTERS}/0/resume", "POST")["phase"] == "active"
    assert engine.hits(tokens) == 3
    assert l2_files(tmp_path) == 3
    assert call(server, f"{ADAPTERS}/fs-0/breaker/reset", "POST")["breaker"]["state"] == "closed"


def test_what_cannot_be_attached_changes_nothing(own_server, tmp_path):
    server = own_server("--l2-adapter", fs(tmp_path))
    assert "`base_path`" in call(server, ADAPTERS, "POST", {"config": {"type": "fs"}}, 400)["detail"]
    assert "`disk` is not known" in call(server, ADAPTERS, "POST", {"config": {"type": "disk"}}, 400)["detail"]
    assert "place `5`" in attach(server, tmp_path / "b", status=400, index=5)["detail"]
    pointless = attach(server, tmp_path / "b", status=400, eviction={"eviction_policy": "LRU"})
    assert "has nothing to go by" in pointless["detail"] and "hint:" in pointless["detail"]
    assert "body: " in call(server, ADAPTERS, "POST", {"configuration": {}}, 422)["detail"]
    call(server, f"{ADAPTERS}/fs-7", "DELETE", status=404)
    call(server, f"{ADAPTERS}/fs-0?timeout_seconds=-1", "DELETE", status=400)
    assert ids(server) == ["fs-0"]


def test_credentials_are_not_shown(own_server):
    server = own_server()
    secret = {"type": "resp", "host": "127.0.0.1", "port": 1, "username": "u", "password": "hunter2"}
    attached = call(server, ADAPTERS, "POST", {"config": secret}, 201)
    assert attached["config"]["username"] == "u"
    for path in (ADAPTERS, "/status", "/config"):
        assert "hunter2" not in server.http(path)[1]


def test_a_server_with_eviction_that_could_never_begin_does_not_start(own_server, tmp_path):
    with pytest.raises(StartFailed, match="nothing to go by"):
        own_server("--l2-adapter", json.dumps(config(tmp_path, eviction={"eviction_policy": "LRU"})))


@pytest.mark.parametrize("policy", ["LRU", "ARC", "S3FIFO", "IsolatedLRU", "PrefixARC"])
def test_a_directory_takes_many_times_its_capacity(own_server, engines, model, tmp_path, policy):
    capacity = 64
    block = {"eviction_policy": policy, "trigger_watermark": 0.9, "eviction_ratio": 0.1}
    server = own_server("--l2-adapter", json.dumps(config(
        tmp_path, max_capacity_gb=capacity * OBJECT_BYTES / GIB, eviction=block)))
    engine = engines(server)
    backlog = lambda: metric(server, "larder_leases")
    for index in range(4 * capacity // 8):
        engine.store(prompt((model, index), 8))
        assert l2_files(tmp_path) <= capacity
        assert until(lambda: backlog() == 0)
    assert metric(server, 'larder_l2_failed_keys_total{adapter="fs-0",l2_name="fs",op="store"}') == 0
    assert metric(server, "lmcache_mp_l2_evicted_objects_chunks_total") >= 3 * capacity
    clear(server)
    if policy != "S3FIFO":  # it lets go of what was used once before it is old
        assert engine.hits(prompt((model, 4 * capacity // 8 - 1), 8)) == 8
    controller = server.status()["storage_manager"]["l2_eviction_controller"]
    assert controller["is_healthy"] and controller["thread_alive"]
    (adapter,) = controller["adapters"]
    assert (adapter["eviction_policy"], adapter["trigger_watermark"], adapter["eviction_ratio"]) == (policy, 0.9, 0.1)
    assert 0 < adapter["current_usage"] <= 1 and adapter["num_cache_salt_buckets"] == 1
    assert adapter["total_bytes_used"] == adapter["indexed_bytes"] <= adapter["total_capacity_bytes"]


def test_an_index_is_learnt_again_after_a_restart(own_server, engines, model, tmp_path):
    settings = config(tmp_path, max_capacity_gb=64 * OBJECT_BYTES / GIB)
    server = own_server("--l2-adapter", json.dumps(settings))
    engine = engines(server)
    engine.store(prompt(model, 60))
    assert until(lambda: l2_files(tmp_path) == 60)
    engine.close()
    server.stop()
    settings["eviction"] = {"eviction_policy": "LRU", "trigger_watermark": 0.5}
    server = own_server("--l2-adapter", json.dumps(settings))
    assert until(lambda: l2_files(tmp_path) < 32), l2_files(tmp_path)


def test_an_adapter_that_never_answers_is_given_up_on(own_server, engines, model, tmp_path):
    stuck = {"type": "mock", "max_size_gb": 1, "mock_bandwidth_gb": 1e-9,
             "timeout": {"base_ms": 200, "bytes_per_s_min": 0}}
    server = own_server("--l2-adapter", json.dumps(stuck), "--l2-adapter", fs(tmp_path))
    engine, tokens = engines(server), prompt(model, 3)
    engine.store(tokens)
    assert until(lambda: l2_files(tmp_path) == 3)
    assert until(lambda: metric(server, "larder_leases") == 0)
    clear(server)
    assert engine.hits(tokens) == 3, "what the first one can't give comes from the next"


def test_loads_stay_within_their_budget(own_server, engines, model, tmp_path):
    server = own_server("--l2-adapter", fs(tmp_path), "--l2-prefetch-max-gb", str(16 * OBJECT_BYTES / GIB))
    engine, tokens = engines(server), prompt(model, 20)
    engine.store(tokens)
    assert until(lambda: l2_files(tmp_path) == 20)
    clear(server)
    assert engine.hits(tokens) == 16
    assert metric(server, "larder_l2_prefetch_shortened_chunks_total") == 4
    assert engine.hits(tokens) == 20
    assert metric(server, "lmcache_mp_inflight_load_memory_usage_bytes") == 0


def test_the_command_line_does_the_same(own_server, tmp_path):
    server = own_server()
    def larder(*words: str) -> str:
        url = f"http://127.0.0.1:{server.http_port}"
        done = subprocess.run([server.command[0], "adapters", words[0], "--url", url, *words[1:]],
                              capture_output=True, text=True, timeout=30)
        return done.stdout if done.returncode == 0 else f"{done.returncode}: {done.stderr}"
    assert larder("ls") == "no adapters\n"
    assert larder("attach", fs(tmp_path)) == "fs-0: active, ready\n"
    assert larder("attach", "--index", "0", fs(tmp_path / "b")) == "fs-1: active, ready\n"
    assert larder("pause", "fs-0") == "fs-0: paused, ready\n"
    assert [line.split()[0] for line in larder("ls").splitlines()] == ["ID", "fs-1", "fs-0"]
    assert larder("resume", "1") == "fs-0: active, ready\n"
    assert larder("reset", "fs-1") == "fs-1: active, ready\n"
    assert larder("detach", "fs-1", "--timeout", "5") == "fs-1: detached\n"
    assert larder("detach", "fs-1") == "1: error: no adapter is called `fs-1`\nhint: `larder adapters ls` lists them\n"
    assert larder("attach", '{"type": "fs"}').startswith("1: error: `base_path`")
    assert ids(server) == ["fs-0"]
