"""A client process that stops at a chosen moment and waits to be killed.

    python -m mpkit.victim ENDPOINT INSTANCE MODEL SEED MOMENT CHUNKS

MOMENT is `store` (slots reserved, half of the first one written) or `retrieve` (leases held, slots handed out).
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator

from . import wire
from .engine import CHUNK, Pool, content, prompt, registration_record

TESTS = pathlib.Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def victim(server, instance: int, model: str, seed: str, moment: str, chunks: int = 4
           ) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A client process that holds something, ready to be killed, and the number of slots it was told."""
    command = [sys.executable, "-m", "mpkit.victim", server.endpoint, str(instance), model, seed, moment, str(chunks)]
    process = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline().split()
        assert line[:1] == ["ready"], line
        yield process, int(line[1])
    finally:
        process.kill()
        process.wait()


def main() -> None:
    endpoint, instance, model, seed, moment, chunks = sys.argv[1:]
    client = wire.Client(endpoint)
    record = registration_record(int(instance), model_name=model)
    answer = client.call("register_kv_cache_engine_driven_context", record)
    pool = Pool(answer["shm_name"], answer["pool_size"])
    tokens = prompt(seed, int(chunks))
    request_id = f"victim-{instance}"
    worker_key = wire.key(tokens, request_id, model_name=model, worker_id=0)
    if moment == "store":
        slots = client.call("prepare_store", worker_key, int(instance))["context"]["slots"]
        first = slots[0]
        half = first | {"length": first["length"] // 2}
        pool.write(half, content(tokens, 0)[: half["length"]])
    else:
        client.call("lookup", wire.key(tokens, request_id, model_name=model), 1)
        client.call("wait_prefetch_status", request_id, 10.0)
        slots = client.call("prepare_retrieve", worker_key, int(instance))["context"]["slots"]
    print(f"ready {len(slots)} {CHUNK}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
