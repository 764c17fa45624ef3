"""The configuration of a GGUF's model for transformers, whose reader leaves out some of what the file says."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from atv_train.frozen_target.gguf_metadata import GgufMetadata, read_metadata

_COPIED = {
    "attention.key_length": ("head_dim",),
    "attention.layer_norm_epsilon": ("norm_eps", "norm_epsilon", "layer_norm_eps", "layer_norm_epsilon"),
    "attention.sliding_window": ("sliding_window",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "context_length": ("max_position_embeddings",),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "feed_forward_length": ("n_inner",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "rope.freq_base_swa": ("rope_local_base_freq",),
}
"""Numbers of the metadata, and the attributes that have them in configurations."""


def gguf_config(path: Path) -> PretrainedConfig:
    """The configuration for the GGUF at `path`, as llama.cpp reads the file.

    Raises:
        ValueError, KeyError, OSError: an architecture that transformers cannot read from GGUF.
    """
    config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    with read_metadata(path) as metadata:
        complete_config(config.get_text_config(), metadata)
    return config


def complete_config(config: PretrainedConfig, metadata: GgufMetadata) -> None:
    """Set what transformers' reader leaves at a default that is not the file's.

    Raises:
        ValueError: the reader has left everything at its defaults, as that of 4.57 does for Qwen2-MoE.
    """
    n_layer = int(metadata.number("block_count") or 0) - int(metadata.number("nextn_predict_layers") or 0)
    if config.num_hidden_layers != n_layer:
        raise ValueError(f"it reads {config.num_hidden_layers} layers where the file has {n_layer}")
    for key, names in _COPIED.items():
        value = metadata.number(key)
        for name in names:
            if value is not None and hasattr(config, name):
                setattr(config, name, value or None)  # a window of 0 is none
    _set_rope(config, metadata)
    if complete := _FAMILIES.get(config.model_type):
        complete(config, metadata)


def _set_rope(config: PretrainedConfig, metadata: GgufMetadata) -> None:
    base, rotated = metadata.number("rope.freq_base"), metadata.number("rope.dimension_count")
    if not hasattr(config, "num_attention_heads"):
        return
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    scaling = rope_scaling(metadata)
    if isinstance(parameters := getattr(config, "rope_parameters", None), dict):  # transformers 5
        parameters = parameters.get("full_attention", parameters)
        if base:
            parameters["rope_theta"] = base
        if rotated and "partial_rotary_factor" in parameters:
            parameters["partial_rotary_factor"] = rotated / head_dim
        parameters.update(scaling or {})
        return
    if base and hasattr(config, "rope_theta"):
        config.rope_theta = base
    if rotated and hasattr(config, "partial_rotary_factor"):
        config.partial_rotary_factor = rotated / head_dim
    if scaling:
        config.rope_scaling = scaling
        if "original_max_position_embeddings" in scaling:
            config.original_max_position_embeddings = scaling["original_max_position_embeddings"]


def rope_scaling(metadata: GgufMetadata) -> dict[str, Any] | None:
    """How rotary positions are scaled, in the words of transformers; None if they are not.

    llama.cpp divides frequencies by a tensor, as for Llama 3.1 and Phi 3.5, or scales them as the metadata
    says (llama-model.cpp, load_hparams; llama-context.cpp for YaRN's attention factor).
    """
    n_ctx = int(metadata.number("context_length") or 0)
    n_original = int(metadata.number("rope.scaling.original_context_length") or n_ctx)
    attention = float(metadata.number("rope.scaling.attn_factor") or 1.0)
    short = metadata.tensor("rope_freqs.weight") or metadata.tensor("rope_factors_short.weight")
    if short is not None:
        return {
            "rope_type": "longrope",
            "short_factor": short,
            "long_factor": metadata.tensor("rope_factors_long.weight") or short,
            "factor": max(1.0, n_ctx / n_original),
            "attention_factor": attention,
            "original_max_position_embeddings": n_original,
        }
    kind = metadata.text("rope.scaling.type") or "linear"
    factor = float(metadata.number("rope.scaling.factor") or metadata.number("rope.scale_linear") or 1.0)
    if factor == 1.0 or kind == "none":
        return None
    if kind == "yarn":
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": n_original,
            "attention_factor": attention * (0.1 * math.log(factor) + 1.0),
            "beta_fast": float(metadata.number("rope.scaling.yarn_beta_fast") or 32.0),
            "beta_slow": float(metadata.number("rope.scaling.yarn_beta_slow") or 1.0),
        }
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    raise ValueError(f"its rope scaling {kind!r} is unknown")


def _complete_gemma(config: PretrainedConfig, metadata: GgufMetadata) -> None:
    """The largest of both generations scale attention by the width of the model (llama.cpp, gemma2.cpp, gemma3.cpp)."""
    largest = config.num_hidden_layers == (46 if metadata.architecture == "gemma2" else 62)
    config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads if largest else config.head_dim


def _complete_qwen3_moe(config: PretrainedConfig, _: GgufMetadata) -> None:
    config.norm_topk_prob = True


def _complete_falcon(config: PretrainedConfig, metadata: GgufMetadata) -> None:
    config.num_kv_heads = int(metadata.number("attention.head_count_kv") or config.num_attention_heads)
    config.new_decoder_architecture = "blk.0.attn_norm_2.weight" in metadata


_FAMILIES: dict[str, Callable[[PretrainedConfig, GgufMetadata], None]] = {
    "falcon": _complete_falcon,
    "gemma2": _complete_gemma,
    "gemma3_text": _complete_gemma,
    "qwen3_moe": _complete_qwen3_moe,
}
"""What llama.cpp has in its code, and not in the file."""
