"""The target's weights in PyTorch: the same GGUF, dequantised, or its unquantised original."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from atv_local.data import files_of, without_part
from atv_local.errors import AtvError, DataError, ModelError
from atv_local.target import Model, Target
from atv_train.examples import Example
from atv_train.frozen_target.gguf_config import gguf_config
from atv_train.frozen_target.target_memory import check_memory, converted_as_read
from atv_train.hub_models import cannot_load, check_present, first_sentence, source_of
from atv_train.pretrained import SAFE_LOADING, check_config, check_no_adapter
from atv_train.training_choices import TargetDtype

MIN_DEQUANTISED, MIN_UNQUANTISED = 0.99, 0.93
"""The smallest `logits_similarity` of llama.cpp and PyTorch that passes, for both kinds of weights.

Measured with SmolLM2-135M: dequantised 0.997 or more from Q3_K_S to Q8_0; unquantised against its own Q3_K_M 0.956; the
dequantised model with a wrong rope base 0.984, which must not pass.
"""


_EXACT = {"ALL_F32", "F16", "BF16", "Q8_0"}
"""Formats of a GGUF whose logits are as near to those of its unquantised weights as to those it is dequantised to."""
_DEQUANTISED: dict[str, Any] = {}
if hasattr(transformers, "GgufConfig"):  # transformers 5, which else computes with quantised weights, without gradients
    _DEQUANTISED["quantization_config"] = transformers.GgufConfig(dequantize=True)


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
        ModelError: an architecture that transformers cannot read from GGUF, weights that cannot be loaded, or more of
            them than there is memory.
    """
    if weights is not None:
        check_present(weights, "weights")
    elif (n_parts := len(files_of(path))) > 1:  # transformers would make up the weights that are in the others
        raise ModelError(
            f"{path} is the first of {n_parts} parts of a model, and PyTorch reads one file; merge them, or name "
            f"`weights=...`; the command is llama-gguf-split --merge {path.name} {without_part(path.name)}"
        )
    try:
        with redirect_stderr(StringIO()):  # its progress bar has no switch
            if weights is not None:
                check_config(weights)
                model = AutoModelForCausalLM.from_pretrained(source_of(weights), dtype=dtype, **SAFE_LOADING)
            else:
                check_no_adapter(path.parent)
                config = gguf_config(path)
                check_memory(path, config, dtype, device)
                with converted_as_read(dtype):
                    model = AutoModelForCausalLM.from_pretrained(
                        path.parent, gguf_file=path.name, config=config, dtype=dtype, **_DEQUANTISED
                    )
    except Exception as error:  # transformers' readers raise whatever comes of a file that they do not expect
        if isinstance(error, AtvError):
            raise
        if weights is not None:
            raise cannot_load(weights, "weights", error) from error
        raise ModelError(
            f"transformers cannot dequantise {path}: {first_sentence(error)}; "
            "name its unquantised weights with `weights=...`"
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


def logits_similarity(found: Tensor, expected: Tensor) -> float:
    """The mean cosine of rows of logits, each less its own mean, which softmax ignores too.

    Args:
        found: [n, n_vocab] or wider, since some models pad their vocabulary.
        expected: [n, n_vocab].
    """
    found = found[:, : expected.shape[1]]
    if found.shape != expected.shape:
        return 0.0
    one, other = (logits.double() - logits.double().mean(dim=1, keepdim=True) for logits in (found, expected))
    return torch.cosine_similarity(one, other, dim=1).mean().item()


def require_same(found: Tensor, expected: Tensor, model: Model, weights: str | None) -> None:
    """Require that PyTorch's logits are llama.cpp's, as far as quantisation lets them.

    Args:
        found: PyTorch's, see `logits_similarity`.
        expected: those of `model` in llama.cpp.
        model: the GGUF.
        weights: unquantised ones that PyTorch has, if any.

    Raises:
        ModelError: it is another model.
    """
    exact = weights is None or model.quantisation in _EXACT
    least = MIN_DEQUANTISED if exact else MIN_UNQUANTISED
    similarity = logits_similarity(found, expected)
    if not similarity >= least:
        whose = (
            f"transformers reads {model.path} as another model than llama.cpp does"
            if weights is None
            else f"the weights {weights} are not those of {model.path}"
        )
        raise ModelError(
            f"{whose}: their logits have a cosine of {similarity:.3f}, less than {least:g}; "
            "name the GGUF's own unquantised weights with `weights=...`"
        )


@torch.no_grad()
def check_weights(model: PreTrainedModel, path: Path, example: Example, weights: str | None = None) -> None:
    """Require that `model` and llama.cpp with the GGUF at `path` give nearly the same logits for a prompt.

    Raises:
        ModelError: it is another model, or one that llama.cpp does not steer.
    """
    target = Target(path, n_ctx=max(64, len(example.prompt) + 1))
    expected = torch.stack([torch.from_numpy(logits.copy()) for logits in target.read(example.prompt)])
    logits = model(input_ids=torch.tensor([example.prompt], device=model.device)).logits[0].float().cpu()
    require_same(logits, expected, target.model, weights)
    target.close()
