"""Numbers as a contract: families, types, labels and bounds of the reference server, and counters that only rise."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from mpkit.deviation import differs
from mpkit.engine import Engine, prompt
from mpkit.guide import ROOT
from mpkit.wait import until

from test_cache_control import call, fs, l2_files

#: What a unit of the specification adds to a name.
SUFFIXES = {"s": "_seconds", "GB/s": "_GB_per_second", "By": "_bytes", "{chunks}": "", "": ""}

#: Families that measure what only one of the servers has.
EVENT_BUS = {f"lmcache_mp_event_bus_{name}" for name in (
    "drain_lag_seconds", "dropped_events_total", "queue_depth", "subscriber_exceptions_total")}
SERVER_DRIVEN = {f"lmcache_mp_{name}" for name in (
    "l0_block_idle_before_evict_seconds", "l0_block_lifetime_seconds", "l0_block_reuse_gap_seconds",
    "l0_l1_load_throughput_GB_per_second", "l0_l1_store_throughput_GB_per_second", "num_chunks_loaded_total",
    "num_finished_retrieves_total", "num_finished_stores_total", "num_submitted_retrieves_total",
    "num_submitted_stores_total", "transfer_phase_bytes_total", "transfer_phase_elapsed_seconds_total",
    "transfer_staging_throughput_GB_per_second")}
EXCEPTIONS = {"lmcache_mp_timeouts_total"}


@dataclass
class Family:
    kind: str
    labels: set[str] = field(default_factory=set)
    bounds: set[str] = field(default_factory=set)
    total: float = 0.0


def parse(text: str) -> dict[str, Family]:
    """The families of a scrape; of histograms `total` is the number of what was counted."""
    families = {name: Family(kind) for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)}
    for name, labels, value in re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        names = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)
        part = re.sub(r"_(bucket|sum|count)$", "", name)
        family = families.get(name) or families.get(part)
        if family is None:
            continue  # `_created` samples belong to no family of their own
        # The salt is there only where a request has one.
        family.labels |= {label for label, _ in names} - {"le", "cache_salt"}
        family.bounds |= {bound for label, bound in names if label == "le"}
        if not name.endswith(("_bucket", "_sum")):
            family.total += float(value)
    return families


def scrape(server) -> dict[str, Family]:
    code, text = server.http("/metrics")
    assert code == 200
    return parse(text)


def specified() -> dict[str, str]:
    """Every family that the reference server can have, with its kind (spec/http-api.md 3)."""
    rows = re.findall(r"^\| (lmcache_mp\.\S+) \| (\w+) \| (\S*) ?\|$", (ROOT / "spec/http-api.md").read_text(), re.MULTILINE)
    families = {}
    for name, kind, unit in rows:
        family = name.replace(".", "_")
        for suffix in (SUFFIXES.get(unit, f"_{unit}"), "_total" if kind == "counter" else ""):
            family += "" if family.endswith(suffix) else suffix
        families[family] = kind
    assert len(families) > 50
    return families


@pytest.fixture
def busy(own_server, engines, model, tmp_path):
    """A server with a tier that has stored, evicted, found in either tier, and found nothing."""
    server = own_server("--metrics-sample-rate", "1", "--l2-adapter", fs(tmp_path), l1_size_gb="0.001")
    engine = engines(server)
    first = prompt(model, 16)
    engine.store(first)
    engine.fetch(first, 16)
    until(lambda: l2_files(tmp_path) == 16)
    for number in range(12):
        engine.store(prompt((model, number), 16))
    until(lambda: engine.hits(first) == 16)
    engine.hits(prompt((model, "unknown"), 2))
    return server


def test_every_family_of_the_reference_server_is_there(busy):
    server, wanted = busy, specified()
    if server.is_ours:
        absent = (differs(server, "event-bus-metrics", peer=set(), ours=EVENT_BUS)
                  | differs(server, "server-driven-metrics", peer=set(), ours=SERVER_DRIVEN)
                  | differs(server, "exceptions-metric", peer=set(), ours=EXCEPTIONS))
        assert wanted.keys() - scrape(server).keys() == absent
    there = {name: family.kind for name, family in scrape(server).items() if name.startswith("lmcache_mp_")}
    assert there == {name: wanted.get(name) for name in there}


def test_labels_and_bounds_are_those_of_the_reference_server(busy):
    recorded = parse((ROOT / "spec/vectors/metrics_sample.txt").read_text())

    def differences() -> list[str]:
        now = scrape(busy)
        shared = [name for name in recorded if name.startswith("lmcache_mp_") and now.get(name, Family("")).total]
        return [f"{name}: {now[name]} instead of {recorded[name]}" for name in shared
                if (now[name].labels, now[name].bounds) != (recorded[name].labels, recorded[name].bounds)]

    moved = ("lookups_requests_total", "l1_chunk_lifetime_seconds", "l1_chunk_reuse_gap_seconds",
             "real_reuse_gap_seconds", "real_reuse_gap_objects", "l2_load_throughput_GB_per_second")
    if busy.is_ours:
        until(lambda: all(scrape(busy)[f"lmcache_mp_{name}"].total for name in moved))
    assert differences() == []


@pytest.mark.ours_only
def test_counters_survive_the_end_of_a_tier(own_server, engines, model, tmp_path):
    """An adapter's own series end with it; what was counted by type or for all adapters stays."""
    eviction = {"eviction_policy": "LRU", "trigger_watermark": 0.5, "eviction_ratio": 0.5}
    server = own_server("--l2-adapter", fs(tmp_path / "other"))
    config = {"type": "fs", "base_path": str(tmp_path / "kv"), "max_capacity_gb": 0.0002, "eviction": eviction}
    attached = call(server, "/config/adapters", "POST", {"config": config}, 201)["id"]
    engine = engines(server)
    for number in range(4):
        engine.store(prompt((model, number), 8))
    evicted = "lmcache_mp_l2_evicted_objects_chunks_total"
    until(lambda: scrape(server)[evicted].total > 0 and l2_files(tmp_path / "other") == 32)
    call(server, "/cache/clear", "POST", {"force": True})
    assert engine.hits(prompt((model, 3), 8)) == 8
    call(server, f"/config/adapters/{attached}/pause", "POST")
    before = scrape(server)
    call(server, f"/config/adapters/{attached}?timeout_seconds=10", "DELETE")
    assert attached not in server.http("/metrics")[1], "its own series end with it"
    after = scrape(server)
    counters = [name for name, family in before.items()
                if family.kind in ("counter", "histogram") and name.startswith("lmcache_mp_")]
    fallen = {name: (before[name].total, after[name].total) for name in counters
              if after[name].total < before[name].total}
    assert fallen == {} and before[evicted].total > 0


@pytest.mark.ours_only
def test_a_client_that_invents_names_has_a_few_of_the_labels_and_no_more(own_server, engines, model):
    server = own_server()
    inventor = engines(server)
    for number in range(100):
        inventor.scheduler.call("lookup", inventor.key(prompt(number, 1), f"r{number}", model_name=f"invented-{number}"), 1)
    with Engine(server, 4711, model=model) as honest:
        honest.hits(prompt(model, 1))
    names = set(re.findall(r'lmcache_mp_lookup_requested_tokens_total\{.*model_name="([^"]*)"', server.http("/metrics")[1]))
    assert len(names) < 40 and {"_other", model} <= names, names
