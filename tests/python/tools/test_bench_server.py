"""The reference project's own load tool, unmodified, against either server."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

LMCACHE = pathlib.Path(sys.executable).parent / "lmcache"
FLAGS = ["--l1-size-gb", "1", "--eviction-policy", "LRU", "--supported-transfer-mode", "engine_driven",
         "--no-l1-use-lazy"]
#: The tool prepends one token: 1024 are four whole chunks.
ARGUMENTS = ["--mode", "cpu", "--transfer-mode", "engine_driven", "--kvcache-shape-spec",
             "(2,64,16,4,64):bfloat16:8", "--num-tokens", "1023", "--start", "0", "--end", "4", "--interval", "0.1"]
LIMIT_S = 240


@pytest.mark.parametrize("mode", ["shm", "pickle"])
def test_lmcache_bench_server(own_server, mode):
    server = own_server(*FLAGS, base=False, shm=mode == "shm")
    urls = ["--rpc-url", server.endpoint, "--url", f"http://127.0.0.1:{server.http_port}"]
    done = subprocess.run(
        [str(LMCACHE), "bench", "server", *urls, *ARGUMENTS], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, env=os.environ | {"LMCACHE_TRACK_USAGE": "false"})
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert done.returncode == 0, output[-3000:]
    # The tool ends with 0 even when its checks fail.
    for name, wanted in (("Total requests", 4), ("Checksum OK", 4), ("Checksum FAIL", 0)):
        found = re.search(rf"^{name}:\s+(\d+)$", output, flags=re.MULTILINE)
        assert found is not None and int(found.group(1)) == wanted, output[-3000:]
