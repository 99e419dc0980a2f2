"""The lines about single transfers that people filter the log for."""

from __future__ import annotations

import json
import re

import pytest
from mpkit.engine import CHUNK, prompt
from mpkit.wait import until

STORED = r"Stored (\d+) tokens in \d+\.\d{3} seconds"
RETRIEVED = r"Retrieved (\d+) tokens in \d+\.\d{3} seconds"


def tokens(server, line: str) -> list[int]:
    return [int(count) for count in re.findall(line, server.log())]


@pytest.mark.parametrize("shm", [True, False], ids=["shm", "pickle"])
def test_a_store_and_a_retrieve_have_a_line_each(own_server, engines, model, shm):
    server = own_server(shm=shm)
    engine, stored = engines(server), prompt(model, 3)
    engine.store(stored)
    assert until(lambda: tokens(server, STORED) == [3 * CHUNK]), server.log()
    engine.fetch(stored, 2)
    assert until(lambda: tokens(server, RETRIEVED) == [2 * CHUNK]), server.log()


@pytest.mark.ours_only
def test_a_start_says_in_one_line_what_runs(own_server):
    adapter = json.dumps({"type": "mock", "max_size_gb": 0.01, "mock_bandwidth_gb": 1})
    server = own_server("--eviction-policy", "S3FIFO", "--l2-adapter", adapter, l1_size_gb="0.0625")
    until(lambda: " serves: " in server.log())
    (line,) = [line for line in server.log().splitlines() if " serves: " in line]
    for part in ("larder ", f"pool 64 MiB in /dev/shm/{server.pool_path.name}", "free memory: ", "policy S3FIFO",
                 "tiers mock-0", f"engines at tcp://127.0.0.1:{server.port}", f"HTTP at http://127.0.0.1:{server.http_port}"):
        assert part in line, part


@pytest.mark.ours_only
def test_an_address_is_announced_in_numbers(own_server):
    server = own_server()
    until(lambda: f"LMCache ZMQ cache server is running on tcp://127.0.0.1:{server.port}" in server.log())
