"""A hostile client: mutated requests over ZeroMQ and raw bytes over TCP, until it is ended.

    python -m mpkit.fuzz ENDPOINT SECONDS SEED
"""

from __future__ import annotations

import contextlib
import random
import socket
import sys
import time

from . import wire
from .engine import CHUNK, prompt, registration_record

GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00NULL" + b"\0" * 16 + b"\0" * 32
READY_BODY = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"
READY = b"\x04" + len(READY_BODY).to_bytes() + READY_BODY


def valid_requests(source: random.Random) -> list[list[bytes]]:
    """One well-formed request of each kind, as frames, for a model nobody else uses."""
    key = wire.key(prompt(source.random(), 2), f"fuzz-{source.random()}", model_name="fuzz", worker_id=0)
    registration = registration_record(source.randrange(1 << 20), model_name="fuzz")
    calls = [
        ("noop", []), ("get_chunk_size", []), ("ping", [7]), ("ping", [None]), ("get_experimental", []),
        ("lookup", [key | {"worker_id": None}, 1]), ("query_prefetch_status", ["fuzz"]),
        ("wait_prefetch_status", ["fuzz", 0.01]), ("free_lookup_locks", [key, 1]), ("end_session", ["fuzz"]),
        ("register_kv_cache_engine_driven_context", [registration]),
        ("prepare_store", [key, 7]), ("commit_store", [key, 7, b"\x80\x04\x95junk"]),
        ("prepare_retrieve", [key, 7]), ("commit_retrieve", [key, 7]),
        ("report_block_allocation", [7, "fuzz", [{"req_id": "r", "new_block_ids": [1], "new_token_ids": [2]}]]),
        ("subscribe_kv_events", [7, "fuzz", 0, 10]), ("p2p_lookup_and_lock", [[], {}]),
        ("register_kv_cache", [7, [], "fuzz", 1, "vllm", {}, []]), ("store", [key, 7, [[1]], b""]),
    ]
    return [[wire.operation(name), *map(wire.encode, arguments)] for name, arguments in calls]


def mutate(source: random.Random, frame: bytes) -> bytes:
    data = bytearray(frame)
    for _ in range(source.randrange(1, 4)):
        kind = source.randrange(6)
        where = source.randrange(len(data) + 1)
        if kind == 0 and data:
            data[where % len(data)] = source.randrange(256)
        elif kind == 1:
            del data[where:]
        elif kind == 2:
            data[where:where] = source.randbytes(source.randrange(1, 20))
        elif kind == 3:
            # Headers that declare gigabytes: array32, map32, bin32, str32, ext32.
            data[where:where] = source.choice(b"\xdd\xdf\xc6\xdb\xc9").to_bytes() + b"\xff\xff\xff\xff"
        elif kind == 4:
            data[where:where] = b"\x91" * source.randrange(1, 5000)
        else:
            data = bytearray(source.randbytes(source.randrange(200)))
    return bytes(data)


def zmq_attack(endpoint: str, source: random.Random) -> None:
    with wire.Client(endpoint) as client:
        for request in valid_requests(source):
            frames = [source.randbytes(source.randrange(6)), *request]
            kind = source.randrange(4)
            if kind == 0:
                frames = frames[: source.randrange(1, len(frames) + 1)]
            elif kind == 1:
                frames += [source.randbytes(5)] * source.randrange(1, 30)
            else:
                index = source.randrange(1, len(frames))
                frames[index] = mutate(source, frames[index])
            client.send_frames(*frames)
            if source.random() < 0.3:
                client.receive(0.01)


def tcp_attack(endpoint: str, source: random.Random) -> None:
    host, port = endpoint.removeprefix("tcp://").split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1) as connection:
        # A socket that closes with a reset is one more thing to survive.
        connection.settimeout(0.2)
        opening = source.choice([b"", GREETING, GREETING[:11], GREETING + READY, mutate(source, GREETING + READY)])
        connection.sendall(opening)
        body = source.choice([
            source.randbytes(source.randrange(300)),
            b"\x02" + b"\x7f" + b"\xff" * 7,
            b"\x03" + (1 << 40).to_bytes(8, "big") + b"x" * 100,
            b"\x01\x00" * 2000,
            b"\x04\x05\x05HELLO",
            b"\x04\x06\x04PING\x00",
        ])
        connection.sendall(body)
        if source.random() < 0.5:
            connection.recv(1000)


def main() -> None:
    endpoint, seconds, seed = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    source = random.Random(seed)
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end:
        zmq_attack(endpoint, source) if source.random() < 0.5 else tcp_attack(endpoint, source)
        rounds += 1
    print(f"{rounds} rounds, chunk size {CHUNK}", flush=True)


if __name__ == "__main__":
    main()
