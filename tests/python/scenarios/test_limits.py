"""How much a request may be: names, prompts and messages without end."""

from __future__ import annotations

import socket

import pytest

from mpkit import wire
from mpkit.deviation import differs
from mpkit.engine import CHUNK, Engine, prompt, registration_record
from mpkit.wait import until

#: More than a message may have where chunks go through shared memory.
TOO_MANY_BYTES = 100 << 20


def test_names_no_store_could_hold_are_refused(server):
    outcome = differs(server, "names-are-bounded", peer=wire.VOID, ours=wire.FAILED)
    with server.client() as client:
        for fields in [{"model_name": "a\0b"}, {"model_name": "m" * 513}, {"request_id": "r" * 1025}]:
            key = wire.key([1] * 16, "bounded") | fields
            client.expect(outcome, "lookup", key, 1)
            client.outcome("end_session", key["request_id"])


@pytest.mark.ours_only
def test_a_commit_larger_than_a_message_is_answered(server, engines):
    engine: Engine = engines(server)
    tokens = prompt("too large", 1)
    engine.prepare_store(tokens, "r")
    engine.worker.answer_s = 60.0
    assert engine.commit_store(tokens, "r", bytes(TOO_MANY_BYTES)) is False
    assert engine.worker.call("ping", engine.instance_id) is True


@pytest.mark.ours_only
def test_what_is_in_use_is_not_cleared_from_another_machine(own_server):
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    server = own_server("--host", "0.0.0.0")
    with wire.Client(f"tcp://{own}:{server.port}") as client:
        client.expect(wire.FAILED, "clear", True)
        client.expect(wire.VOID, "clear", False)
    assert until(lambda: "without authentication" in server.log()), "the log is written behind the answer"


@pytest.mark.ours_only
def test_an_engine_that_knows_a_larger_chunk_size_is_told_to_start_again(own_server):
    """What the real client does when its server is restarted with a smaller chunk size: it registers again, without asking."""
    server = own_server()
    record = registration_record(7, num_physical_slots=16 * CHUNK)
    with server.client() as worker, server.client() as scheduler:
        worker.expect(wire.FAILED, "register_kv_cache_engine_driven_context", record)
        with Engine(server, 8, num_physical_slots=CHUNK) as engine:
            tokens = prompt("known", 4)
            engine.store(tokens)
            scheduler.expect(wire.VOID, "lookup", wire.key(tokens, "r"), 1)
            scheduler.expect(0, "wait_prefetch_status", "r", 10.0)
            scheduler.expect(CHUNK, "get_chunk_size")
            scheduler.expect(wire.VOID, "lookup", wire.key(tokens, "s"), 1)
            scheduler.expect(4, "wait_prefetch_status", "s", 10.0)
    assert until(lambda: "restart it" in server.log()), "the log is written behind the answer"
