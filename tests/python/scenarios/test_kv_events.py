"""The KV event stream: one batch a credit, an end, and one subscriber an instance."""

from __future__ import annotations

import pytest

from mpkit.deviation import differs
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
    assert first["enabled"] is True and first["lost"] is False and first["events"] == []
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
