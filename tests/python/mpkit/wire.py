"""The protocol, written down once more: operation ids, keys, and a client that shows every frame."""

from __future__ import annotations

import atexit
import dataclasses
import itertools
from typing import Any

import msgspec
import zmq

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.decode

#: Operations that have a legacy id; all others are named on the wire (spec/mp-protocol.md 2).
IDS = {
    "register_kv_cache": 1,
    "unregister_kv_cache": 2,
    "store": 6,
    "retrieve": 7,
    "lookup": 8,
    "query_prefetch_status": 9,
    "wait_prefetch_status": 10,
    "free_lookup_locks": 12,
    "end_session": 13,
    "register_kv_cache_engine_driven_context": 14,
    "unregister_kv_cache_engine_driven_context": 15,
    "prepare_store": 16,
    "commit_store": 17,
    "prepare_retrieve": 18,
    "commit_retrieve": 19,
    "clear": 20,
    "get_chunk_size": 21,
    "ping": 22,
    "report_block_allocation": 23,
    "noop": 24,
    "p2p_lookup_and_lock": 29,
    "p2p_query_lookup_results": 30,
    "p2p_unlock_objects": 31,
    "get_experimental": 32,
    "cb_protocol_handshake": 33,
}

#: How long a reply may take before it counts as lost. Only ever waited out when something is broken.
ANSWER_S = 15.0

#: How long nothing must arrive before silence is believed. Only the reference server is silent.
QUIET_S = 0.5


class _Outcome:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


#: A two-frame reply: the operation's result is None.
VOID = _Outcome("VOID")
#: No reply at all.
SILENCE = _Outcome("SILENCE")
#: A reply whose operation frame is not the one asked for: the real client raises at once.
FAILED = _Outcome("FAILED")


@dataclasses.dataclass(frozen=True)
class Reply:
    """One message from the server, as received."""

    frames: list[bytes]

    @property
    def uid(self) -> bytes:
        return self.frames[0]

    def outcome(self, operation: bytes) -> Any:
        """The decoded result, `VOID` or `FAILED`."""
        if self.frames[1] != operation:
            return FAILED
        if len(self.frames) == 2:
            return VOID
        assert len(self.frames) == 3, f"a reply of {len(self.frames)} frames"
        return decode(self.frames[2])

    def failure(self) -> str:
        """What an error reply says; its operation frame decodes to `error`."""
        assert decode(self.frames[1]) == "error", self.frames
        return str(decode(self.frames[2]))


def operation(name: str | int | bytes) -> bytes:
    """The operation frame: legacy id if there is one, else the name; bytes pass as they are."""
    if isinstance(name, bytes):
        return name
    return encode(IDS.get(name, name) if isinstance(name, str) else name)


def key(tokens: list[int], request_id: str, **fields: Any) -> dict[str, Any]:
    """An IPCCacheServerKey for all of `tokens`; a field given by name replaces the default."""
    record = {
        "model_name": "m",
        "world_size": 1,
        "worker_id": None,
        "token_ids": list(tokens),
        "start": 0,
        "end": len(tokens),
        "request_id": request_id,
        "cache_salt": "",
        "request_configs": None,
        "num_kv_readers": 1,
    }
    assert fields.keys() <= record.keys(), fields.keys() - record.keys()
    return record | fields


#: One for the process: ending a context waits for its sockets, and a failed test may have left one open.
_context = zmq.Context()
atexit.register(_context.destroy, linger=0)


class Client:
    """A DEALER socket; `call` for the usual exchange, `send_frames` and `receive` for everything else."""

    def __init__(self, endpoint: str) -> None:
        self.socket = _context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        # The tests send more than a careful client would before they read.
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.connect(endpoint)
        self._uids = itertools.count()
        #: How long a reply may take on this connection.
        self.answer_s = ANSWER_S

    def close(self) -> None:
        self.socket.close(linger=0)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send_frames(self, *frames: bytes) -> None:
        self.socket.send_multipart(list(frames))

    def send(self, name: str | int | bytes, *arguments: Any, uid: bytes | None = None) -> bytes:
        """Sends a request and returns its uid frame; an argument of type `Raw` is sent as it is."""
        uid = encode(next(self._uids)) if uid is None else uid
        payloads = [a.data if isinstance(a, Raw) else encode(a) for a in arguments]
        self.send_frames(uid, operation(name), *payloads)
        return uid

    def receive(self, timeout_s: float | None = None) -> Reply | None:
        """The next message, or None when nothing comes in time."""
        if not self.socket.poll(int((self.answer_s if timeout_s is None else timeout_s) * 1000)):
            return None
        return Reply(self.socket.recv_multipart())

    def reply_to(self, uid: bytes, timeout_s: float | None = None) -> Reply | None:
        """The reply with that uid; no other request may be outstanding."""
        reply = self.receive(timeout_s)
        assert reply is None or reply.uid == uid, f"reply for uid {reply.uid!r}, expected {uid!r}"
        return reply

    def outcome(self, name: str | int | bytes, *arguments: Any, patience_s: float | None = None) -> Any:
        """What comes back: a decoded value, `VOID`, `FAILED`, or `SILENCE`."""
        uid = self.send(name, *arguments)
        reply = self.reply_to(uid, patience_s)
        return SILENCE if reply is None else reply.outcome(operation(name))

    def expect(self, wanted: Any, name: str | int | bytes, *arguments: Any) -> None:
        """Asserts the outcome; silence is waited for only when silence is expected."""
        if wanted is SILENCE:
            uid = self.send(name, *arguments)
            assert self.receive(QUIET_S) is None, f"an answer to {name!r}, expected silence"
            del uid
            return
        got = self.outcome(name, *arguments)
        assert got == wanted if not isinstance(wanted, _Outcome) else got is wanted, f"{name!r}: {got!r} != {wanted!r}"

    def call(self, name: str | int | bytes, *arguments: Any) -> Any:
        """The decoded result, None for a two-frame reply; anything else fails the test."""
        got = self.outcome(name, *arguments)
        assert got is not SILENCE and got is not FAILED, f"{name!r}: {got!r}"
        return None if got is VOID else got


@dataclasses.dataclass(frozen=True)
class Raw:
    """Payload bytes that are sent as they are, right or wrong."""

    data: bytes
