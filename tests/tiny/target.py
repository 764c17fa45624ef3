"""A random Llama as a GGUF: as small as llama.cpp takes, with a chat template and a byte vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SEED = 33  # with most others no small vector makes the target say a letter and then stop


def write_gguf(
    path: Path,
    *,
    n_layer: int = 4,
    n_embd: int = 64,
    vocabulary: str = "",
    eos: int = 4,
    n_ctx: int = 512,
    template: str = TEMPLATE,
    add_eos: bool = False,
    rope: dict[str, Any] | None = None,
    architecture: str = "llama",
) -> Path:
    """A random Llama in float32 with a byte vocabulary, a few letters of `vocabulary` and a chat template.

    The architecture can also be `gemma2`, with norms behind its layers, or `qwen3moe`, with four experts.
    `rope` may have the `type` and `factor` of a scaling, the `original` context, a `base`, and `factors`, or
    `short` and `long` ones.
    """
    rope = rope or {}
    rng = np.random.default_rng(SEED)
    n_head, n_head_kv, n_ff = 4, 2, 128
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_license("apache-2.0")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_head_kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(rope.get("base", 10000.0))
    if "type" in rope:
        writer.add_string(f"{architecture}.rope.scaling.type", rope["type"])
        writer.add_rope_scaling_factor(rope.get("factor", 1.0))
    if "original" in rope:
        writer.add_rope_scaling_orig_ctx_len(rope["original"])
    for key, tensor in (("factors", "rope_freqs"), ("short", "rope_factors_short"), ("long", "rope_factors_long")):
        if key in rope:
            writer.add_tensor(f"{tensor}.weight", np.array(rope[key], np.float32))
    writer.add_rope_dimension_count(n_embd // n_head)
    norms, experts = {"attn_norm": n_embd, "ffn_norm": n_embd}, 0
    if architecture != "llama":
        writer.add_key_length(n_embd // n_head)
        writer.add_value_length(n_embd // n_head)
    if architecture == "gemma2":
        writer.add_sliding_window(n_ctx // 2)
        writer.add_attn_logit_softcapping(50.0)
        writer.add_final_logit_softcapping(30.0)
        norms |= {"post_attention_norm": n_embd, "post_ffw_norm": n_embd}
    if architecture == "qwen3moe":
        experts = 4
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(n_ff)
        norms |= {"attn_q_norm": n_embd // n_head, "attn_k_norm": n_embd // n_head}
    n_vocab = add_vocabulary(writer, vocabulary, eos, template)
    writer.add_add_eos_token(add_eos)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, rng.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32))

    add("token_embd.weight", n_vocab, n_embd)
    if architecture != "gemma2":  # whose output is its embedding
        add("output.weight", n_vocab, n_embd)
    writer.add_tensor("output_norm.weight", np.ones(n_embd, np.float32))
    for block in range(n_layer):
        for name, rows, columns in (
            ("attn_q", n_embd, n_embd),
            ("attn_k", n_embd // 2, n_embd),
            ("attn_v", n_embd // 2, n_embd),
            ("attn_output", n_embd, n_embd),
            ("ffn_gate", n_ff, n_embd),
            ("ffn_up", n_ff, n_embd),
            ("ffn_down", n_embd, n_ff),
        ):
            if experts and name.startswith("ffn"):
                add(f"blk.{block}.{name}_exps.weight", experts, rows, columns)
            else:
                add(f"blk.{block}.{name}.weight", rows, columns)
        if experts:
            add(f"blk.{block}.ffn_gate_inp.weight", experts, n_embd)
        for name, width in norms.items():
            writer.add_tensor(f"blk.{block}.{name}.weight", np.ones(width, np.float32))
    finish(writer)
    return path


def add_vocabulary(writer: gguf.GGUFWriter, letters: str = "", eos: int = 4, template: str = TEMPLATE) -> int:
    """Bytes, lower-case letters and `letters`, and the chat template; the number of tokens."""
    special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz", *letters]
    kinds = [gguf.TokenType.UNKNOWN] + [gguf.TokenType.CONTROL] * 4 + [gguf.TokenType.BYTE] * 256
    kinds += [gguf.TokenType.NORMAL] * (len(tokens) - len(kinds))
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(eos)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    if template:
        writer.add_chat_template(template)
    return len(tokens)


def finish(writer: gguf.GGUFWriter) -> None:
    """Write the file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
