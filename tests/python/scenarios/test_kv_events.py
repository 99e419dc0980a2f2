"""The KV event stream: one batch a credit, an end, and one subscriber an instance."""

from __future__ import annotations

import pytest

from mpkit.deviation import differs
from mpkit.engine import CHUNK, prompt
from mpkit.wire import QUIET_S, FAILED, SILENCE, decode, operation

SUBSCRIBE = operation("subscribe_kv_events")
EMPTY = b""


def subscribe(client, model, *, instance_id=77, cursor=0, max_events=128, uid=b"s"):
    return client.send("subscribe_kv_events", instance_id, model, cursor, max_events, uid=uid)


def batch(reply) -> dict:
    assert reply is not None and reply.frames[1] == SUBSCRIBE and len(reply.frames) == 3
    got = decode(reply.frames[2])
    assert got.keys() == {"enabled", "incarnation", "next_cursor", "lost", "events"}
    return got


def is_end(reply, uid: bytes) -> bool:
    return reply is not None and reply.frames == [uid, SUBSCRIBE]


@pytest.fixture
def events_client(server):
    with server.client() as client:
        yield client
        for uid in (b"s", b"t"):
            client.send_frames(uid, EMPTY, b"cancel")


def test_the_first_batch_comes_at_once_even_empty(events_client, model):
    subscribe(events_client, model)
    first = batch(events_client.receive())
    assert first["enabled"] is True and first["events"] == []
    assert first["incarnation"] > 1_600_000_000 * 10**9


def test_no_batch_without_a_credit(events_client, model):
    subscribe(events_client, model)
    batch(events_client.receive())
    assert events_client.receive(QUIET_S) is None


def test_cancel_ends_the_stream(events_client, model):
    subscribe(events_client, model)
    batch(events_client.receive())
    events_client.send_frames(b"s", EMPTY, b"cancel")
    assert is_end(events_client.receive(), b"s")


def test_a_second_subscription_of_an_instance_ends_the_first(server, events_client, model):
    subscribe(events_client, model, instance_id=78)
    batch(events_client.receive())
    with server.client() as second:
        subscribe(second, model, instance_id=78, uid=b"t")
        batch(second.receive())
        assert is_end(events_client.receive(), b"s")
        second.send_frames(b"t", EMPTY, b"cancel")
        assert is_end(second.receive(), b"t")


def test_two_instances_subscribe_side_by_side(events_client, model):
    subscribe(events_client, model, instance_id=79, uid=b"s")
    batch(events_client.receive())
    subscribe(events_client, model, instance_id=80, uid=b"t")
    batch(events_client.receive())
    events_client.send_frames(b"s", EMPTY, b"cancel")
    assert is_end(events_client.receive(), b"s")
    events_client.send_frames(b"t", EMPTY, b"cancel")
    assert is_end(events_client.receive(), b"t")


def test_stray_control_messages_are_ignored(events_client):
    for word in (b"ack", b"cancel", b"nonsense", b"", b"\xff" * 100):
        events_client.send_frames(b"nobody", EMPTY, word)
    events_client.expect("OK", "noop")


def test_an_unknown_control_word_leaves_the_stream_alone(events_client, model):
    subscribe(events_client, model)
    batch(events_client.receive())
    events_client.send_frames(b"s", EMPTY, b"nonsense")
    assert events_client.receive(QUIET_S) is None
    events_client.send_frames(b"s", EMPTY, b"cancel")
    assert is_end(events_client.receive(), b"s")


@pytest.mark.parametrize("change", [{"cursor": -1}, {"max_events": 0}, {"max_events": 1025}], ids=repr)
def test_bad_subscriptions(server, events_client, model, change):
    uid = subscribe(events_client, model, **change)
    wanted = differs(server, "failed-request", peer=SILENCE, ours=FAILED)
    if wanted is SILENCE:
        assert events_client.receive(QUIET_S) is None
    else:
        assert events_client.reply_to(uid).outcome(SUBSCRIBE) is FAILED


def test_a_vanished_subscriber_is_forgotten(server, model):
    with server.client() as client:
        subscribe(client, model, instance_id=81)
        batch(client.receive())
    with server.client() as client:
        subscribe(client, model, instance_id=81)
        batch(client.receive())
        client.send_frames(b"s", EMPTY, b"cancel")
        assert is_end(client.receive(), b"s")


def test_a_subscriber_from_the_start_misses_nothing(own_server, engines, model):
    server = own_server()
    engine = engines(server)
    tokens = prompt(model, 3)
    with server.client() as client:
        subscribe(client, model)
        first = batch(client.receive())
        assert first["lost"] is False and first["next_cursor"] == 0
        engine.store(tokens)
        client.send_frames(b"s", EMPTY, b"ack")
        if differs(server, "engine-driven-events", peer=False, ours=True):
            events = batch(client.receive())["events"]
            assert [event["kind"] for event in events] == ["stored"] * 3
            assert [event["seq"] for event in events] == [1, 2, 3]
            assert [event["token_ids"] for event in events] == [tokens[i * CHUNK : (i + 1) * CHUNK] for i in range(3)]
            hashes = [event["block_hashes"] for event in events]
            assert [event["parent_block_hash"] for event in events] == [None, hashes[0][0], hashes[1][0]]
            assert {event["medium"] for event in events} == {"CPU"}
            client.send_frames(b"s", EMPTY, b"ack")
        else:
            assert client.receive(QUIET_S) is None
        engine.scheduler.call("clear", False)
        removed = batch(client.receive())["events"]
        assert {event["kind"] for event in removed} == {"removed"}
        assert sum(len(event["block_hashes"]) for event in removed) == 3


def test_a_late_subscriber(own_server, engines, model):
    server = own_server()
    engines(server).store(prompt(model, 3))
    with server.client() as client:
        subscribe(client, model)
        assert batch(client.receive())["lost"] is differs(server, "events-before-the-subscription", peer=False, ours=True)


def test_a_subscriber_of_a_quiet_model_loses_nothing(own_server, engines, model):
    server = own_server("--kv-event-log-size", "4")
    quiet, busy = engines(server, model=model), engines(server, model=f"{model}-busy")
    with server.client() as client:
        subscribe(client, model)
        assert batch(client.receive())["lost"] is False
        client.send_frames(b"s", EMPTY, b"ack")
        for seed in range(8):
            busy.store(prompt(f"{model}-{seed}", 1))
        assert client.receive(QUIET_S) is None
        if differs(server, "engine-driven-events", peer=False, ours=True):
            quiet.store(prompt(model, 1))
            told = batch(client.receive())
            assert (told["lost"], len(told["events"])) == (False, 1)
