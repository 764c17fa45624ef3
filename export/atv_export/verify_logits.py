"""The check through to the logits: PyTorch with its hooks against llama.cpp with the exported generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

from atv_local import Bundle, Positions, Target, TaskVector
from atv_local import Generator as OnnxGenerator
from atv_local.errors import BundleError
from atv_local.generator import Precision
from atv_local.target import Prompt
from atv_train import Example
from atv_train.frozen_target import decoder_blocks, injected, position_mask

MIN_COSINE = 0.95
"""Of logits under steering. Without it llama.cpp and the dequantised weights differ too: see `base`."""


@dataclass(frozen=True)
class Logits:
    """The next token after a prompt, mean over prompts: steered, and without a vector for comparison.

    `cosine` is the smallest between logits, `divergence` KL(PyTorch || llama.cpp) in nats, `agreement` the share of
    prompts with the same most likely token.
    """

    prompts: int
    cosine: float
    divergence: float
    agreement: float
    base_cosine: float
    base_divergence: float


@torch.no_grad()
def check(
    bundle: Path, model: PreTrainedModel, gguf: Path, expected: Sequence[tuple[Example, Tensor]]
) -> dict[Precision, Logits]:
    """Every graph of a bundle, by the path that `atv-local run` takes.

    Args:
        model: the target in PyTorch.
        expected: examples with PyTorch's task vectors, [n_layer-1, n_embd] each.

    Raises:
        BundleError: logits that do not agree.
    """
    opened = Bundle(bundle)
    positions = opened.manifest.injection.positions
    blocks = decoder_blocks(model)
    target = Target(gguf)
    prompts = [target.prompts(example.query) for example, _ in expected]
    steered = [_pytorch(model, blocks, example, vector, positions) for example, vector in expected]
    base = [_pytorch(model, blocks, example, torch.zeros_like(vector), positions) for example, vector in expected]
    off = [_llama(target, prompt, None, positions) for prompt in prompts]
    found: dict[Precision, Logits] = {}
    for precision in opened.graphs:
        generator = OnnxGenerator(opened, provider="cpu", precision=precision)
        vectors = [generator(example.query) for example, _ in expected]
        on = [_llama(target, prompt, vector, positions) for prompt, vector in zip(prompts, vectors, strict=True)]
        found[precision] = Logits(
            len(prompts),
            _cosine(steered, on),
            _divergence(steered, on),
            sum(int(a.argmax()) == int(b.argmax()) for a, b in zip(steered, on, strict=True)) / len(prompts),
            _cosine(base, off),
            _divergence(base, off),
        )
    target.close()
    for precision, logits in found.items():
        if not logits.cosine >= MIN_COSINE:
            raise BundleError(
                f"under the {precision} graph's vectors llama.cpp's logits have cosine {logits.cosine:.3f} with "
                f"PyTorch's, less than {MIN_COSINE:g} ({logits.base_cosine:.3f} without steering); nothing was written"
            )
    return found


def _pytorch(
    model: PreTrainedModel, blocks: torch.nn.ModuleList, example: Example, vector: Tensor, where: Positions
) -> Tensor:
    n = len(example.prompt)
    mask = position_mask([n], [n], where, model.device)
    with injected(blocks, vector[None].to(model.device), mask):
        found = model(input_ids=torch.tensor([example.prompt], device=model.device), use_cache=False)
    return found.logits[0, -1].float().cpu()


def _llama(target: Target, prompt: Prompt, vector: TaskVector | None, where: Positions) -> Tensor:
    tokens = prompt.tokens
    target.reset()
    if vector is not None and where.prefix:
        target.apply(vector)
        return torch.from_numpy(target.evaluate(tokens).copy())
    target.prefill(tokens[: prompt.shared], tokens[prompt.shared : -1])
    if vector is not None:
        target.apply(vector)
    return torch.from_numpy(target.evaluate(tokens[-1:]).copy())


def _cosine(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    pairs = zip(expected, found, strict=True)
    return float(torch.stack([torch.cosine_similarity(a[: len(b)], b, dim=0) for a, b in pairs]).min())


def _divergence(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    kls = [
        float(kl_div(b.log_softmax(0), a[: len(b)].log_softmax(0), reduction="sum", log_target=True))
        for a, b in zip(expected, found, strict=True)
    ]
    return sum(kls) / len(kls)
