"""Loads a pickle written by Larder with the real unpickler, tells what came out and pickles it again.

Reads the pickle from standard input; writes JSON to standard output: the tensors, and the list pickled again with protocol 4 in hex.
"""

import json
import pickle
import sys

import torch


def packed(tensor):
    """The elements in row-major order as bytes."""
    flat = tensor.reshape(-1).clone()
    return bytes(flat.view(torch.uint8).tolist()).hex() if flat.numel() else ""


def main():
    """Loads, describes, pickles again."""
    tensors = pickle.loads(sys.stdin.buffer.read())
    assert type(tensors) is list
    description = [
        {
            "dtype": str(t.dtype).removeprefix("torch."),
            "shape": list(t.shape),
            "contiguous": t.is_contiguous(),
            "device": str(t.device),
            "requires_grad": t.requires_grad,
            "packed_hex": packed(t),
        }
        for t in tensors
    ]
    json.dump({"tensors": description, "again_hex": pickle.dumps(tensors, protocol=4).hex()}, sys.stdout)


if __name__ == "__main__":
    main()
