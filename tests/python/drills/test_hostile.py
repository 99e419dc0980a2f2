"""A good client works while others send garbage, connect in thousands, or never read."""

from __future__ import annotations

import pathlib
import socket
import subprocess
import sys
import time

import pytest

from mpkit import wire
from mpkit.engine import Engine, content, prompt

TESTS = pathlib.Path(__file__).resolve().parent.parent
MODEL = "good"


def resident_mb(pid: int) -> float:
    """Memory of the process without what it shares (the pool)."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no RssAnon")


def work(engine: Engine, turn: int, cleared: bool = False) -> bool:
    """One request's life; the bytes must be right. Whether there were any: with `cleared`, somebody may have emptied
    the cache in between."""
    tokens = prompt(("good", turn), 4)
    request_id = f"good-{turn}"
    engine.lookup(tokens, request_id)
    engine.store(tokens, request_id, cleared=cleared)
    engine.end(request_id)
    got = engine.fetch(tokens, 4)
    assert (cleared and got is None) or got == [content(tokens, chunk) for chunk in range(4)]
    return got is not None


@pytest.mark.ours_only
def test_fuzzed_frames_do_not_disturb_a_good_client(request, own_server):
    seconds = request.config.getoption("--fuzz-seconds")
    server = own_server()
    seeds = [f"{time.time_ns()}-{number}" for number in range(2)]
    attackers = [subprocess.Popen([sys.executable, "-m", "mpkit.fuzz", server.endpoint, str(seconds), seed],
                                  cwd=TESTS, stdout=subprocess.PIPE, text=True) for seed in seeds]
    print("seeds:", *seeds)
    turns, hits = 0, 0
    try:
        with Engine(server, 1, model=MODEL) as engine:
            while any(attacker.poll() is None for attacker in attackers):
                # A mutated operation may well be a forced clear.
                hits += work(engine, turns, cleared=True)
                turns += 1
            work(engine, turns)
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.wait()
    assert [attacker.returncode for attacker in attackers] == [0, 0]
    assert hits > turns * 0.9 > 0
    assert resident_mb(server.pid) < 300
    print(f"{turns} good requests meanwhile")


@pytest.mark.ours_only
def test_a_client_that_never_reads_blocks_only_itself(own_server):
    server = own_server()
    with socket.create_connection(("127.0.0.1", server.port)) as deaf, Engine(server, 1, model=MODEL) as engine:
        from mpkit.fuzz import GREETING, READY

        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(1.0)
        deaf.sendall(GREETING + READY)
        one = b"\x01\x01\x07\x00\x01\x18"
        sent = 0
        try:
            while sent < 400 << 20:
                sent += deaf.send(one * 20_000)
        except TimeoutError:
            pass
        for turn in range(5):
            work(engine, turn)
        assert resident_mb(server.pid) < 300


@pytest.mark.ours_only
def test_thousands_of_connections(own_server):
    server = own_server()
    connections: list[socket.socket] = []
    try:
        with Engine(server, 1, model=MODEL) as engine:
            for number in range(3000):
                connection = socket.create_connection(("127.0.0.1", server.port), timeout=5)
                connections.append(connection)
                if number % 500 == 0:
                    work(engine, number)
            work(engine, 10_000)
    finally:
        for connection in connections:
            connection.close()
    assert server.alive()
    assert resident_mb(server.pid) < 300


@pytest.mark.ours_only
def test_waiting_clients_do_not_hold_up_a_ping(own_server):
    """Eight clients wait for lookups that never happen, one after the other; pings are answered in between."""
    server = own_server()
    waiters = [server.client() for _ in range(8)]
    try:
        with server.client() as client:
            for waiter in waiters:
                waiter.send("wait_prefetch_status", "nobody-looks-this-up", 30.0)
            client.expect(True, "ping", None)
        for waiter in waiters:
            assert waiter.receive().outcome(wire.operation("wait_prefetch_status")) == 0
    finally:
        for waiter in waiters:
            waiter.close()
