"""What a sick tier costs a healthy one beside it, and how much of a directory hits right after a restart.

    python bench/rig/tiers.py target/release/larder [--mib 256] [--rounds 3] [--objects-mib 1024]

Ours only: the neighbours are told to misbehave by our configuration. Uses the scripted engine of tests/python.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "python"))

from mpkit.engine import Engine, prompt  # noqa: E402
from mpkit.process import Server  # noqa: E402

FLAGS = ["--eviction-policy", "LRU", "--chunk-size", "16", "--supported-transfer-mode", "engine_driven"]

#: Objects of 2 MiB and of 32 MiB.
SMALL, LARGE = {"num_layers": 32, "hidden_dim_size": 1024}, {"num_layers": 64, "hidden_dim_size": 8192}
SMALL_MIB, LARGE_MIB, CHUNKS = 2, 32, 8

NEIGHBOURS = ("nothing", "limited", "deaf", "vanished")


def fs(folder: pathlib.Path, **keys: object) -> list[str]:
    return ["--l2-adapter", json.dumps({"type": "fs", "base_path": str(folder)} | keys)]


def files(folder: pathlib.Path) -> int:
    return sum(1 for _ in folder.rglob("*.data"))


@contextlib.contextmanager
def deaf_port():
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for connection in accepted:
            connection.close()


def fill(engine: Engine, prompts: list[list[int]], block: bytes) -> None:
    for number, tokens in enumerate(prompts):
        request_id = f"store-{number}"
        for slot in engine.prepare_store(tokens, request_id)["slots"]:
            engine.pool.write(slot, block)
        assert engine.commit_store(tokens, request_id)
        engine.end(request_id)


def beside(command: str, neighbour: str, mib: int, scratch: pathlib.Path) -> tuple[float, float]:
    """Seconds until a directory has everything, and until everything has hit again, beside a neighbour that is preferred to it."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    healthy, other = folder / "healthy", folder / "other"
    prompts = [prompt((neighbour, number), CHUNKS) for number in range(mib // SMALL_MIB // CHUNKS)]
    block, wanted = os.urandom(SMALL_MIB << 20), len(prompts) * CHUNKS
    with deaf_port() as port:
        flags = {
            "nothing": [],
            "limited": fs(other, limits={"store_bytes_per_s": 8 << 20}),
            "deaf": ["--l2-adapter", json.dumps({"type": "resp", "host": "127.0.0.1", "port": port})],
            "vanished": fs(other),
        }[neighbour]
        pool = ["--no-l1-use-lazy", "--l1-size-gb", str(2 * mib / 1024)]
        with Server("larder", command, folder, [*FLAGS, *pool, *flags, *fs(healthy)], shm_name=f"tiers_{os.getpid()}").start() as server:
            if neighbour == "vanished":
                shutil.rmtree(other)
            with Engine(server, 1 << 40, **SMALL) as engine:
                engine.scheduler.answer_s = 60.0
                started = time.monotonic()
                fill(engine, prompts, block)
                while files(healthy) < wanted:
                    time.sleep(0.002)
                stored = time.monotonic() - started
                server.http("/cache/clear", "POST", {"force": True})
                started = time.monotonic()
                # The first finds out that the neighbour does not answer; what is measured is every request after it.
                engine.hits(prompt("first", CHUNKS))
                found_out = time.monotonic() - started
                started = time.monotonic()
                assert [engine.hits(tokens) for tokens in prompts] == [CHUNKS] * len(prompts)
                hit = time.monotonic() - started
    print(f"  {neighbour:9} stored {stored:6.2f} s, hit {hit:6.2f} s, first request {found_out * 1e3:6.0f} ms", flush=True)
    shutil.rmtree(folder)
    return stored, hit


def restarted(command: str, mib: int, scratch: pathlib.Path) -> float:
    """The share of what a directory holds that hits at once after a start, in objects of 32 MiB."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    prompts = [prompt(("restart", number), CHUNKS) for number in range(mib // LARGE_MIB // CHUNKS)]
    pool = ["--l1-size-gb", str(2 * mib / 1024)]
    block, wanted = os.urandom(LARGE_MIB << 20), len(prompts) * CHUNKS
    start = lambda: Server("larder", command, folder, [*FLAGS, *pool, *fs(folder / "l2")], shm_name=f"tiers_{os.getpid()}").start()
    with start() as server, Engine(server, 1 << 40, **LARGE) as engine:
        engine.worker.answer_s = 60.0
        fill(engine, prompts, block)
        while files(folder / "l2") < wanted:
            time.sleep(0.01)
    with start() as server, Engine(server, 1 << 40, **LARGE) as engine:
        engine.scheduler.answer_s = 60.0
        hits = sum(engine.hits(tokens) for tokens in prompts)
    shutil.rmtree(folder)
    return hits / wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("larder")
    parser.add_argument("--mib", type=int, default=256, help="what is stored beside a neighbour")
    parser.add_argument("--objects-mib", type=int, default=1024, help="what is there before the restart")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    options = parser.parse_args()
    command = f"{options.larder} server"
    times: dict[str, list[tuple[float, float]]] = {neighbour: [] for neighbour in NEIGHBOURS}
    for number in range(options.rounds):
        for neighbour in NEIGHBOURS if number % 2 == 0 else reversed(NEIGHBOURS):
            times[neighbour].append(beside(command, neighbour, options.mib, options.folder))
    medians = {name: [statistics.median(column) for column in zip(*rounds)] for name, rounds in times.items()}
    print("| beside it | all stored, s | x alone | all hit again, s | x alone |\n|---|---|---|---|---|")
    for name, (stored, hit) in medians.items():
        alone_stored, alone_hit = medians["nothing"]
        print(f"| {name} | {stored:.2f} | {stored / alone_stored:.2f} | {hit:.2f} | {hit / alone_hit:.2f} |")
    for number in range(options.rounds):
        print(f"stored prompts hit right after a restart, 32 MiB objects: {restarted(command, options.objects_mib, options.folder):.0%}")


if __name__ == "__main__":
    main()
