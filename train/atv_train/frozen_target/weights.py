"""The target's weights in PyTorch: the same GGUF, dequantised, or its unquantised original."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from atv_local.errors import DataError, ModelError
from atv_local.target import Target
from atv_train.examples import Example
from atv_train.pretrained import SAFE_LOADING, check_config, check_no_adapter, check_present, first_sentence
from atv_train.training_choices import TargetDtype

MIN_COSINE = 0.9
"""The smallest cosine between logits of llama.cpp and PyTorch that passes; quantised activations make them differ."""


def target_dtype(device: torch.device, wanted: TargetDtype = "auto") -> torch.dtype:
    """The PyTorch dtype of a choice."""
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else torch.float32


def load_target(path: Path, dtype: torch.dtype, device: torch.device, weights: str | None = None) -> PreTrainedModel:
    """The target as a frozen transformers model: the dequantised GGUF, or `weights`, a folder or hub id.

    Raises:
        NotFoundError: `weights` is a path where there is nothing.
        UsageError: `weights` is a file.
        ModelError: an architecture that transformers cannot read from GGUF, or weights that cannot be loaded.
    """
    if weights is not None:
        check_present(weights, "weights")
    try:
        with redirect_stderr(StringIO()):  # its progress bar has no switch
            if weights is not None:
                check_config(weights)
                model = AutoModelForCausalLM.from_pretrained(weights, dtype=dtype, **SAFE_LOADING)
            else:
                check_no_adapter(path.parent)
                model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype)
    except (ValueError, RuntimeError, KeyError, OSError, ImportError, SafetensorError) as error:
        reason = first_sentence(error)
        if weights is not None:
            raise ModelError(
                f"cannot load the weights {weights}: {reason}; name a model folder or a hub id with `weights=...`"
            ) from error
        raise ModelError(
            f"transformers cannot dequantise {path}: {reason}; name its unquantised weights with `weights=...`"
        ) from error
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # the other kernels leave the cap out
    model = model.eval().requires_grad_(False)
    return model.to(device)


def check_length(model: PreTrainedModel, examples: Sequence[Example]) -> None:
    """Require that all rows fit the target's context.

    Raises:
        DataError: one is longer.
    """
    longest = max(example.length for example in examples)
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or longest
    if longest > limit:
        raise DataError(
            f"a row has {longest} tokens, more than the target's context of {limit}; "
            f"leave such rows out with `max_row_tokens={limit}`"
        )


@torch.no_grad()
def check_weights(model: PreTrainedModel, path: Path, example: Example) -> None:
    """Require that `model` and llama.cpp with the GGUF at `path` give nearly the same logits after a prompt.

    Raises:
        ModelError: it is another model, or one that llama.cpp does not steer.
    """
    target = Target(path, n_ctx=max(64, len(example.prompt) + 1))
    expected = torch.from_numpy(target.evaluate(example.prompt).copy())
    target.close()
    logits = model(input_ids=torch.tensor([example.prompt], device=model.device)).logits[0, -1].float().cpu()
    cosine = 0.0
    if len(logits) >= len(expected):  # some pad their vocabulary
        cosine = torch.cosine_similarity(logits[: len(expected)], expected, dim=0).item()
    if not cosine > MIN_COSINE:
        raise ModelError(
            f"PyTorch's weights are not those of {path}: their logits have a cosine of only {cosine:.3f}; "
            "name the GGUF's own unquantised weights with `weights=...`"
        )
