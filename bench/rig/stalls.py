"""What many requests in flight with long prompts cost everybody else: round trips of a noop beside them, and the CPU time of a sweep,
which a busy machine does not blur. A sweep comes once a second, so the longest noop of each second tells of it: the stall is the
median of these beside the sessions less the same without them, which leaves out what came up in a few seconds only.

    python bench/rig/stalls.py target/release/larder [SESSIONS [CHUNKS]]

Ours only: the reference server is measured with `run.py rpc`. Uses the scripted engine of tests/python.
"""

from __future__ import annotations

import os
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "python"))

from mpkit.engine import Engine, prompt  # noqa: E402
from mpkit.process import Server  # noqa: E402

FLAGS = ["--eviction-policy", "LRU", "--chunk-size", "16", "--l1-size-gb", "0.1"]

#: Objects of a page.
REGISTRATION = {"model": "m", "num_layers": 1, "hidden_dim_size": 64}

SECONDS = 10


def round_trips(client) -> list[list[float]]:
    """Milliseconds of noops, one after the other, by the second they began in."""
    taken: list[list[float]] = [[] for _ in range(SECONDS)]
    begin = time.monotonic()
    while (second := int((started := time.monotonic()) - begin)) < SECONDS:
        client.call("noop")
        taken[second].append((time.monotonic() - started) * 1e3)
    return taken


def quiet_ms(server: Server) -> float:
    """CPU time of the RPC thread per second while nobody asks for anything: what a sweep holds everybody up for."""
    def spent() -> int:
        tasks = pathlib.Path(f"/proc/{server.pid}/task").iterdir()
        rpc = next(task for task in tasks if (task / "comm").read_text().strip() == "larder-rpc")
        return int((rpc / "schedstat").read_text().split()[0])

    before = spent()
    time.sleep(SECONDS)
    return (spent() - before) / SECONDS / 1e6


def report(what: str, by_second: list[list[float]]) -> float:
    """Prints them; the median of the longest of each second, in milliseconds."""
    taken = sorted(ms for second in by_second for ms in second)
    at = {name: taken[min(len(taken) - 1, int(len(taken) * share))] for name, share in
          (("median", 0.5), ("p99", 0.99), ("p99.9", 0.999))}
    longest = [max(second) for second in by_second if second]
    print(f"{what}: {len(taken)} noops, " + ", ".join(f"{name} {ms:.3f} ms" for name, ms in at.items()) +
          "; the longest of each second: " + " ".join(f"{ms:.2f}" for ms in longest) + " ms", flush=True)
    return statistics.median(longest)


def main() -> None:
    sessions, chunks = (int(word) for word in [*sys.argv[2:], *["1500", "4000"][len(sys.argv) - 2:]])
    name, folder = f"stalls_{os.getpid()}", pathlib.Path(tempfile.mkdtemp())
    server = Server("larder", f"{sys.argv[1]} server", folder, FLAGS, shm_name=name).start()
    with Engine(server, 1 << 40, **REGISTRATION) as engine, server.client() as client:
        without = report("no sessions", round_trips(client))
        idle = quiet_ms(server)
        tokens = prompt("long", chunks)
        for slot in engine.prepare_store(tokens, "store")["slots"]:
            engine.pool.write(slot, bytes(slot["length"]))
        assert engine.commit_store(tokens, "store")
        for number in range(sessions):
            assert engine.lookup(tokens, f"reader-{number}") == chunks
        beside = report(f"{sessions} sessions of {chunks} chunks", round_trips(client))
        swept = quiet_ms(server)
        print(f"RPC thread, nobody asks: {swept:.2f} ms of CPU a second, {idle:.2f} ms without sessions")
        print(f"noop stalls: {beside - without:.2f} ms each second ({beside:.2f} ms, {without:.2f} ms without sessions); "
              f"at most {swept - idle:.2f} ms of it are the sweep's", flush=True)
    server.stop()


if __name__ == "__main__":
    main()
