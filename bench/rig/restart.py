"""What a warm restart costs, and how soon a killed server's successor answers from memory.

    python bench/rig/restart.py target/release/larder

Ours only: the reference server keeps nothing in memory over its end. Uses the scripted engine of tests/python.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "python"))

from mpkit.engine import Engine, prompt  # noqa: E402
from mpkit.process import Server  # noqa: E402

FLAGS = ["--eviction-policy", "LRU", "--chunk-size", "16", "--no-l1-use-lazy", "--l1-size-gb", "4",
         "--supported-transfer-mode", "engine_driven", "--eviction-trigger-watermark", "1.0"]

#: Objects of 1 MiB, 32 a prompt.
REGISTRATION = {"model": "m", "num_layers": 16, "hidden_dim_size": 1024}
PROMPTS, CHUNKS, OBJECT_BYTES = 100, 32, 1 << 20


def fill(server: Server) -> float:
    """Seconds to store all prompts."""
    block = os.urandom(OBJECT_BYTES)
    started = time.monotonic()
    with Engine(server, 1 << 40, **REGISTRATION) as engine:
        for number in range(PROMPTS):
            tokens, request_id = prompt(number, CHUNKS), f"store-{number}"
            for slot in engine.prepare_store(tokens, request_id)["slots"]:
                engine.pool.write(slot, block)
            assert engine.commit_store(tokens, request_id)
            engine.end(request_id)
    return time.monotonic() - started


def larder(server: Server) -> dict:
    return json.loads(server.http("/status")[1])["larder"]


def until(condition) -> None:
    while True:
        try:
            if condition():
                return
        except (OSError, AssertionError):
            pass
        time.sleep(0.001)


def main() -> None:
    command, folder = f"{sys.argv[1]} server", pathlib.Path(tempfile.mkdtemp())
    names = [f"restart_{os.getpid()}_{kind}" for kind in ("warm", "cold")]
    warm = [*FLAGS, "--l1-warm-restart"]
    server = Server("larder", command, folder, warm, shm_name=names[0]).start()
    print(f"storing {PROMPTS * CHUNKS} objects with a warm restart on: {fill(server):.2f} s")
    # An object is sealed a moment after its commit; the kill is to find them all.
    time.sleep(1.0)
    server.kill()
    started = time.monotonic()
    server = Server("larder", command, folder, warm, shm_name=names[0]).spawn()

    def answered() -> bool:
        with Engine(server, 1 << 40, **REGISTRATION) as engine:
            return engine.lookup(prompt(PROMPTS // 2, CHUNKS), "first") == CHUNKS

    until(answered)
    print(f"first hit of {CHUNKS} chunks: {(time.monotonic() - started) * 1e3:.0f} ms from process start")
    until(lambda: larder(server)["adoption"]["waiting"] == 0)
    print(f"everything verified: {(time.monotonic() - started) * 1e3:.0f} ms, {larder(server)['adoption']}")
    server.stop()
    server = Server("larder", command, folder, FLAGS, shm_name=names[1]).start()
    print(f"storing the same with it off: {fill(server):.2f} s")
    server.stop()
    for path in pathlib.Path("/dev/shm").glob(f"*restart_{os.getpid()}_*"):
        path.unlink()


if __name__ == "__main__":
    main()
