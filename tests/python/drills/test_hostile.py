"""A good client works while others send garbage, connect in thousands, or never read."""

from __future__ import annotations

import contextlib
import pathlib
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from mpkit import wire
from mpkit.engine import Engine, content, prompt
from mpkit.fuzz import GREETING, READY
from mpkit.process import Server
from mpkit.wait import until

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


#: What one hostile connection may cost the server, in MB.
ONE_CLIENT_MB = 128

#: The same where chunks travel in messages.
ONE_PICKLE_CLIENT_MB = 300

#: Most token ids a prompt may have.
TOKEN_IDS_MAX = 16 << 20


def message(*frames: bytes) -> bytes:
    """A ZMTP message."""
    last = len(frames) - 1
    return b"".join(frame_header(len(frame), more=index < last) + frame for index, frame in enumerate(frames))


def frame_header(length: int, more: bool = False) -> bytes:
    return bytes([2 | more]) + length.to_bytes(8, "big")


def raw_connection(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(GREETING + READY)
    return connection


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.http("/metrics")[1], re.MULTILINE)
    assert found, f"no {name}"
    return float(found[1])


@contextlib.contextmanager
def watched(server: Server, most_mb: float) -> Iterator[None]:
    """A good client works all the while, and the server never takes more than `most_mb` beside what it had."""
    before = resident_mb(server.pid)
    peak, turns, over = before, 0, threading.Event()
    failures: list[BaseException] = []

    def good() -> None:
        nonlocal peak, turns
        try:
            with Engine(server, 1, model=MODEL) as engine:
                while not over.is_set() or turns < 5:
                    work(engine, turns, cleared=True)
                    assert server.http("/readyz")[0] == 200
                    turns += 1
                    peak = max(peak, resident_mb(server.pid))
        except BaseException as failure:
            failures.append(failure)

    worker = threading.Thread(target=good)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()
    assert not failures, failures
    print(f"{turns} good requests meanwhile, {peak - before:.0f} MB more at most")
    assert peak - before < most_mb


def key_of(ids: int, request_id: str, **fields: object) -> bytes:
    """A key with a prompt of so many ids of one byte each."""
    raw = b"\xdd" + ids.to_bytes(4, "big") + b"\x01" * ids
    return wire.encode(wire.key([], request_id, **fields) | {"token_ids": msgspec.Raw(raw), "end": ids})


@pytest.mark.ours_only
def test_a_message_that_trickles_holds_up_nobody(own_server):
    server = own_server()
    with watched(server, ONE_CLIENT_MB), raw_connection(server) as trickler:
        trickler.sendall(frame_header(90 << 20) + bytes(80 << 20))
        until(lambda: metric(server, "larder_rpc_received_unanswered_bytes") >= 80 << 20, "it has arrived")
        for _ in range(20):
            trickler.sendall(b"\0")
            time.sleep(0.05)


@pytest.mark.ours_only
def test_prompts_of_millions_of_tokens_hold_up_nobody_and_leave_nothing(own_server):
    server = own_server()
    with watched(server, ONE_CLIENT_MB), server.client() as client:
        client.answer_s = 60.0
        for ids, outcome in [(TOKEN_IDS_MAX, wire.VOID), (TOKEN_IDS_MAX + 1, wire.FAILED)] * 3:
            client.expect(outcome, "lookup", wire.Raw(key_of(ids, "long", model_name="nobody")), 1)
    assert resident_mb(server.pid) < 64


@pytest.mark.ours_only
def test_settings_and_unknown_fields_of_megabytes_hold_up_nobody(own_server):
    server = own_server()
    stuffing = msgspec.Raw(b"\xdd" + (40 << 20).to_bytes(4, "big") + b"\x01" * (40 << 20))
    with watched(server, ONE_CLIENT_MB), server.client() as client:
        client.answer_s = 60.0
        for field in [{"request_configs": {"a": stuffing}}, {"unknown": stuffing}]:
            client.outcome("lookup", wire.Raw(wire.encode(wire.key([1] * 16, "stuffed") | field)), 1)


@pytest.mark.ours_only
def test_names_of_megabytes_are_refused_and_not_kept(own_server):
    server = own_server()
    with watched(server, ONE_CLIENT_MB), server.client() as client:
        long = "n" * (4 << 20)
        for turn in range(50):
            client.expect(wire.FAILED, "lookup", wire.key([1] * 16, f"{turn}-{long}"), 1)
            client.expect(wire.FAILED, "lookup", wire.key([1] * 16, "r", model_name=f"{turn}-{long}"), 1)
            client.expect(wire.FAILED, "query_prefetch_status", f"{turn}-{long}")
            client.expect(wire.FAILED, "subscribe_kv_events", turn, f"{turn}-{long}", 0, 1)
    assert resident_mb(server.pid) < 64


@pytest.mark.ours_only
def test_a_model_name_that_no_file_can_have_is_refused(server):
    with server.client() as client:
        client.expect(wire.FAILED, "lookup", wire.key([1] * 16, "nul", model_name="a\0b"), 1)


@pytest.mark.ours_only
def test_a_pickle_client_that_never_reads_costs_a_bounded_amount(own_server):
    import torch

    server = own_server(shm=False, l1_size_gb="0.125")
    # Four chunks of 8 MiB.
    with Engine(server, 7, model="large", num_layers=32, hidden_dim_size=4096) as engine:
        tokens = prompt("large", 4)
        key = engine.worker_key(tokens, "large")
        engine.prepare_store(tokens, "large")
        tensors = [torch.zeros([2, 32, 16, 4096], dtype=torch.bfloat16)] * 4
        assert engine.worker.call("commit_store", key, 7, pickle.dumps([tensor.clone() for tensor in tensors])) is True
        del tensors
        assert engine.lookup(tokens, "large", num_kv_readers=128) == 4
        with watched(server, ONE_PICKLE_CLIENT_MB), raw_connection(server) as deaf:
            payloads = wire.encode(key), wire.encode(7)
            request = message(b"\x01", wire.operation("prepare_retrieve"), *payloads)
            deaf.sendall(request * 128)
            until(lambda: metric(server, "larder_rpc_outgoing_bytes") >= 32 << 20, "answers wait")
            time.sleep(1.0)


@pytest.mark.ours_only
def test_a_commit_too_large_to_be_kept_is_answered_and_the_connection_goes_on(own_server):
    server = own_server()
    with watched(server, ONE_CLIENT_MB), Engine(server, 7) as engine:
        tokens = prompt("too large", 4)
        engine.prepare_store(tokens, "r")
        engine.worker.answer_s = 60.0
        assert engine.commit_store(tokens, "r", bytes(200 << 20)) is False
        assert engine.worker.call("ping", 7) is True
    assert metric(server, "larder_rpc_cut_total") == 1
    assert server.log().count("are more than a message may have") == 1
