"""The quick start without a GPU, command by command as the page has it."""

from __future__ import annotations

import contextlib
import re
import urllib.request

import pytest
from test_vllm import ENVIRONMENT

from mpkit.guide import Reader, blocks
from mpkit.process import free_port
from mpkit.wait import until

PAGE = "docs/guide/quickstart.md"
SECTION = "## Without a GPU"


def answers(port: str, path: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.status == 200
    return False


@pytest.mark.ours_only
def test_the_quick_start_without_a_gpu_does_what_it_says(server_program, tmp_path):
    rpc, http, vllm = (str(free_port()) for _ in range(3))
    reader = Reader(tmp_path, server_program, {"5555": rpc, "8080": http, "8000": vllm})
    ports = {"LARDER_PORT": rpc, "LARDER_HTTP_PORT": http}
    printed: list[str] = []
    with contextlib.ExitStack() as terminals:
        logs = []
        for block in blocks(PAGE, SECTION):
            if block.startswith("larder server"):
                logs.append(terminals.enter_context(reader.terminal(block, lambda: answers(http, "/readyz"), **ports)))
            elif "vllm.entrypoints" in block:
                ready = terminals.enter_context(
                    reader.terminal(block, lambda: answers(vllm, "/health"), **ENVIRONMENT))
                logs.append(ready)
            else:
                printed.append(reader.run(block))
        assert len(logs) == 2 and len(printed) == 3
        assert printed[1].count('"prompt_tokens":600') == 2, printed[1]
        for name in ("lmcache_mp_lookup_hit_tokens_total", "vllm:external_prefix_cache_hits_total"):
            value = re.search(rf"^{name}\{{.*\}} (\S+)$", printed[2], re.MULTILINE)
            assert value and float(value[1]) == 512, printed[2]
        (promised,) = blocks(PAGE, SECTION, "text")
        for line in promised.splitlines():
            pattern = ".*".join(re.escape(part) for part in line.split("..."))
            until(lambda: re.search(pattern, logs[0].read_text()), lambda: f"{line}\n{logs[0].read_text()}")
