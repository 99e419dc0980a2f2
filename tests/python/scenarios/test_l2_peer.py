"""One directory, used by the reference server and by ours in turn: what either stored, the other serves, byte by byte."""

from __future__ import annotations

import json

import pytest

from conftest import commands
from mpkit.engine import content, prompt
from mpkit.wait import until


BOTH_WAYS = [("larder", "peer"), ("peer", "larder")]


def tier(folder, **keys: object) -> tuple[str, str]:
    return "--l2-adapter", json.dumps({"type": "fs", "base_path": str(folder)} | keys)


@pytest.fixture
def servers(request, start_server):
    """Starts either server; a run on one server alone has nothing to exchange."""
    if commands(request.config).keys() != {"larder", "peer"}:
        pytest.skip("needs both servers")
    return start_server


def objects(folder) -> int:
    return sum(1 for _ in folder.glob("*.data"))


def store(servers, engines, name: str, adapter: tuple[str, str], folder, prompts, **fields: object) -> None:
    """Has a server of its own store prompts, and ends it once all are in files."""
    before, server = objects(folder), servers(name, *adapter)
    engine = engines(server, **fields)
    chunks = sum(engine.store(tokens) for tokens in prompts)
    assert until(lambda: objects(folder) == before + chunks)
    engine.close()
    assert server.stop() == 0 or name == "peer"


@pytest.mark.parametrize(("writer", "reader"), BOTH_WAYS)
@pytest.mark.parametrize("kind", ["fs", "fs_native"])
def test_what_one_server_stored_the_other_serves(servers, engines, model, tmp_path, kind, writer, reader):
    adapter = tier(tmp_path, type=kind)
    prompts = [prompt(f"{model}{seed}", 4) for seed in range(3)]
    store(servers, engines, writer, adapter, tmp_path, prompts)
    engine = engines(servers(reader, *adapter))
    for tokens in prompts:
        assert engine.fetch(tokens, 4) == [content(tokens, index) for index in range(4)]
    longer = prompts[0] + prompt(f"{model}-more", 2)
    assert engine.hits(longer) == 4


@pytest.mark.parametrize(("writer", "reader"), BOTH_WAYS)
def test_names_agree_for_models_with_slashes_and_for_salts(servers, engines, tmp_path, writer, reader):
    tokens, fields = prompt("salted", 3), {"cache_salt": "tenant-1"}
    server = servers(writer, *tier(tmp_path))
    engine = engines(server, model="org/model.name-1")
    engine.store(tokens, **fields)
    assert until(lambda: objects(tmp_path) == 3)
    engine.close()
    server.stop()
    engine = engines(servers(reader, *tier(tmp_path)), model="org/model.name-1")
    assert engine.hits(tokens) == 0, "another tenant's"
    assert engine.fetch(tokens, 3, **fields) == [content(tokens, index) for index in range(3)]


@pytest.mark.parametrize(("writer", "reader"), BOTH_WAYS)
def test_every_rank_finds_its_own_part(servers, engines, model, tmp_path, writer, reader):
    tokens = prompt(model, 2)
    server = servers(writer, *tier(tmp_path))
    for rank in (0, 1):
        engines(server, world_size=2, rank=rank).store(tokens)
    assert until(lambda: objects(tmp_path) == 4)
    server.stop()
    server = servers(reader, *tier(tmp_path))
    ranks = [engines(server, world_size=2, rank=rank) for rank in (0, 1)]
    assert ranks[0].lookup(tokens, "both") == 2
    assert ranks[0].retrieve(tokens, "both") == [content(tokens, index, 0) for index in range(2)]
    key = ranks[0].full_id("both")
    ranks[1].full_id = lambda _: key
    assert ranks[1].retrieve(tokens, "both") == [content(tokens, index, 1) for index in range(2)]
    ranks[0].end("both")


def test_a_directory_goes_back_and_forth_and_grows(servers, engines, model, tmp_path):
    seen = []
    for turn, name in enumerate(["peer", "larder", "peer", "larder"]):
        new = prompt(f"{model}{turn}", 3)
        server = servers(name, *tier(tmp_path))
        engine = engines(server)
        for tokens in seen:
            assert engine.fetch(tokens, 3) == [content(tokens, index) for index in range(3)]
        engine.store(new)
        seen.append(new)
        assert until(lambda: objects(tmp_path) == 3 * len(seen))
        engine.close()
        server.stop()
