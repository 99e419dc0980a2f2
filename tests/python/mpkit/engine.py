"""A scripted engine: the scheduler's and the worker's side of the protocol, over shared memory or pickle."""

from __future__ import annotations

import io
import math
import mmap
import pathlib
import pickle
import random
from typing import Any

from . import wire
from .process import SHM, Server

#: Every test server uses this chunk size, so that prompts stay short.
CHUNK = 16

#: Two layers of 64 bfloat16 values for each of 16 tokens, key and value plane: 8 KiB an object.
SHAPE = [2, 2, CHUNK, 64]
OBJECT_BYTES = 2 * 2 * CHUNK * 64 * 2


def prompt(seed: object, chunks: int, extra_tokens: int = 0) -> list[int]:
    """Token ids that share no prefix with those of another seed."""
    source = random.Random(str(seed))
    return [source.randrange(1 << 31) for _ in range(chunks * CHUNK + extra_tokens)]


def content(tokens: list[int], chunk_index: int, rank: int = 0, flavour: str = "") -> bytes:
    """The bytes of one object; a function of the whole prefix, as real KV is, and of the engine's `flavour` if it has one."""
    seed = repr((tokens[: (chunk_index + 1) * CHUNK], rank) + ((flavour,) if flavour else ()))
    return random.Random(seed).randbytes(OBJECT_BYTES)


class Pool:
    """The server's shared-memory segment, mapped as an engine maps it."""

    def __init__(self, name: str, size: int) -> None:
        self.path: pathlib.Path = SHM / name
        with open(self.path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        assert len(self._map) == size, "the segment's size is not the one that was announced"

    def write(self, slot: dict[str, Any], data: bytes) -> None:
        assert slot["length"] == len(data)
        self._map[slot["offset"] : slot["offset"] + len(data)] = data

    def read(self, slot: dict[str, Any]) -> bytes:
        return bytes(self._map[slot["offset"] : slot["offset"] + slot["length"]])

    def close(self) -> None:
        self._map.close()


class Engine:
    """One registered worker and the scheduler beside it, on one connection each, as vLLM has."""

    def __init__(self, server: Server, instance_id: int, *, model: str = "m", world_size: int = 1, rank: int = 0,
                 **registration: Any) -> None:
        self.worker, self.scheduler = server.client(), server.client()
        self.instance_id, self.model, self.world_size, self.rank = instance_id, model, world_size, rank
        self.registration = registration_record(
            instance_id, model_name=model, world_size=world_size, **registration)
        #: Shape of this engine's objects, and what tells its bytes from those of other engines.
        self.shape = [2, self.registration["num_layers"], CHUNK, self.registration["hidden_dim_size"]]
        self.flavour = ""
        answer = self.worker.call("register_kv_cache_engine_driven_context", self.registration)
        assert answer.keys() == {"shm_name", "pool_size"}
        self.uses_shm = bool(answer["shm_name"])
        self.pool = Pool(answer["shm_name"], answer["pool_size"]) if self.uses_shm else None
        self._requests = 0

    def close(self) -> None:
        self.worker.close()
        self.scheduler.close()
        if self.pool is not None:
            self.pool.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request_id(self) -> str:
        self._requests += 1
        return f"auto-{self._requests}"

    def full_id(self, request_id: str) -> str:
        """What goes on the wire: requests of different engines never share an id."""
        return f"{self.instance_id}-{request_id}"

    def key(self, tokens: list[int], request_id: str, **fields: Any) -> dict[str, Any]:
        """The scheduler's key (no worker id)."""
        fields = {"model_name": self.model, "world_size": self.world_size} | fields
        return wire.key(tokens, self.full_id(request_id), **fields)

    def worker_key(self, tokens: list[int], request_id: str, **fields: Any) -> dict[str, Any]:
        """The worker's key: whole chunks only, which the server insists on."""
        whole = len(tokens) // CHUNK * CHUNK
        return self.key(tokens, request_id, **({"worker_id": self.rank, "end": whole} | fields))

    def content(self, tokens: list[int], chunk_index: int) -> bytes:
        """The bytes of one of this engine's objects."""
        item_bytes = {"bfloat16": 2, "uint8": 1}[self.registration["dtype_str"]]
        length = math.prod(self.shape) * item_bytes
        whole = content(tokens, chunk_index, self.rank, self.flavour)
        return (whole * -(-length // len(whole)))[:length]

    def unregister(self) -> None:
        self.worker.expect(wire.VOID, "unregister_kv_cache_engine_driven_context", self.instance_id)

    # The scheduler's side.

    def lookup(self, tokens: list[int], request_id: str | None = None, **fields: Any) -> int:
        """Hit length in chunks; leases are taken."""
        request_id = request_id or self.request_id()
        self.scheduler.expect(wire.VOID, "lookup", self.key(tokens, request_id, **fields), 1)
        hits = self.scheduler.call("wait_prefetch_status", self.full_id(request_id), 10.0)
        assert hits is not None, "the lookup did not finish"
        return hits

    def hits(self, tokens: list[int], **fields: Any) -> int:
        """Hit length in chunks, with the leases given back at once."""
        request_id = self.request_id()
        hits = self.lookup(tokens, request_id, **fields)
        self.free(tokens, request_id, **fields)
        self.end(request_id)
        return hits

    def free(self, tokens: list[int], request_id: str, **fields: Any) -> None:
        self.scheduler.expect(wire.VOID, "free_lookup_locks", self.key(tokens, request_id, **fields), 1)

    def end(self, request_id: str) -> None:
        self.scheduler.expect(wire.VOID, "end_session", self.full_id(request_id))

    # The worker's side.

    def prepare_store(self, tokens: list[int], request_id: str, **fields: Any) -> dict[str, Any]:
        answer = self.worker.call("prepare_store", self.worker_key(tokens, request_id, **fields), self.instance_id)
        assert answer.keys() == {"context"}
        return answer["context"]

    def commit_store(self, tokens: list[int], request_id: str, data: bytes = b"", **fields: Any) -> bool:
        key = self.worker_key(tokens, request_id, **fields)
        return self.worker.call("commit_store", key, self.instance_id, data)

    def store(self, tokens: list[int], request_id: str | None = None, cleared: bool = False, **fields: Any) -> int:
        """Stores the whole chunks of the key's range with their own content; the number of chunks written. With `cleared`,
        somebody may have emptied the cache by force before the commit."""
        request_id = request_id or self.request_id()
        context = self.prepare_store(tokens, request_id, **fields)
        key = self.worker_key(tokens, request_id, **fields)
        first, last = key["start"] // CHUNK, key["end"] // CHUNK
        if not self.uses_shm:
            assert context == {}
            chunks = [content(tokens, index, self.rank) for index in range(first, last)]
            assert self.commit_store(tokens, request_id, pickled(chunks), **fields) is True
            return len(chunks)
        stored = 0
        while context["slots"]:
            self.fill(context, tokens, first)
            assert self.commit_store(tokens, request_id, **fields) is True or cleared
            stored += len(context["slots"])
            if stored == last - first:
                break
            # A worker may not reserve everything at once.
            context = self.prepare_store(tokens, request_id, **fields)
        return stored

    def fill(self, context: dict[str, Any], tokens: list[int], first: int = 0) -> None:
        """Writes what a prepare asked for, where `first` is the first chunk of its range."""
        assert context.keys() == {"slots", "chunk_indices"}
        slots, indices = context["slots"], context["chunk_indices"]
        assert len(slots) == len(indices)
        for slot, index in zip(slots, indices):
            assert slot.keys() == {"offset", "length", "shape", "dtype"}
            assert (slot["shape"], slot["dtype"]) == (self.shape, self.registration["dtype_str"])
            self.pool.write(slot, self.content(tokens, first + index))

    def prepare_retrieve(self, tokens: list[int], request_id: str, **fields: Any) -> dict[str, Any]:
        key = self.worker_key(tokens, request_id, **fields)
        answer = self.worker.call("prepare_retrieve", key, self.instance_id)
        assert answer.keys() == {"success", "data", "context"}
        return answer

    def commit_retrieve(self, tokens: list[int], request_id: str, **fields: Any) -> bool:
        return self.worker.call("commit_retrieve", self.worker_key(tokens, request_id, **fields), self.instance_id)

    def retrieve(self, tokens: list[int], request_id: str, **fields: Any) -> list[bytes] | None:
        """The objects of the key's range, or None when the server refuses."""
        answer = self.prepare_retrieve(tokens, request_id, **fields)
        if not answer["success"]:
            assert answer["data"] == b"" and answer["context"] == {}
            assert self.commit_retrieve(tokens, request_id, **fields) is True
            return None
        if self.uses_shm:
            assert answer["data"] == b"" and answer["context"].keys() == {"slots"}
            objects = [self.pool.read(slot) for slot in answer["context"]["slots"]]
        else:
            assert answer["context"] == {}
            objects = unpickled(answer["data"])
        assert self.commit_retrieve(tokens, request_id, **fields) is True
        return objects

    def fetch(self, tokens: list[int], chunks: int, **fields: Any) -> list[bytes] | None:
        """A whole request: look up, retrieve the first chunks, end."""
        request_id = self.request_id()
        self.lookup(tokens, request_id, **fields)
        objects = self.retrieve(tokens, request_id, end=chunks * CHUNK, **fields)
        self.end(request_id)
        return objects


def registration_record(instance_id: int, **fields: Any) -> dict[str, Any]:
    """A RegisterEngineDrivenContextPayload for objects of shape `SHAPE`."""
    return {
        "instance_id": instance_id,
        "model_name": "m",
        "world_size": 1,
        "block_size": CHUNK,
        "num_layers": 2,
        "hidden_dim_size": 64,
        "dtype_str": "bfloat16",
        "use_mla": False,
        "num_physical_slots": CHUNK,
    } | fields


def pickled(chunks: list[bytes]) -> bytes:
    """What the real client sends in pickle mode: a list of CPU tensors."""
    import torch

    tensors = [torch.frombuffer(bytearray(chunk), dtype=torch.bfloat16).reshape(SHAPE) for chunk in chunks]
    return pickle.dumps(tensors)


def unpickled(data: bytes) -> list[bytes]:
    """The bytes of each tensor; the server under test made them, on this machine."""
    import torch

    tensors = pickle.load(io.BytesIO(data))
    assert all(list(tensor.shape) == SHAPE and tensor.dtype == torch.bfloat16 for tensor in tensors)
    return [tensor.contiguous().view(torch.uint8).numpy().tobytes() for tensor in tensors]
