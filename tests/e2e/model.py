"""A small random Llama on disk, with attention sharp enough that a wrong KV cache changes the output.

    python tests/e2e/model.py FOLDER

vLLM's own dummy weights are of the order 1e-3: the output then hardly depends on the cache and corruption stays unseen.
"""

from __future__ import annotations

import pathlib
import sys

VOCABULARY = 2048
LAYERS = 4
HEADS = 4
HEAD_SIZE = 64


def write(folder: pathlib.Path) -> None:
    """Saves the checkpoint (no tokenizer: prompts are token ids)."""
    import torch
    import transformers

    torch.manual_seed(20)
    hidden = HEADS * HEAD_SIZE
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=2, head_dim=HEAD_SIZE, max_position_embeddings=8192,
        tie_word_embeddings=False)).float()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                sharper = 1.6 if name.endswith(("q_proj.weight", "k_proj.weight")) else 1.0
                weight.normal_(0.0, 0.09 * sharper)
    model.save_pretrained(folder)


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
