"""The admin surface: the routes of the first cut, their bodies, and the names operators' dashboards use."""

from __future__ import annotations

import json
import re
import time

import pytest

from mpkit.deviation import differs
from mpkit.engine import OBJECT_BYTES, prompt
from mpkit.wait import until

#: Metrics that exist after one lookup, store and retrieve (spec/vectors/metrics_sample.txt).
METRICS = {
    "lmcache_mp_active_prefetch_jobs": "gauge",
    "lmcache_mp_l1_memory_usage_bytes": "gauge",
    "lmcache_mp_l1_read_chunks_total": "counter",
    "lmcache_mp_l1_staging_bytes": "gauge",
    "lmcache_mp_l1_usage_ratio": "gauge",
    "lmcache_mp_l1_write_chunks_total": "counter",
    "lmcache_mp_lookup_hit_l1_tokens_total": "counter",
    "lmcache_mp_lookup_hit_tokens_total": "counter",
    "lmcache_mp_lookup_requested_tokens_total": "counter",
    "lmcache_mp_lookups_requests_total": "counter",
    "lmcache_mp_l1_eviction_loop_ticks_total": "counter",
    "lmcache_mp_kv_events_log_depth": "gauge",
}

L1_MANAGER_KEYS = {
    "is_healthy", "total_object_count", "write_locked_count", "read_locked_count", "temporary_count",
    "staging_object_count", "staging_bytes", "memory_used_bytes", "memory_total_bytes", "memory_configured_bytes",
    "capacity_bytes_by_backend", "memory_usage_ratio", "write_ttl_seconds", "read_ttl_seconds",
}

STATUS_KEYS = {
    "is_healthy", "engine_type", "chunk_size", "hash_algorithm", "active_sessions", "storage_manager",
    "active_prefetch_jobs", "active_p2p_lookup_jobs", "p2p_enabled", "worker_liveness", "kv_events",
    "registered_non_cuda_instance_ids", "non_cuda_context_meta",
}

CONFIG_KEYS = {"mp", "storage_manager", "observability", "http", "coordinator"}


def body(server, path, method="GET", data=None, status=200):
    code, text = server.http(path, method, data)
    assert code == status, text
    return json.loads(text)


def test_root(server):
    assert body(server, "/") == {"status": "ok", "service": "LMCache HTTP API"}


def test_healthcheck(server):
    assert body(server, "/healthcheck") == {"status": "healthy"}


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes(server, path):
    code, _ = server.http(path)
    assert code == differs(server, "health-probes", peer=404, ours=200)


def test_version(server):
    version = body(server, "/version")
    assert isinstance(version, str) and re.match(r"\d+\.\d+\.\d+", version)


def test_the_version_the_client_compares(server):
    assert re.match(r"\d+\.\d+\.\d+", body(server, "/lmc_version"))


def test_unknown_path(server):
    assert body(server, "/no/such/path", status=404) == {"detail": "Not Found"}


def test_wrong_method(server):
    assert body(server, "/status", "POST", {}, status=405) == {"detail": "Method Not Allowed"}


def test_status_keys(server, engine):
    status = body(server, "/status")
    assert STATUS_KEYS <= status.keys()
    assert status["is_healthy"] is True and status["engine_type"] == "MPCacheServer"
    assert status["chunk_size"] == 16 and status["hash_algorithm"] == "blake3"
    storage = status["storage_manager"]
    assert L1_MANAGER_KEYS <= storage["l1_manager"].keys()
    assert storage["l1_managers"].keys() == {"_default"}
    assert L1_MANAGER_KEYS <= storage["l1_managers"]["_default"].keys()
    assert storage["l1_usage"][0] == storage["l1_manager"]["memory_used_bytes"]
    assert storage["l1_eviction_controller"]["eviction_policy"] == "LRU"
    assert storage["l2_adapters"] == [] and storage["num_l2_adapters"] == 0
    events = status["kv_events"]
    assert {"enabled", "incarnation", "log_depth", "log_capacity", "next_seq", "subscribers"} <= events.keys()
    liveness = status["worker_liveness"]
    assert liveness["reap_timeout_seconds"] == 120.0 and liveness["registration_grace_seconds"] == 3600.0


def test_the_whole_pool_is_there_in_the_end(server):
    """A server may answer while it still prepares its memory."""
    until(lambda: body(server, "/status")["storage_manager"]["l1_usage"][1] >= 1 << 28, "the whole pool")
    storage = body(server, "/status")["storage_manager"]
    assert storage["l1_usage"][1] == storage["l1_manager"]["memory_total_bytes"] == 1 << 28
    assert storage["l1_manager"]["memory_configured_bytes"] == 1 << 28


def test_status_shows_registered_engines(server, engine, model):
    status = body(server, "/status")
    assert engine.instance_id in status["registered_non_cuda_instance_ids"]
    meta = status["non_cuda_context_meta"][str(engine.instance_id)]
    assert meta["model_name"] == model and meta["world_size"] == 1 and meta["use_mla"] is False
    engine.unregister()
    assert engine.instance_id not in body(server, "/status")["registered_non_cuda_instance_ids"]


def test_status_counts_objects(server, engine, model):
    before = body(server, "/status")["storage_manager"]["l1_manager"]
    tokens = prompt(model, 3)
    engine.prepare_store(tokens, "a")
    during = body(server, "/status")["storage_manager"]["l1_manager"]
    assert during["staging_object_count"] == before["staging_object_count"] + 3
    assert during["staging_bytes"] == before["staging_bytes"] + 3 * OBJECT_BYTES
    assert during["total_object_count"] == before["total_object_count"] + 3
    engine.commit_store(tokens, "a")
    after = body(server, "/status")["storage_manager"]["l1_manager"]
    assert after["staging_object_count"] == before["staging_object_count"]
    assert after["memory_used_bytes"] == before["memory_used_bytes"] + 3 * OBJECT_BYTES


def test_config(server):
    config = body(server, "/config")
    assert CONFIG_KEYS <= config.keys()
    assert config["mp"]["chunk_size"] == 16 and config["mp"]["port"] == server.port
    assert config["mp"]["hash_algorithm"] == "blake3"
    assert config["http"] == {"http_host": "127.0.0.1", "http_port": server.http_port}
    memory = config["storage_manager"]["l1_manager_config"]["memory_config"]
    assert memory["size_in_bytes"] == 1 << 28 and memory["align_bytes"] == 4096
    eviction = config["storage_manager"]["eviction_config"]
    assert eviction["eviction_policy"] == "LRU" and eviction["trigger_watermark"] == 0.8
    assert config["observability"]["metrics_sample_rate"] == 0.01


def test_clear(server, engine, model):
    tokens = prompt(model, 2)
    engine.store(tokens)
    assert body(server, "/cache/clear", "POST") == {"status": "ok", "cleared": {"tier": "l1"}}
    assert engine.hits(tokens) == 0


def test_clear_spares_what_is_held_unless_forced(server, engine, model):
    tokens = prompt(model, 2)
    engine.store(tokens)
    engine.lookup(tokens, "a")
    body(server, "/cache/clear", "POST", {"tier": "l1", "force": False})
    assert engine.hits(tokens) == 2
    body(server, "/cache/clear", "POST", {"tier": "l1", "force": True})
    assert engine.hits(tokens) == 0


def test_clear_of_another_tier(server):
    """The shared servers have no second tier."""
    code, text = server.http("/cache/clear", "POST", {"tier": "l2"})
    peer = (400, {"detail": "tier 'l2' not supported; only 'l1'"})
    ours = (503, {"detail": "no L2 adapters configured"})
    assert (code, json.loads(text)) == differs(server, "clear-and-list-tiers", peer=peer, ours=ours)


def metrics(server) -> tuple[dict[str, str], dict[str, float]]:
    code, text = server.http("/metrics")
    assert code == 200
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, flags=re.MULTILINE))
    values: dict[str, float] = {}
    for name, value in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{[^}]*\})? (\S+)$", text, flags=re.MULTILINE):
        values[name] = values.get(name, 0.0) + float(value)
    return types, values


def test_metrics_names(server, engine, model):
    tokens = prompt(model, 2)
    engine.store(tokens)
    engine.fetch(tokens, 2)
    missing = METRICS.keys()
    deadline = time.monotonic() + 10
    while missing and time.monotonic() < deadline:
        types, _ = metrics(server)
        missing = {name for name, kind in METRICS.items() if types.get(name) != kind}
    assert not missing


def test_metrics_of_the_event_bus(server):
    """The reference server counts through a queue that drops; ours counts where things happen."""
    types, _ = metrics(server)
    there = any(name.startswith("lmcache_mp_event_bus_") for name in types)
    assert there is differs(server, "event-bus-metrics", peer=True, ours=False)


def test_metrics_move(server, engine, model):
    _, before = metrics(server)
    tokens = prompt(model, 4)
    engine.store(tokens)
    engine.fetch(tokens, 4)
    wanted = {
        "lmcache_mp_lookups_requests_total": 1,
        "lmcache_mp_lookup_requested_tokens_total": 64,
        "lmcache_mp_lookup_hit_tokens_total": 64,
        "lmcache_mp_lookup_hit_l1_tokens_total": 64,
        "lmcache_mp_l1_write_chunks_total": 4,
        "lmcache_mp_l1_read_chunks_total": 4,
    }
    moved: dict[str, float] = {}
    deadline = time.monotonic() + 10
    while moved != wanted and time.monotonic() < deadline:
        _, after = metrics(server)
        moved = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in wanted}
    assert moved == wanted


@pytest.mark.parametrize("path", ["/env", "/threads", "/loglevel", "/docs", "/openapi.json"])
def test_routes_of_a_python_process(server, path):
    assert server.http(path)[0] == differs(server, "routes-of-a-python-process", peer=200, ours=404)


@pytest.mark.parametrize(("method", "path", "peer"), [
    ("POST", "/cache/checksums", 422), ("GET", "/reconfigure/dax/l2/status", 200), ("GET", "/periodic-threads-health", 200),
    ("POST", "/metrics/reset", 200),
])
def test_routes_of_parts_that_are_not_there(server, method, path, peer):
    assert server.http(path, method)[0] == differs(server, "routes-of-other-parts", peer=peer, ours=404)


def test_the_admin_port_is_loopback_by_default(server):
    import socket

    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError):
        socket.create_connection((own, server.http_port), timeout=2).close()
