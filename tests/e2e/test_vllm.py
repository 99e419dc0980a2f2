"""Two vLLM processes, one after the other, and one cache server: same tokens as without a cache, prefill skipped."""

from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess
import sys
import time

import model
import pytest
from backends import BACKENDS

HERE = pathlib.Path(__file__).resolve().parent
CHUNK = 256
FLAGS = ["--l1-size-gb", "1", "--eviction-policy", "LRU", "--supported-transfer-mode", "engine_driven"]
PROCESS_LIMIT_S = 400

#: One unpinned thread each: spinning, pinned teams crawl on a machine that runs anything else.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "LMCACHE_TRACK_USAGE": "false",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


def ids(seed: str, count: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(3, model.VOCABULARY) for _ in range(count)]


MAIN = ids("main", 5 * CHUNK + 40)
PROMPTS = {
    "main": MAIN,
    # Shares three whole chunks with `main`.
    "branch": MAIN[: 3 * CHUNK] + ids("branch", CHUNK + 90),
    # Another first chunk, the rest equal: nothing of it may be found.
    "other": ids("other", CHUNK) + MAIN[CHUNK:],
    # Ends on a chunk boundary: the engine still computes the last token.
    "exact": MAIN[: 4 * CHUNK],
    "short": ids("short", CHUNK - 20),
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model.write(folder)
    return folder


@pytest.fixture(scope="session")
def run_engine(checkpoint, tmp_path_factory):
    """A function that runs one vLLM process over prompts and returns its rows by step name."""
    folder = tmp_path_factory.mktemp("engine")

    def run(name: str, steps: list[tuple[str, str, str | None]], port: int | None, prefix_caching: bool = False):
        out = folder / f"{name}-{port}.json"
        prompts = [{"name": step, "tokens": PROMPTS[prompt], "salt": salt} for step, prompt, salt in steps]
        job = {"model": str(checkpoint), "out": str(out), "port": port, "prefix_caching": prefix_caching,
               "prompts": prompts}
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(HERE / "engine_run.py")], input=json.dumps(job), text=True, timeout=PROCESS_LIMIT_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | ENVIRONMENT)
        assert done.returncode == 0, done.stdout[-6000:]
        print(f"{name}: {time.monotonic() - started:.1f} s")
        return {row["name"]: row for row in json.loads(out.read_text())}

    return run


@pytest.fixture(scope="session")
def reference(run_engine):
    """Each prompt's tokens without any external cache."""
    rows = run_engine("reference", [(name, name, None) for name in PROMPTS], None)
    assert rows["main"]["tokens"] != rows["other"]["tokens"], "the model does not notice its prefix"
    return {name: row["tokens"] for name, row in rows.items()}


@pytest.mark.parametrize("mode", ["shm", "pickle"])
def test_a_second_process_gets_the_cache_of_the_first(own_server, run_engine, reference, mode):
    server = own_server(*FLAGS, base=False, shm=mode == "shm")
    first = run_engine("first", [
        ("main", "main", None), ("main again", "main", None), ("branch", "branch", None), ("other", "other", None),
        ("short", "short", None), ("salted", "main", "tenant"),
    ], server.port)
    second = run_engine("second", [
        ("main", "main", None), ("branch", "branch", None), ("exact", "exact", None), ("short", "short", None),
        ("salted", "main", "tenant"), ("other salt", "main", "stranger"),
    ], server.port)
    third = run_engine("third", [("main", "main", None), ("branch", "branch", None)], server.port,
                       prefix_caching=True)
    assert server.running() and server.alive()
    assert bool(server.shm_name) == server.pool_path.is_file()

    prompt_of = {"main again": "main", "salted": "main", "other salt": "main"}
    for rows in (first, second, third):
        for name, row in rows.items():
            assert row["tokens"] == reference[prompt_of.get(name, name)], name
    assert {name: row["cached_tokens"] for name, row in first.items()} == {
        "main": 0, "main again": 5 * CHUNK, "branch": 3 * CHUNK, "other": 0, "short": 0, "salted": 0}
    exact = second.pop("exact")
    assert {name: row["external_hits"] for name, row in second.items()} == {
        "main": 5 * CHUNK, "branch": 4 * CHUNK, "short": 0, "salted": 5 * CHUNK, "other salt": 0}
    assert all(row["local_hits"] == 0 for row in second.values())
    # Everything of it is cached, but its last token has to be computed again.
    assert 3 * CHUNK <= exact["cached_tokens"] < 4 * CHUNK
    # With the engine's own prefix cache on, only what it lacks comes from us.
    assert third["branch"]["local_hits"] == 3 * CHUNK
    assert third["branch"]["external_hits"] == CHUNK


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_cache_outlives_server_and_engine(own_server, run_engine, reference, tmp_path, backend):
    with BACKENDS[backend](tmp_path) as adapter:
        l2 = ["--l2-adapter", json.dumps(adapter)]
        before = own_server(*FLAGS, *l2, base=False)
        cold = run_engine("cold", [("main", "main", None)], before.port)
        before.stop()
        after = own_server(*FLAGS, *l2, base=False)
        warm = run_engine("warm", [("main", "main", None), ("other", "other", None)], after.port)
        assert after.status()["storage_manager"]["l2_adapters"][0]["type"] == adapter["type"]
    for rows in (cold, warm):
        assert all(row["tokens"] == reference[name] for name, row in rows.items())
    assert cold["main"]["external_hits"] == 0
    assert (warm["main"]["external_hits"], warm["other"]["external_hits"]) == (5 * CHUNK, 0)
