"""Wrong bytes are never served: bytes that change behind the server's back in memory or in a tier's files."""

from __future__ import annotations

import json
import re

import pytest

from mpkit.engine import CHUNK, content, prompt
from mpkit.wait import until


#: The reference server has no checksums.
pytestmark = pytest.mark.ours_only


@pytest.fixture
def checking(own_server):
    """A server over a directory."""

    def start(folder, *flags: str):
        return own_server("--l2-adapter", json.dumps({"type": "fs", "base_path": str(folder)}), *flags)

    return start


def count(server, name: str, where: str = "") -> int:
    """A counter of checksums."""
    label = re.escape(f'{{where="{where}"}}') if where else ""
    found = re.search(rf"^larder_checksum_{name}{label} (\d+)", server.http("/metrics")[1], re.MULTILINE)
    assert found, name
    return int(found[1])


def files(folder):
    return sorted(folder.glob("*.data"))


def flip(path) -> None:
    """One bit of a file, in place: it keeps its attributes."""
    with open(path, "r+b") as file:
        file.seek(100)
        byte = file.read(1)[0]
        file.seek(100)
        file.write(bytes([byte ^ 1]))


def slots(engine, tokens, chunks: int):
    """Where a prompt's chunks lie in the pool."""
    request_id = engine.request_id()
    assert engine.lookup(tokens, request_id) == chunks
    found = engine.prepare_retrieve(tokens, request_id)["context"]["slots"]
    assert engine.commit_retrieve(tokens, request_id) is True
    engine.end(request_id)
    return found


def test_memory_that_changed_is_not_handed_out(checking, engines, model, tmp_path):
    server = checking(tmp_path, "--checksum", "full")
    engine = engines(server)
    tokens = prompt(model, 4)
    engine.store(tokens)
    assert until(lambda: count(server, "sealed_total") == 4 and len(files(tmp_path)) == 4)
    place = slots(engine, tokens, 4)[2]
    changed = bytearray(engine.pool.read(place))
    changed[5] ^= 0x80
    engine.pool.write(place, bytes(changed))
    request_id = engine.request_id()
    assert engine.lookup(tokens, request_id) == 4
    assert engine.retrieve(tokens, request_id) is None
    engine.end(request_id)
    assert count(server, "mismatches_total", "retrieve") == 1
    # The copy in the directory is whole, and is fetched in place of the one that was dropped.
    assert engine.fetch(tokens, 4) == [content(tokens, index) for index in range(4)]
    assert server.status()["larder"]["checksum"]["mismatches_total"]["retrieve"] == 1
    assert server.status()["larder"]["leases"]["total"] == 0


def test_files_that_changed_are_set_aside(checking, engines, model, tmp_path):
    server = checking(tmp_path)
    engine = engines(server)
    tokens = prompt(model, 3)
    engine.store(tokens)
    assert until(lambda: len(files(tmp_path)) == 3 and count(server, "sealed_total") == 3)
    assert until(lambda: server.status()["larder"]["leases"]["total"] == 0)
    assert server.http("/cache/clear", "POST", {"force": True})[0] == 200
    for path in files(tmp_path):
        flip(path)
    assert engine.hits(tokens) == 0
    assert count(server, "mismatches_total", "load") == 3
    assert len(list((tmp_path / ".quarantine").iterdir())) == 3 and not files(tmp_path)
    assert engine.store(tokens) == 3
    assert until(lambda: len(files(tmp_path)) == 3)


def test_a_model_that_comes_back_in_another_shape_misses(checking, engines, tmp_path):
    tokens = prompt("shapes", 2)
    first = checking(tmp_path)
    engine = engines(first)
    engine.store(tokens)
    assert until(lambda: len(files(tmp_path)) == 2)
    engine.close()
    assert first.stop() == 0
    server = checking(tmp_path)
    # As many bytes an object, for other numbers of layers and values.
    engine = engines(server, num_layers=1, hidden_dim_size=128)
    assert engine.hits(tokens) == 0
    assert count(server, "mismatches_total", "load") == 2


def test_files_of_others_are_served_unverified(checking, engines, model, tmp_path):
    tokens = prompt(model, 2)
    server = checking(tmp_path, "--checksum", "off")
    engine = engines(server)
    engine.store(tokens)
    assert until(lambda: len(files(tmp_path)) == 2)
    assert count(server, "sealed_total") == 0
    engine.close()
    assert server.stop() == 0
    server = checking(tmp_path)
    engine = engines(server)
    assert engine.fetch(tokens, len(tokens) // CHUNK) == [content(tokens, index) for index in range(2)]
    assert count(server, "unverified_total") == 2
