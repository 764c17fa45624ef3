"""A random GPT-2 as a GGUF: LayerNorm, biases, learned positions."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tests.tiny.target import add_vocabulary, finish


def write_gpt2(path: Path, *, n_layer: int = 4, n_embd: int = 64, n_ctx: int = 512) -> Path:
    """A random GPT-2 in Q8_0, in which a vector of equal values changes no logit."""
    rng = np.random.default_rng(7)
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_name("tiny-gpt2")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(2 * n_embd)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-5)
    n_vocab = add_vocabulary(writer)

    def add(name: str, *shape: int, size: float = 1.0) -> None:
        values = rng.normal(0, size / np.sqrt(shape[-1]), shape).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
        if name.startswith("blk"):
            writer.add_tensor(f"{name}.bias", rng.normal(0, 0.1, shape[0]).astype(np.float32))

    def add_norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(n_embd, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(n_embd, np.float32))

    add("token_embd", n_vocab, n_embd)
    add("position_embd", n_ctx, n_embd)
    add("output", n_vocab, n_embd, size=4.0)  # so that small vectors decide what it says
    add_norm("output_norm")
    for block in range(n_layer):
        add(f"blk.{block}.attn_qkv", 3 * n_embd, n_embd)
        add(f"blk.{block}.attn_output", n_embd, n_embd)
        add(f"blk.{block}.ffn_up", 2 * n_embd, n_embd)
        add(f"blk.{block}.ffn_down", n_embd, 2 * n_embd)
        add_norm(f"blk.{block}.attn_norm")
        add_norm(f"blk.{block}.ffn_norm")
    finish(writer)
    return path
