"""Tiers that hang, vanish, are limited or hold the wrong thing: each fails alone, and costs a request one patience at most."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import threading

import pytest

from mpkit.engine import OBJECT_BYTES, content, prompt
from mpkit.wait import until

pytestmark = pytest.mark.ours_only

GIB = 1 << 30

#: Longest that any answer may take in these drills: above the patience, below what a stuck tier used to cost.
ANSWER_S = 8.0


def fs(folder: pathlib.Path, **keys: object) -> list[str]:
    return ["--l2-adapter", json.dumps({"type": "fs", "base_path": str(folder)} | keys)]


def files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(folder.rglob("*.data"))


def clear(server) -> None:
    assert server.http("/cache/clear", "POST", {"force": True})[0] == 200


def patient(engine):
    engine.worker.answer_s = engine.scheduler.answer_s = ANSWER_S
    return engine


def whole(tokens: list[int], chunks: int) -> list[bytes]:
    return [content(tokens, index) for index in range(chunks)]


@contextlib.contextmanager
def deaf_server():
    """A port that accepts connections and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    accepted = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted.append(listener.accept()[0])

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in accepted:
            connection.close()


def test_files_that_never_open_cost_only_their_own_prompt(own_server, engines, model, tmp_path):
    server = own_server(*fs(tmp_path))
    engine = patient(engines(server))
    prompts = [prompt((model, index), 3) for index in range(5)]
    engine.store(prompts[0])
    until(lambda: len(files(tmp_path)) == 3, "the first prompt in the tier")
    stuck = files(tmp_path)
    for tokens in prompts[1:]:
        engine.store(tokens)
    until(lambda: len(files(tmp_path)) == 15, "all prompts in the tier")
    for path in stuck:
        path.unlink()
        os.mkfifo(path)
    clear(server)
    assert engine.hits(prompts[0]) == 0
    for tokens in prompts[1:]:
        assert engine.fetch(tokens, 3) == whole(tokens, 3)
    assert engine.hits(prompts[0]) == 0


def test_what_a_vanished_directory_had_comes_from_the_next_tier(own_server, engines, model, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    server = own_server(*fs(first), *fs(second))
    engine = patient(engines(server))
    prompts = [prompt((model, index), 3) for index in range(12)]
    for tokens in prompts:
        engine.store(tokens)
    until(lambda: len(files(first)) == len(files(second)) == 36, "all prompts in both tiers")
    shutil.move(first, tmp_path / "away")
    clear(server)
    for tokens in prompts:
        assert engine.fetch(tokens, 3) == whole(tokens, 3)


def test_a_dead_remote_costs_a_healthy_directory_nothing(own_server, engines, model, tmp_path):
    with deaf_server() as port:
        dead = json.dumps({"type": "resp", "host": "127.0.0.1", "port": port})
        server = own_server("--l2-adapter", dead, *fs(tmp_path))
        engine = patient(engines(server))
        prompts = [prompt((model, index), 3) for index in range(20)]
        for count, tokens in enumerate(prompts, 1):
            engine.store(tokens)
            until(lambda: len(files(tmp_path)) == 3 * count, "the prompt in the directory", limit_s=5)
        clear(server)
        for tokens in prompts:
            assert engine.fetch(tokens, 3) == whole(tokens, 3)
        assert engine.hits(prompt((model, "new"), 3)) == 0


def test_a_limited_tier_gets_everything_in_the_end_and_holds_up_no_other(own_server, engines, model, tmp_path):
    slow, quick = tmp_path / "slow", tmp_path / "quick"
    limits = {"store_bytes_per_s": 24 * OBJECT_BYTES, "delay_max_ms": 10}
    server = own_server(*fs(slow, limits=limits), *fs(quick))
    engine = patient(engines(server))
    for index in range(24):
        engine.store(prompt((model, index), 4))
    until(lambda: len(files(quick)) == 96, "everything in the quick tier", limit_s=5)
    until(lambda: len(files(slow)) == 96, "everything in the limited tier")


def test_objects_of_another_size_hide_none_in_the_next_tier(own_server, engines, model, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    server = own_server(*fs(first, checksum=False), *fs(second))
    engine, tokens = patient(engines(server)), prompt(model, 3)
    engine.store(tokens)
    until(lambda: len(files(first)) == len(files(second)) == 3, "the prompt in both tiers")
    server.stop()
    for path in files(first):
        path.write_bytes(bytes(OBJECT_BYTES * 2))
    again = own_server(*fs(first, checksum=False), *fs(second))
    engine = patient(engines(again))
    assert engine.fetch(tokens, 3) == whole(tokens, 3)


def test_what_is_stored_while_a_capped_tier_is_indexed_reaches_it(own_server, engines, model, tmp_path):
    # As many files of somebody else's as make the first scan take a while.
    for index in range(20_000):
        (tmp_path / f"org-model@01000100@0@{index:064x}.data").touch()
    server = own_server(*fs(tmp_path, max_capacity_gb=1))
    engine = patient(engines(server))
    prompts = [prompt((model, index), 4) for index in range(20)]
    for tokens in prompts:
        engine.store(tokens)
    until(lambda: sum(1 for path in files(tmp_path) if path.stat().st_size) == 80, "all of it in the tier")
    clear(server)
    assert [engine.hits(tokens) for tokens in prompts] == [4] * 20


def test_everything_a_directory_holds_hits_right_after_a_start(own_server, engines, model, tmp_path):
    # Objects of 32 MiB, and a pool that is being prepared while they are asked for.
    shape = {"num_layers": 64, "hidden_dim_size": 8192}
    server = own_server(*fs(tmp_path, checksum=False), l1_size_gb="0.75")
    engine = engines(server, **shape)
    prompts = [prompt((model, index), 4) for index in range(4)]
    for tokens in prompts:
        request_id = engine.request_id()
        assert len(engine.prepare_store(tokens, request_id)["slots"]) == 4
        assert engine.commit_store(tokens, request_id)
    until(lambda: len(files(tmp_path)) == 16, "all prompts in the tier")
    server.stop()
    again = own_server(*fs(tmp_path, checksum=False), l1_size_gb="0.75")
    engine = patient(engines(again, **shape))
    assert [engine.hits(tokens) for tokens in prompts] == [4] * 4
