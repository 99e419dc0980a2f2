"""Messages right and wrong: framing, payload forms, operations nobody has, and what a failed request gets."""

from __future__ import annotations

import pytest

from mpkit import wire
from mpkit.deviation import differs
from mpkit.engine import CHUNK, prompt, registration_record
from mpkit.wire import FAILED, SILENCE, VOID, Raw, encode


#: How `prepare_retrieve` says no.
MISS = {"success": False, "data": b"", "context": {}}


def failure(server):
    """What a request gets that can't be served: the reference server stays silent, we say so."""
    return differs(server, "failed-request", peer=SILENCE, ours=FAILED)


@pytest.mark.parametrize("name", ["get_chunk_size", 21, Raw(b"\xcd\x00\x15"), "by-name"])
def test_an_operation_may_be_sent_as_any_int_or_by_name(client, name):
    frame = {"by-name": encode("get_chunk_size")}.get(name, None) if isinstance(name, str) else None
    frame = name.data if isinstance(name, Raw) else frame or wire.operation(name)
    client.expect(CHUNK, frame)


def test_simple_answers(client):
    client.expect("OK", "noop")
    client.expect(True, "ping", None)
    client.expect(["kv_event_stream"], "get_experimental")
    client.expect(0, "query_prefetch_status", "never heard of")
    client.expect(0, "wait_prefetch_status", "never heard of", 0.1)
    client.expect(VOID, "end_session", "never heard of")
    client.expect(VOID, "report_block_allocation", 7, "m",
                  [{"req_id": "r1", "new_block_ids": [1, 2], "new_token_ids": [100, 101]}])
    client.expect(VOID, "report_block_allocation", 7, "m", [])


@pytest.mark.parametrize("uid", [b"", b"\xc1", b"x", b"\xa1x", b"\x00" * 1000, bytes(range(256))])
def test_any_bytes_are_a_uid(client, uid):
    client.send("get_chunk_size", uid=uid)
    reply = client.receive()
    assert reply is not None
    assert reply.frames == [uid, b"\x15", encode(CHUNK)]


def test_the_operation_frame_is_echoed(client):
    for frame in (b"\x18", b"\xcd\x00\x18", encode("noop")):
        client.send(frame)
        assert client.receive().frames[1:] == [frame, encode("OK")]


def test_many_requests_may_be_outstanding(client):
    sent = [client.send("noop" if index % 2 else "ping", *([] if index % 2 else [None])) for index in range(400)]
    received = [client.receive().uid for _ in sent]
    assert sorted(received) == sorted(sent)


def test_the_same_uid_twice_is_two_requests(client):
    for _ in range(2):
        client.send("noop", uid=b"same")
    assert [client.receive().uid for _ in range(2)] == [b"same", b"same"]


@pytest.mark.parametrize("operation", [
    99, 11, 0, 65536, "no_such_operation", "", Raw(b"\xc1"), Raw(b"\xcb\x40\x38\x00\x00\x00\x00\x00\x00"),
    Raw(b"\xc0"), Raw(b"\x91\x18"), Raw(b"\x18\x18"), Raw(b"\xff"),
], ids=repr)
def test_unknown_operations(server, client, operation):
    if isinstance(operation, Raw):
        client.expect(failure(server), operation.data)
    else:
        client.expect(failure(server), encode(operation))


def test_an_empty_operation_is_a_control_message(client):
    """Which belongs to no stream here, and is ignored by both."""
    client.expect(SILENCE, b"")
    client.expect(SILENCE, b"", {"not": "a word"})


def test_true_is_no_operation(server, client):
    frame = encode(True)
    record = registration_record(1)
    client.expect(failure(server), frame, record)


@pytest.mark.parametrize(("operation", "arguments"), [
    ("clear", []),
    ("ping", []),
    ("noop", [1]),
    ("get_chunk_size", [None]),
    ("lookup", [{}]),
    ("end_session", []),
    ("end_session", ["a", "b"]),
    ("wait_prefetch_status", ["a"]),
    ("commit_store", [{}, 1]),
    ("report_block_allocation", [1, "m"]),
])
def test_wrong_number_of_payloads(server, client, operation, arguments):
    client.expect(failure(server), operation, *arguments)


@pytest.mark.parametrize(("operation", "arguments"), [
    ("ping", [5.0]),
    ("ping", [True]),
    ("ping", ["1"]),
    ("ping", [Raw(b"\xc1")]),
    ("ping", [Raw(b"")]),
    ("ping", [Raw(b"\xc0\xc0")]),
    ("end_session", [1]),
    ("end_session", [b"bytes"]),
    ("end_session", [None]),
    ("query_prefetch_status", [["list"]]),
    ("wait_prefetch_status", ["a", "soon"]),
    ("report_block_allocation", [1, "m", {}]),
    ("report_block_allocation", [1, "m", [{"req_id": "r"}]]),
    ("report_block_allocation", [1, "m", [{"req_id": "r", "new_block_ids": [1.0], "new_token_ids": []}]]),
], ids=repr)
def test_wrong_payloads(server, client, operation, arguments):
    client.expect(failure(server), operation, *arguments)


@pytest.mark.parametrize("changes", [
    {"token_ids": [1, -1] * 8},
    {"token_ids": [1 << 32] * 16},
    {"token_ids": [1.0] * 16},
    {"token_ids": [True] * 16},
    {"token_ids": "tokens"},
    {"model_name": 7},
    {"world_size": "1"},
    {"cache_salt": None},
    {"cache_salt": "a/b"},
    {"cache_salt": "a\\b"},
    {"cache_salt": "a@b"},
    {"cache_salt": "a\0b"},
    {"cache_salt": "s" * 129},
    {"request_configs": []},
    {"num_kv_readers": 0},
    {"num_kv_readers": "1"},
    {"start": 0.0},
    {"end": None},
    {"request_id": 5},
], ids=repr)
def test_keys_that_are_refused(server, engine, model, changes):
    key = engine.key(prompt(model, 1), "r") | changes
    engine.scheduler.expect(failure(server), "lookup", key, 1)


@pytest.mark.parametrize("missing", ["model_name", "world_size", "worker_id", "token_ids", "start", "end", "request_id"])
def test_keys_with_a_hole_are_refused(server, engine, model, missing):
    key = engine.key(prompt(model, 1), "r")
    del key[missing]
    engine.scheduler.expect(failure(server), "lookup", key, 1)


@pytest.mark.parametrize("changes", [
    {"unknown_field": 1},
    {"cache_salt": "s" * 128},
    {"cache_salt": "ü" * 128},
    {"request_configs": {"a": [1, None, {"b": 2.5}]}},
], ids=lambda changes: next(iter(changes)))
def test_keys_that_are_accepted(engine, model, changes):
    engine.scheduler.expect(VOID, "lookup", engine.key(prompt(model, 1), "r") | changes, 1)


def test_a_key_has_defaults(engine, model):
    key = engine.key(prompt(model, 2), "r")
    engine.store(prompt(model, 2))
    del key["cache_salt"], key["request_configs"]
    engine.scheduler.expect(VOID, "lookup", key, 1)
    engine.scheduler.expect(2, "query_prefetch_status", key["request_id"])


def test_a_key_is_a_map_not_an_array(server, engine, model):
    key = engine.key(prompt(model, 1), "r")
    engine.scheduler.expect(failure(server), "lookup", list(key.values()), 1)


def test_fields_may_come_in_any_order(engine, model):
    tokens = prompt(model, 2)
    engine.store(tokens)
    key = dict(reversed(engine.key(tokens, "r").items()))
    engine.scheduler.expect(VOID, "lookup", key, 1)
    engine.scheduler.expect(2, "query_prefetch_status", key["request_id"])


@pytest.mark.parametrize(("start", "end"), [(8, 32), (0, 40), (0, 80), (32, 16)])
@pytest.mark.parametrize("operation", ["prepare_store", "prepare_retrieve"])
def test_worker_keys_are_whole_chunks(server, engine, model, operation, start, end):
    tokens = prompt(model, 4)
    engine.store(tokens)
    engine.lookup(tokens, "r")
    key = engine.worker_key(tokens, "r", start=start, end=end)
    if (start, end) == (32, 16):
        # An empty or reversed range covers nothing on both servers.
        assert engine.worker.outcome(operation, key, engine.instance_id) is not SILENCE
        return
    wanted = failure(server)
    if operation == "prepare_retrieve" and server.is_ours:
        # Its result can say no.
        wanted = MISS
    engine.worker.expect(wanted, operation, key, engine.instance_id)


@pytest.mark.parametrize("changes", [
    {"dtype_str": "nonsense"},
    {"dtype_str": 7},
    {"num_physical_slots": 0},
    {"num_physical_slots": -1},
    {"use_mla": 1},
    {"instance_id": "1"},
    {"num_layers": None},
], ids=repr)
def test_registrations_that_are_refused(server, client, model, changes):
    record = registration_record(1, model_name=model) | changes
    client.expect(failure(server), "register_kv_cache_engine_driven_context", record)


def test_an_unregistered_instance_is_told(server, client, model):
    """By an answer that leaves the engine running; the next ping then makes the real client register again."""
    key = wire.key(prompt(model, 1), model, worker_id=0, model_name=model)
    nothing = {"context": {"slots": [], "chunk_indices": []}}
    for operation, arguments, ours in (
        ("prepare_store", [], nothing), ("prepare_retrieve", [], MISS), ("commit_store", [b""], False),
    ):
        wanted = differs(server, "unknown-instance", peer=SILENCE, ours=ours)
        client.expect(wanted, operation, key, 424242, *arguments)


def test_an_unknown_instance_learns_so_by_ping_once(server, client):
    client.expect(differs(server, "ping-tells-unknown-instance", peer=True, ours=False), "ping", 5000)
    client.expect(True, "ping", 5000)


@pytest.mark.parametrize(("operation", "arguments"), [
    ("cb_protocol_handshake", [1]),
    ("unregister_kv_cache", [1]),
])
def test_operations_of_modules_that_are_not_loaded(server, client, operation, arguments):
    client.expect(failure(server), operation, *arguments)


def test_a_module_call_without_modules(server, client):
    """Its result can say no, so ours does."""
    got = client.outcome("server_module_call", {"method": "pkg.echo", "payload": b""}, patience_s=wire.QUIET_S)
    if differs(server, "failed-request", peer=SILENCE, ours=FAILED) is SILENCE:
        assert got is SILENCE
    else:
        assert got["success"] is False and got["payload"] == b"" and got["error"]


def test_p2p_operations(server, client):
    if differs(server, "no-peer-to-peer", peer=True, ours=False):
        task = client.call("p2p_lookup_and_lock", [], {})
        assert isinstance(task, int)
        client.expect(VOID, "p2p_query_lookup_results", task + 1000)
        client.expect(VOID, "p2p_unlock_objects", [])
    else:
        client.expect(FAILED, "p2p_lookup_and_lock", [], {})


def test_an_error_reply_says_why(server, client):
    if not server.is_ours:
        pytest.skip("the reference server has no error replies")
    uid = client.send("no_such_operation")
    assert "no_such_operation" in client.reply_to(uid).failure()


def test_a_lenient_int_payload(client, engine, model):
    """Top-level ints are coerced: `tp_size` is ignored anyway, whatever number it is."""
    tokens = prompt(model, 1)
    for tp_size in (True, 3.0, 2):
        client.expect(VOID, "lookup", engine.key(tokens, "r"), tp_size)


def test_bad_requests_do_not_disturb_good_ones(server, client):
    bad = server.client()
    for index in range(50):
        bad.send_frames(encode(index), b"\xc1", b"\xc1")
        bad.send_frames(encode(index), encode("ping"))
        client.expect("OK", "noop")
    bad.close()


@pytest.mark.parametrize(("frames", "deadly"), [
    ([b"\x01"], True),
    ([b""], True),
    ([encode(1), b"\x91" * 300_000], True),
    ([encode(1), b"\xdd\xff\xff\xff\xff"], False),
], ids=["one frame", "one empty frame", "deeply nested operation", "huge array as operation"])
def test_single_messages_that_kill(own_server, frames, deadly):
    server = own_server()
    with server.client() as attacker:
        attacker.send_frames(*frames)
        attacker.receive(wire.QUIET_S)
    survives = differs(server, "single-message-kills", peer=False, ours=True) if deadly else True
    assert server.alive() is survives
    assert server.running()
