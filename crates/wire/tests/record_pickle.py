"""Records what torch makes of lists of CPU tensors, for spec/vectors/pickle.

Usage: python record_pickle.py DIRECTORY

Writes one .bin file per case and samples.json, which tells for each file whether it must be accepted and, if so, every tensor's
element type, shape, stride, storage offset and packed bytes.
"""

import collections
import json
import os
import pathlib
import pickle
import sys

import torch

DTYPES = [
    "float16", "bfloat16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    "uint16", "uint32", "uint64",
]  # fmt: skip


def filled(dtype, *shape):
    """A tensor whose bytes count upwards."""
    dtype = getattr(torch, dtype)
    count = 1
    for size in shape:
        count *= size
    modulus = 2 if dtype == torch.bool else 251
    data = torch.tensor([i % modulus for i in range(count * dtype.itemsize)], dtype=torch.uint8)
    return data.view(dtype).reshape(shape)


def packed(tensor):
    """The elements in row-major order as bytes."""
    flat = tensor.contiguous().reshape(-1).clone()
    return bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""


class Call:
    """Pickles as a call of something."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def cases():
    """Name, object, pickle protocol."""
    for dtype in DTYPES:
        yield f"dtype_{dtype}", [filled(dtype, 2, 3)], 4
    base = filled("bfloat16", 4, 3, 2)
    yield "view_of_larger_storage", [base[2]], 4
    yield "shared_storage", [base[0], base[3]], 4
    yield "same_tensor_twice", [base[0]] * 2, 4
    yield "transposed", [base.transpose(0, 2)], 4
    yield "every_other", [base[::2, :, 1:]], 4
    yield "expanded", [filled("float32", 1, 2).expand(3, 2)], 4
    yield "untyped_storage_view", [filled("float8_e4m3fn", 4, 4)[1:3, ::2]], 4
    yield "scalar", [torch.tensor(1.5)], 4
    yield "no_elements", [torch.empty(0, 4)], 4
    yield "no_tensors", [], 4
    yield "large", [filled("uint8", 70_000), filled("int16", 3)], 4
    yield "protocol_3", [filled("float16", 2), filled("float16", 3)], 3
    yield "protocol_5", [filled("float16", 2), filled("float16", 3)], 5


def refused():
    """Name, object, pickle protocol."""
    one = filled("float16", 2)
    yield "refused_system_call", [Call(os.system, "true")], 4
    yield "refused_eval", [Call(eval, "1")], 4
    yield "refused_protocol_2", [one], 2
    yield "refused_tuple", (one,), 4
    yield "refused_tensor", one, 4
    yield "refused_nested", [[one]], 4
    yield "refused_dict", [{"a": one}], 4
    yield "refused_bytes", [b"data"], 4
    yield "refused_numpy", [one.numpy()], 4
    yield "refused_complex", [torch.zeros(2, dtype=torch.complex64)], 4
    yield "refused_parameter", [torch.nn.Parameter(torch.zeros(2))], 4
    yield "refused_hooks", [Call(collections.OrderedDict, [("a", 1)])], 4
    yield "refused_attribute", [Call(torch._utils._rebuild_tensor_v2, *([None] * 6))], 4


def main():
    """Writes every case."""
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    samples = []
    for name, value, protocol in cases():
        data = pickle.dumps(value, protocol=protocol)
        tensors = [
            {
                "dtype": str(t.dtype).removeprefix("torch."),
                "shape": list(t.shape),
                "stride": list(t.stride()),
                "storage_offset": t.storage_offset(),
                "packed_hex": packed(t).hex(),
            }
            for t in value
        ]
        if name == "large":
            # Its bytes count upwards; writing them twice says nothing more.
            tensors = [{k: v for k, v in t.items() if k != "packed_hex"} for t in tensors]
        (directory / f"{name}.bin").write_bytes(data)
        samples.append({"file": f"{name}.bin", "accepted": True, "tensors": tensors})
    for name, value, protocol in refused():
        (directory / f"{name}.bin").write_bytes(pickle.dumps(value, protocol=protocol))
        samples.append({"file": f"{name}.bin", "accepted": False})
    note = f"recorded with torch {torch.__version__} by crates/wire/tests/record_pickle.py"
    (directory / "samples.json").write_text(json.dumps({"note": note, "samples": samples}, indent=1) + "\n")


if __name__ == "__main__":
    main()
