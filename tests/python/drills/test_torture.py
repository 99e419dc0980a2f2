"""Killed at random moments under load, again and again, over a few pools and one directory: nothing wrong is ever read, nothing leaks."""

from __future__ import annotations

import json
import os
import pathlib
import random
import threading

import pytest

from mpkit.engine import Engine, content, prompt
from mpkit.wait import until

MODEL = "torture"
CHUNKS = 4
CLIENTS = 3
POOL_GB = str(4 / 1024)

#: Rounds over one pool. A full one takes no stores for half a minute after each restart, which is longer than a round.
POOL_ROUNDS = 3

#: Prompts of earlier rounds that each round asks for.
RECHECKED = 12


class Client(threading.Thread):
    """Stores prompts and reads old ones until the server is gone. What it saw is in `stored` and `wrong`."""

    def __init__(self, server, number: int, round_number: int, known: list[object]) -> None:
        super().__init__()
        self.server, self.number, self.round_number, self.known = server, number, round_number, known
        self.stop, self.stored, self.wrong, self.work = threading.Event(), [], [], 0

    def run(self) -> None:
        source = random.Random(f"{self.round_number}-{self.number}")
        engine = Engine(self.server, (os.getpid() << 20) + self.number, model=MODEL)
        engine.worker.answer_s = engine.scheduler.answer_s = 3.0
        try:
            while not self.stop.is_set():
                seed = (self.round_number, self.number, self.work)
                engine.store(prompt(seed, CHUNKS))
                self.stored.append(seed)
                self.read(engine, source.choice(self.known + self.stored))
                self.work += 1
        except AssertionError as error:
            # Silence is what a dead server gives.
            if "SILENCE" not in str(error) and not self.stop.is_set():
                self.wrong.append(error)
        finally:
            engine.close()

    def read(self, engine: Engine, seed: object) -> None:
        self.wrong.extend(check(engine, seed)[1])


def check(engine: Engine, seed: object) -> tuple[int, list[object]]:
    """Hits of a prompt, and what was wrong about their bytes."""
    tokens = prompt(seed, CHUNKS)
    request_id = engine.request_id()
    hits = engine.lookup(tokens, request_id)
    objects = engine.retrieve(tokens, request_id, end=hits * len(tokens) // CHUNKS) if hits else []
    engine.end(request_id)
    expected = [content(tokens, index) for index in range(hits)]
    return hits, [] if objects == expected or objects is None else [seed]


@pytest.mark.ours_only
def test_nothing_wrong_is_read_after_any_number_of_kills(own_server, tmp_path, request):
    rounds = request.config.getoption("--torture-rounds")
    source = random.Random(rounds)
    folder = tmp_path / "kv"
    flags = ["--l1-warm-restart", "--l2-adapter", json.dumps({"type": "fs", "base_path": str(folder)})]
    name = f"torture_{os.getpid()}"
    pool = lambda number: f"{name}_{number // POOL_ROUNDS}"
    known: list[object] = []
    adopted = hits = 0
    for number in range(rounds):
        server = own_server(*flags, l1_size_gb=POOL_GB, shm_name=pool(number))
        adopted += server.status()["larder"]["adoption"]["adopted"]
        with Engine(server, (os.getpid() << 20) + 99, model=MODEL) as engine:
            for seed in source.sample(known, min(RECHECKED, len(known))):
                found, wrong = check(engine, seed)
                assert not wrong, f"round {number}: {wrong}"
                hits += found
        clients = [Client(server, client, number, known) for client in range(CLIENTS)]
        for client in clients:
            client.start()
        enough = source.randrange(1, 12)
        until(lambda: all(client.work >= enough or not client.is_alive() for client in clients), "clients at work")
        server.kill()
        for client in clients:
            client.stop.set()
            client.join()
            assert not client.wrong, f"round {number}: {client.wrong}"
            known.extend(client.stored)
    assert adopted > 0 and hits > 0

    last = own_server(*flags, l1_size_gb=POOL_GB, shm_name=pool(rounds - 1))
    until(lambda: last.status()["larder"]["adoption"]["waiting"] == 0, "the end of taking over")
    l2 = lambda: last.status()["storage_manager"]["l2_adapters"][0]
    until(lambda: l2()["is_complete"], "the index of the directory")
    files = sum(1 for _ in folder.rglob("*.data"))
    assert l2()["objects"] == files > 0
    assert not list(folder.rglob("*.tmp"))
    with Engine(last, (os.getpid() << 20) + 99, model=MODEL) as engine:
        for seed in known:
            assert not check(engine, seed)[1], seed
        assert last.http("/leases")[0] == 200 and json.loads(last.http("/leases")[1])["leaked"] == 0
    last.http("/cache/clear", "POST", {"tier": "l1", "force": True})
    used = lambda: last.status()["storage_manager"]["l1_manager"]["memory_used_bytes"]
    # Memory that the last victim's clients may have been writing is out of use for minutes, what they may have been reading for half a one.
    held = last.status()["larder"]["adoption"]["held_bytes"]
    until(lambda: used() == held, f"a pool without anything but the {held} bytes that are held", limit_s=60)
    last.stop()
    for path in pathlib.Path("/dev/shm").glob(f"*{name}*"):
        path.unlink()
