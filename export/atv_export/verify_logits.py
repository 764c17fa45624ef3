"""Verifying a bundle in the target's logits: PyTorch with hooks against llama.cpp with the exported generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from atv_local import Bundle, Generator, Positions, Target, TaskVector
from atv_local.errors import BundleError
from atv_local.generator import Precision
from atv_local.target import Prompt
from atv_train import Example, mean_kl
from atv_train.frozen_target import decoder_blocks, injected, position_mask, require_same, vector_masks

MIN_COSINE = 0.95
"""The smallest cosine of steered logits that passes; without steering they differ too, see `base_cosine`."""


@dataclass(frozen=True)
class LogitsCheck:
    """Logits of the next token after a prompt: steered, and without a vector for comparison.

    Args:
        prompts: their number.
        cosine: the smallest between logits.
        divergence: mean KL(PyTorch || llama.cpp), nats.
        agreement: share of prompts with the same most likely token.
    """

    prompts: int
    cosine: float
    divergence: float
    agreement: float
    base_cosine: float
    base_divergence: float


@torch.no_grad()
def verify_logits(
    bundle: Bundle,
    model: PreTrainedModel,
    gguf: Path,
    expected: Sequence[tuple[Example, Tensor]],
    weights: str | None = None,
) -> dict[Precision, LogitsCheck]:
    """Verify every graph of a bundle, through the same code as `atv-local run`.

    Args:
        model: the target in PyTorch.
        expected: examples with PyTorch's task vectors, [n_vectors * (n_layer-1), n_embd] each.
        weights: what `model` was loaded from, if not from the GGUF.

    Raises:
        BundleError: logits that do not agree.
        ModelError: those without steering do not.
    """
    positions, n_vectors = bundle.manifest.injection.positions, bundle.manifest.injection.n_vectors
    examples, vectors = zip(*expected, strict=True)
    steered = _pytorch(model, examples, vectors, positions, n_vectors)
    base = _pytorch(model, examples, [torch.zeros_like(vector) for vector in vectors], positions, n_vectors)
    target = Target(gguf)
    prompt_format = target.prompts.with_variables(bundle.manifest.template_variables)
    prompts = [prompt_format(example.query) for example in examples]
    off = torch.stack([_llama(target, prompt, None, positions) for prompt in prompts])
    require_same(base, off, target.model, weights)
    n_vocab = off.shape[1]  # PyTorch's may be padded
    checks: dict[Precision, LogitsCheck] = {}
    for precision in bundle.graphs:
        generator = Generator(bundle, provider="cpu", precision=precision)
        pairs = zip(prompts, [generator(example.query) for example in examples], strict=True)
        on = torch.stack([_llama(target, prompt, vector, positions) for prompt, vector in pairs])
        checks[precision] = LogitsCheck(
            prompts=len(prompts),
            cosine=_cosine(steered[:, :n_vocab], on),
            divergence=float(mean_kl(steered[:, :n_vocab], on)),
            agreement=float((steered.argmax(dim=1) == on.argmax(dim=1)).float().mean()),
            base_cosine=_cosine(base[:, :n_vocab], off),
            base_divergence=float(mean_kl(base[:, :n_vocab], off)),
        )
    target.close()
    for precision, check in checks.items():
        if not check.cosine >= MIN_COSINE:
            raise BundleError(
                f"under the {precision} graph's vectors llama.cpp's logits have cosine {check.cosine:.3f} with "
                f"PyTorch's, less than {MIN_COSINE:g} ({check.base_cosine:.3f} without steering); nothing was written"
            )
    return checks


def _pytorch(
    model: PreTrainedModel,
    examples: Sequence[Example],
    vectors: Sequence[Tensor],
    positions: Positions,
    n_vectors: int,
) -> Tensor:
    """Logits [n, n_vocab] of the token after each prompt."""
    blocks = decoder_blocks(model)
    rows = []
    for example, vector in zip(examples, vectors, strict=True):
        n = len(example.prompt)
        mask = vector_masks(position_mask([n], [n], positions, model.device), [n], n_vectors)
        with injected(blocks, vector[None].to(model.device), mask):
            output = model(input_ids=torch.tensor([example.prompt], device=model.device), use_cache=False)
        rows.append(output.logits[0, -1].float().cpu())
    return torch.stack(rows)


def _llama(target: Target, prompt: Prompt, vector: TaskVector | None, positions: Positions) -> Tensor:
    """Logits of the next token from llama.cpp, float32 [n_vocab]."""
    tokens = prompt.tokens
    target.reset()
    if vector is not None and positions.prefix:
        if vector.prompt is not None and len(tokens) > 1:
            target.apply(vector.prompt)
            target.evaluate(tokens[:-1])
            tokens = tokens[-1:]
        target.apply(vector)
        return torch.from_numpy(target.evaluate(tokens).copy())
    target.prefill(tokens[: prompt.shared], tokens[prompt.shared : -1])
    if vector is not None:
        target.apply(vector)
    return torch.from_numpy(target.evaluate(tokens[-1:]).copy())


def _cosine(expected: Tensor, actual: Tensor) -> float:
    return float(torch.cosine_similarity(expected, actual, dim=1).min())
