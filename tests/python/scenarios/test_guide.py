"""The commands of the guide that need no vLLM, as the pages have them; tests/e2e has those that do, plugin_cli.rs those on plugins."""

from __future__ import annotations

import json
import re

import pytest

from mpkit import wire
from mpkit.engine import CHUNK, Engine, prompt
from mpkit.guide import ROOT, Reader, blocks
from mpkit.process import free_port, http
from mpkit.wait import until

pytestmark = pytest.mark.ours_only

QUICK_START = "docs/guide/quickstart.md"
STORAGE = "docs/guide/storage.md"


class Place:
    """A reader of the guide with ports and a pool that fit the machine, and the server that was started by the page."""

    def __init__(self, reader: Reader, rpc: int, http_port: int) -> None:
        self.reader, self.port, self.http_port = reader, rpc, http_port

    def serve(self, block: str):
        """Runs a block that starts a server; chunks have the size that test engines use."""
        return self.reader.terminal(
            block, self.answers, LARDER_PORT=str(self.port), LARDER_HTTP_PORT=str(self.http_port),
            LARDER_CHUNK_SIZE=str(CHUNK), LARDER_L1_USE_LAZY="false")

    def answers(self) -> bool:
        try:
            return http(self.http_port, "/readyz")[0] == 200
        except OSError:
            return False

    def client(self) -> wire.Client:
        return wire.Client(f"tcp://127.0.0.1:{self.port}")


@pytest.fixture
def place(server_program: str, tmp_path) -> Place:
    rpc, http_port = free_port(), free_port()
    replaced = {
        "5555": str(rpc), "8080": str(http_port),
        "--l1-size-gb 4": "--l1-size-gb 0.05", "--l1-size-gb 64": "--l1-size-gb 0.05",
        "curl ": "curl -sS --fail-with-body ", "/mnt/b": str(tmp_path / "b"), "/var/cache/larder": str(tmp_path / "cache"),
    }
    reader = Reader(tmp_path, server_program, replaced)
    # What commands without an address of their own speak to.
    reader.environment["LARDER_URL"] = f"http://127.0.0.1:{http_port}"
    return Place(reader, rpc, http_port)


def test_the_quick_start_shows_what_an_engine_found(place):
    install, serve = blocks(QUICK_START, "## 1. The server")
    (engine,) = blocks(QUICK_START, "## 2. The engine")
    (look,) = blocks(QUICK_START, "## 3. See it work")
    assert install == "cargo install --path crates/larder\n" and (ROOT / "crates/larder/Cargo.toml").exists()
    with place.serve(serve) as log:
        until(lambda: "point vLLM at it" in log.read_text(), "the option for vLLM")
        told = re.search(r"--kv-transfer-config '(.*)'", log.read_text())
        written = re.search(r"--kv-transfer-config '(.*)'", place.reader.text(engine), re.DOTALL)
        assert told and written and json.loads(told[1]) == json.loads(written[1])
        with Engine(place, 1, model="m") as worker:
            tokens = prompt("quick start", 3)
            worker.store(tokens)
            worker.fetch(tokens, 3)
            until(lambda: f"Retrieved {3 * CHUNK} tokens" in log.read_text(), log.read_text)
        shown = place.reader.run(look)
        assert f"lookups  {3 * CHUNK} tokens asked for, {3 * CHUNK} found (100 %)" in shown, shown
        assert re.search(rf"^lmcache_mp_lookup_hit_tokens_total\{{.*\}} {3 * CHUNK}$", shown, re.MULTILINE), shown


def test_the_readme_s_commands_are_those_of_the_quick_start():
    install, serve = blocks("README.md", "## Quick start with vLLM")[0].splitlines()
    assert [f"{install}\n", f"{serve}\n"] == blocks(QUICK_START, "## 1. The server")
    option = re.compile(r"--kv-transfer-config '(.*?)'", re.DOTALL)
    configs = [option.search((ROOT / page).read_text()) for page in ("README.md", QUICK_START)]
    assert json.loads(configs[0][1]) == json.loads(configs[1][1])


def test_tiers_and_quotas_are_changed_as_the_page_says(place):
    (change,) = blocks(STORAGE, "### Changing tiers while the server runs")
    (quotas,) = blocks(STORAGE, "### Eviction and quotas")
    serve, *ask = quotas.splitlines()
    # The page leaves out what it has said above: the policy, and the tier there is already.
    above = """--eviction-policy LRU --l2-adapter '{"type": "fs", "base_path": "first"}'"""
    with place.serve(serve.replace("...", above)):
        assert '"alice":{"limit_gb":16.0' in place.reader.run("\n".join(ask))
        shown = place.reader.run(change)
        assert '"id":"fs-1","phase":"active"' in shown and '"status":"detached","id":"fs-1","drained":true' in shown


def test_the_tiers_of_the_page_are_a_configuration(place):
    block = blocks(STORAGE, "# Storage tiers")[0].replace("larder server", "larder config check")
    block = block.replace("--l1-size-gb 64", "--l1-size-gb 1")
    place.reader.environment |= {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
    assert place.reader.run(block) == "the configuration is valid\n"
