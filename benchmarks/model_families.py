"""Families of models: a transformers configuration of a tiny one, with a real vocabulary and chat template.

Vocabularies and templates are those in llama.cpp's source, by their names there. Sizes are the smallest that each
family takes; weights are random.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

WIDTH, LAYERS, HEADS, INNER, CONTEXT = 64, 4, 4, 128, 512


@dataclass(frozen=True)
class Family:
    """One tiny model.

    Attributes:
        config: the configuration class in transformers.
        options: of that class, beside `COMMON`.
        vocabulary: `ggml-vocab-NAME.gguf` in llama.cpp's `models`.
        template: `NAME.jinja` in `models/templates`; by default ChatML.
        newest: needs a transformers above 4.57.
    """

    config: str
    options: dict[str, Any] = field(default_factory=dict)
    vocabulary: str = "gpt-2"
    template: str = ""
    newest: bool = False


COMMON: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "head_dim": WIDTH // HEADS,
}
MOE: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
LOCAL: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
SSM: dict[str, Any] = {"state_size": 16, "num_hidden_layers": LAYERS, "hidden_size": WIDTH}
MLA: dict[str, Any] = {
    "kv_lora_rank": 32,
    "q_lora_rank": 32,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "num_key_value_heads": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 64,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}


def yarn(factor: float = 4.0) -> dict[str, Any]:
    """Rope scaling as Qwen2.5 and others describe it."""
    return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": CONTEXT // int(factor)}


FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaConfig", {}, "llama-spm"),
    "llama-3": Family("LlamaConfig", {"rope_theta": 500000.0}, "llama-bpe", "meta-llama-Llama-3.1-8B-Instruct"),
    "llama-3.1 (rope llama3)": Family(
        "LlamaConfig",
        {
            "rope_theta": 500000.0,
            "max_position_embeddings": 16384,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 256,
            },
        },
        "gpt-2",
        "meta-llama-Llama-3.2-3B-Instruct",
    ),
    "llama (rope linear)": Family("LlamaConfig", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, "llama-spm"),
    "llama (rope yarn)": Family("LlamaConfig", {"rope_scaling": yarn()}, "llama-spm"),
    "mistral": Family("MistralConfig", {"sliding_window": None}, "llama-spm"),
    "mixtral": Family("MixtralConfig", {**LOCAL, "sliding_window": None}, "llama-spm"),
    "qwen2": Family("Qwen2Config", {}, "qwen2", "Qwen-Qwen2.5-7B-Instruct"),
    "qwen2 (rope yarn)": Family("Qwen2Config", {"rope_scaling": yarn()}, "gpt-2", "Qwen-Qwen2.5-7B-Instruct"),
    "qwen2moe": Family(
        "Qwen2MoeConfig", {**MOE, "shared_expert_intermediate_size": 96, "decoder_sparse_step": 1}, "gpt-2"
    ),
    "qwen3": Family("Qwen3Config", {"head_dim": 32}, "gpt-2", "Qwen-Qwen3-0.6B"),
    "qwen3moe": Family("Qwen3MoeConfig", {**MOE, "norm_topk_prob": True}, "gpt-2", "Qwen-Qwen3-0.6B"),
    "qwen3next": Family(
        "Qwen3NextConfig",
        {
            **MOE,
            "shared_expert_intermediate_size": 64,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "norm_topk_prob": True,
        },
        "gpt-2",
    ),
    "qwen3.5": Family(
        "Qwen3_5TextConfig",
        {
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "head_dim": 64,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.25,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        "gpt-2",
        "Qwen3.5-4B",
        newest=True,
    ),
    "gemma": Family("GemmaConfig", {}, "llama-spm", "google-gemma-2-2b-it"),
    "gemma2": Family(
        "Gemma2Config",
        {"sliding_window": 256, "query_pre_attn_scalar": 16, "num_hidden_layers": 7},
        "llama-spm",
        "google-gemma-2-2b-it",
    ),
    "gemma3": Family(
        "Gemma3TextConfig",
        {"sliding_window": 256, "query_pre_attn_scalar": 16, "num_hidden_layers": 7},
        "llama-spm",
        "google-gemma-2-2b-it",
    ),
    "gemma4": Family(
        "Gemma4TextConfig",
        {"sliding_window": 256, "vocab_size_per_layer_input": 50257},
        "gpt-2",
        "google-gemma-4-31B-it",
        newest=True,
    ),
    "gpt2": Family("GPT2Config", {"n_ctx": CONTEXT}, "gpt-2"),
    "starcoder": Family("GPTBigCodeConfig", {"n_ctx": CONTEXT}, "starcoder"),
    "starcoder2": Family("Starcoder2Config", {"sliding_window": None}, "starcoder"),
    "stablelm": Family("StableLmConfig", {"use_qkv_bias": True}, "gpt-neox"),
    "stablelm (parallel)": Family("StableLmConfig", {"use_parallel_residual": True}, "gpt-neox"),
    "falcon": Family("FalconConfig", {"multi_query": True, "num_kv_heads": 1}, "falcon"),
    "falcon-40b": Family("FalconConfig", {"new_decoder_architecture": True, "num_kv_heads": 2}, "falcon"),
    "phi2": Family("PhiConfig", {"num_key_value_heads": 4, "intermediate_size": 4 * WIDTH}, "gpt-2"),
    "phi3": Family(
        "Phi3Config", {"pad_token_id": 0, "sliding_window": None}, "phi-3", "microsoft-Phi-3.5-mini-instruct"
    ),
    "phi3.5 (rope longrope)": Family(
        "Phi3Config",
        {
            "pad_token_id": 0,
            "sliding_window": None,
            "max_position_embeddings": 16384,
            "original_max_position_embeddings": 4096,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 1.9, 2.0],
                "long_factor": [1.0, 1.5, 2.0, 3.0, 5.0, 9.0, 20.0, 30.0],
            },
        },
        "phi-3",
        "microsoft-Phi-3.5-mini-instruct",
    ),
    "bloom": Family("BloomConfig", {}, "gpt-2"),
    "mpt": Family("MptConfig", {"d_model": WIDTH, "n_heads": HEADS, "n_layers": LAYERS, "max_seq_len": CONTEXT}, "mpt"),
    "gptneox": Family("GPTNeoXConfig", {"rotary_pct": 0.25}, "gpt-neox"),
    "gptneox (sequential)": Family("GPTNeoXConfig", {"use_parallel_residual": False}, "gpt-neox"),
    "nemotron": Family("NemotronConfig", {}, "gpt-2"),
    "olmo": Family("OlmoConfig", {}, "gpt-neox"),
    "olmo2": Family("Olmo2Config", {}, "gpt-2"),
    "olmo3": Family("Olmo3Config", {"sliding_window": 256}, "gpt-2"),
    "olmoe": Family(
        "OlmoeConfig", {"num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": HEADS}, "gpt-neox"
    ),
    "granite": Family(
        "GraniteConfig",
        {"embedding_multiplier": 6.0, "residual_multiplier": 0.5, "logits_scaling": 2.0, "attention_multiplier": 0.2},
        "starcoder",
        "ibm-granite-granite-3.3-2B-Instruct",
    ),
    "granitemoe": Family("GraniteMoeConfig", {**LOCAL, "residual_multiplier": 0.5}, "starcoder"),
    "granite 4 (hybrid)": Family(
        "GraniteMoeHybridConfig",
        {
            **LOCAL,
            "layer_types": ["mamba", "attention", "mamba", "attention"],
            "mamba_n_heads": 8,
            "mamba_d_head": 16,
            "mamba_d_state": 16,
            "mamba_n_groups": 1,
            "mamba_expand": 2,
            "shared_intermediate_size": 64,
            "position_embedding_type": "nope",
        },
        "starcoder",
        "ibm-granite-granite-4.0",
    ),
    "command-r": Family("CohereConfig", {"logit_scale": 0.5}, "gpt-2"),
    "cohere2": Family("Cohere2Config", {"logit_scale": 0.5, "rotary_pct": 1.0, "sliding_window": 256}, "gpt-2"),
    "deepseek2 (v2)": Family("DeepseekV2Config", MLA, "gpt-2"),
    "deepseek2 (v3)": Family("DeepseekV3Config", MLA, "gpt-2"),
    "glm4": Family("Glm4Config", {"partial_rotary_factor": 0.5}, "gpt-2"),
    "chatglm": Family("GlmConfig", {"partial_rotary_factor": 0.5}, "gpt-2"),
    "glm4moe (next-token layers)": Family(
        "Glm4MoeConfig",
        {
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_shared_experts": 1,
            "moe_intermediate_size": 64,
            "first_k_dense_replace": 1,
            "partial_rotary_factor": 0.5,
            "num_nextn_predict_layers": 1,
        },
        "gpt-2",
        "GLM-4.6",
    ),
    "exaone4": Family("Exaone4Config", {"sliding_window": None, "layer_types": ["full_attention"] * LAYERS}, "gpt-2"),
    "smollm3": Family("SmolLM3Config", {}, "gpt-2", "HuggingFaceTB-SmolLM3-3B"),
    "ernie4.5": Family("Ernie4_5Config", {}, "llama-spm"),
    "ernie4.5-moe": Family(
        "Ernie4_5_MoeConfig",
        {
            "moe_num_experts": 4,
            "moe_k": 2,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 1,
            "moe_intermediate_size": 64,
        },
        "llama-spm",
    ),
    "hunyuan-dense": Family("HunYuanDenseV1Config", {}, "gpt-2"),
    "seed_oss": Family("SeedOssConfig", {}, "gpt-2", "ByteDance-Seed-OSS"),
    "arcee": Family("ArceeConfig", {}, "gpt-2"),
    "apertus": Family("ApertusConfig", {}, "gpt-2", "Apertus-8B-Instruct"),
    "gpt-oss": Family(
        "GptOssConfig", {**LOCAL, "sliding_window": 256, "intermediate_size": 64}, "gpt-2", "openai-gpt-oss-120b"
    ),
    "lfm2": Family(
        "Lfm2Config",
        {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "block_auto_adjust_ff_dim": False},
        "gpt-2",
        "LFM2-8B-A1B",
    ),
    "lfm2moe": Family(
        "Lfm2MoeConfig",
        {**MOE, "layer_types": ["conv", "full_attention", "conv", "full_attention"], "num_dense_layers": 1},
        "gpt-2",
        "LFM2-8B-A1B",
        newest=True,
    ),
    "mamba": Family("MambaConfig", SSM, "gpt-neox"),
    "mamba2": Family("Mamba2Config", {**SSM, "num_heads": 8, "head_dim": 16, "n_groups": 1}, "gpt-neox"),
    "falcon-mamba": Family("FalconMambaConfig", SSM, "falcon"),
    "falcon-h1": Family(
        "FalconH1Config",
        {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16, "mamba_n_groups": 1},
        "falcon",
    ),
    "jamba": Family(
        "JambaConfig",
        {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "use_mamba_kernels": False,
        },
        "llama-spm",
    ),
}
