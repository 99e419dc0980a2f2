"""Recorded sessions of a real vLLM, sent again: the answers must be the recorded ones.

Offsets and the segment's name are the server's own business; that the bytes written at an offset are the bytes read
back later is checked instead.
"""

from __future__ import annotations

import json
import pathlib
import pickle
import random
from typing import Any

import pytest

from mpkit import wire
from mpkit.engine import Pool

TRACES = pathlib.Path(__file__).resolve().parents[2] / "traces"
CHUNK = 256
FLAGS = ["--l1-size-gb", "2", "--eviction-policy", "LRU", "--no-l1-use-lazy", "--supported-transfer-mode",
         "engine_driven", "--chunk-size", str(CHUNK)]


def object_bytes(key: dict[str, Any], chunk_index: int, length: int) -> bytes:
    """Content that only depends on the prefix, so that any retrieve can be checked."""
    prefix = key["token_ids"][: (chunk_index + 1) * CHUNK]
    # Small exponents: the pickled form holds floats, and a NaN has many encodings.
    return bytes(byte & 0x3F for byte in random.Random(repr(prefix)).randbytes(4096)) * (length // 4096)


class Session:
    """All connections of one recorded session."""

    def __init__(self, server) -> None:
        self.server = server
        self.prompts = json.loads((TRACES / "prompts.json").read_text())
        self.clients: dict[int, wire.Client] = {}
        self.pool: Pool | None = None
        self.shape: list[int] = []

    def client(self, number: int) -> wire.Client:
        if number not in self.clients:
            self.clients[number] = self.server.client()
        return self.clients[number]

    def close(self) -> None:
        for client in self.clients.values():
            client.close()
        if self.pool is not None:
            self.pool.close()

    def expand(self, value: Any, key: dict[str, Any] | None = None) -> Any:
        """Replaces the stand-ins of the trace files."""
        if isinstance(value, list):
            return [self.expand(each) for each in value]
        if not isinstance(value, dict):
            return value
        if "$prompt" in value:
            return self.prompts[value["$prompt"]]
        if "$slice" in value:
            name, start, end = value["$slice"]
            return self.prompts[name][start:end]
        if "$bytes" in value:
            return b""
        if "$tensors" in value:
            assert key is not None
            return self.tensors(key)
        return {name: self.expand(each) for name, each in value.items()}

    def arguments(self, row: dict[str, Any]) -> list[Any]:
        expanded: list[Any] = []
        for argument in row["args"]:
            key = expanded[0] if expanded and isinstance(expanded[0], dict) else None
            expanded.append(self.expand(argument, key))
        return expanded

    def indices(self, key: dict[str, Any]) -> range:
        return range(key["start"] // CHUNK, key["end"] // CHUNK)

    def tensors(self, key: dict[str, Any]) -> bytes:
        import torch

        def tensor(index: int):
            data = bytearray(object_bytes(key, index, 4 * self.shape[0] * self.shape[1] * self.shape[2]))
            return torch.frombuffer(data, dtype=torch.float32).reshape(self.shape)

        return pickle.dumps([tensor(index) for index in self.indices(key)])

    def check(self, row: dict[str, Any], arguments: list[Any], got: Any) -> None:
        """Compares with the recorded answer, and does what the engine did with it."""
        operation = row["op"]
        if row["answer"] == "void":
            assert got is wire.VOID
            return
        wanted = row["answer"]["value"]
        if operation == "register_kv_cache_engine_driven_context":
            record = arguments[0]
            self.shape = [record["num_layers"], record["num_physical_slots"], record["hidden_dim_size"]]
            assert got["pool_size"] == wanted["pool_size"] and bool(got["shm_name"]) == bool(wanted["shm_name"])
            if got["shm_name"] and self.pool is None:
                self.pool = Pool(got["shm_name"], got["pool_size"])
        elif operation in ("prepare_store", "prepare_retrieve") and "slots" in wanted["context"]:
            self.check_slots(operation, arguments[0], got, wanted)
        elif operation == "prepare_retrieve" and wanted["success"]:
            self.check_tensors(arguments[0], got)
        else:
            assert got == self.expand(wanted)

    def check_slots(self, operation: str, key: dict[str, Any], got: Any, wanted: Any) -> None:
        slots = got["context"]["slots"]
        described = [{name: slot[name] for name in ("length", "shape", "dtype")} for slot in slots]
        assert described == [{name: slot[name] for name in ("length", "shape", "dtype")} for slot in
                             wanted["context"]["slots"]]
        assert all(slot["offset"] % 4096 == 0 for slot in slots)
        assert {k: v for k, v in got.items() if k != "context"} == self.expand(
            {k: v for k, v in wanted.items() if k != "context"})
        if operation == "prepare_store":
            indices = got["context"]["chunk_indices"]
            assert indices == wanted["context"]["chunk_indices"]
            for slot, index in zip(slots, indices):
                self.pool.write(slot, object_bytes(key, key["start"] // CHUNK + index, slot["length"]))
        else:
            for slot, index in zip(slots, self.indices(key), strict=True):
                assert self.pool.read(slot) == object_bytes(key, index, slot["length"])

    def check_tensors(self, key: dict[str, Any], got: Any) -> None:
        assert got["success"] is True and got["context"] == {}
        tensors = pickle.loads(got["data"])
        for tensor, index in zip(tensors, self.indices(key), strict=True):
            assert list(tensor.shape) == self.shape
            data = tensor.contiguous().numpy().tobytes()
            assert data == object_bytes(key, index, len(data))


@pytest.mark.parametrize("mode", ["shm", "pickle"])
def test_replay(own_server, mode):
    server = own_server(*FLAGS, base=False, shm=mode == "shm")
    session = Session(server)
    rows = [json.loads(line) for line in (TRACES / f"engine_driven-{mode}.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        arguments = session.arguments(row)
        client = session.client(row["client"])
        uid = client.send(row["op"], *arguments)
        reply = client.reply_to(uid)
        place = f"line {number + 1} of engine_driven-{mode}.jsonl: {row['op']}"
        assert reply is not None, f"{place}: no answer"
        got = reply.outcome(wire.operation(row["op"]))
        try:
            session.check(row, arguments, got)
        except AssertionError as error:
            raise AssertionError(f"{place}: {error}") from error
        if got is not wire.VOID:
            # Shortest forms and the declared order of fields, as the reference encoder writes them.
            assert wire.encode(got) == reply.frames[2], f"{place}: another encoding of the same value"
    session.close()
    assert server.alive()
