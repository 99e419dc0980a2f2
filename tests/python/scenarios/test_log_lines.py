"""The lines about single transfers that people filter the log for."""

from __future__ import annotations

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
