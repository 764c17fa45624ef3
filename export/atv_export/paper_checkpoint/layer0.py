"""How to handle layer 0, which the authors' vectors have and a control vector does not, and what that costs.

A vector v0 added to the output of block 0 reaches the output of block 1 in two ways: along the residual stream
unchanged, and through block 1. `drop` leaves it out; `add` puts v0 into the row of layer 1, which ignores the change by
block 1; `carry` puts J v0 there, with J the mean derivative of block 1's output on real prompts. All three are linear
in v0, so they are folded into the expansion and cost nothing at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from atv_export.export_choices import Layer0Method
from atv_export.paper_checkpoint.paper_file import PaperCheckpoint
from atv_local.errors import UsageError
from atv_local.vectors import Positions
from atv_train import Example, mean_kl
from atv_train.frozen_target import decoder_blocks, injected, position_mask

_METHODS: tuple[Layer0Method, ...] = get_args(Layer0Method)
_STEP = 0.05  # of the finite difference, relative to the norm of the hidden state
_COLUMNS = 64  # directions in one forward pass of block 1


@dataclass(frozen=True)
class Layer0Report:
    """How layer 0 was handled.

    Args:
        share: mean of |v0|^2 / |v|^2 over queries.
        method: what was done.
        divergence: by method, mean KL(all layers || method) of the next token after a prompt, in nats; under `off` that
            of leaving out the whole vector. Empty without a target.
    """

    share: float
    method: Layer0Method
    divergence: dict[str, float]

    def __str__(self) -> str:
        methods = {
            "drop": "It is left out.",
            "add": "It is added to the vector of layer 1.",
            "carry": "Carried through block 1 by its mean derivative, it is added to the vector of layer 1.",
        }
        text = (
            f"The checkpoint has a vector for layer 0, which llama.cpp cannot steer: {self.share:.1%} of the vectors' "
            f"squared norm. {methods[self.method]}"
        )
        if not self.divergence:
            return f"{text} The effect on logits was not measured."
        measured = ", ".join(f"{name} {value:.3g}" for name, value in self.divergence.items())
        return f"{text} KL from the logits with all layers, in nats: {measured}."


@torch.no_grad()
def fold_layer0(
    checkpoint: PaperCheckpoint,
    model: PreTrainedModel | None,
    examples: Sequence[Example],
    pooled: Tensor,
    method: Layer0Method | None = None,
) -> Layer0Report:
    """Fold layer 0 into layer 1 of the checkpoint's generator, in place.

    Args:
        model: the target in PyTorch, float32; measures every method. Without one, nothing is measured.
        examples: prompts; `pooled` [n, d_s] has the backbone's state for each.
        method: by default the one with the smallest divergence, or `add` where nothing is measured.

    Raises:
        UsageError: `carry` without a target.
    """
    share = _share(checkpoint, pooled)
    if model is None:
        if method == "carry":
            raise UsageError("`layer0=carry` needs the target; leave out `through=False`")
        if method != "drop":
            _fold(checkpoint, checkpoint.weight, checkpoint.bias)
        return Layer0Report(share, method or "add", {})
    folded, divergence = _measure(checkpoint, model, examples, pooled)
    most_exact = min(_METHODS, key=divergence.__getitem__)
    chosen = method or most_exact
    _fold(checkpoint, *folded[chosen])
    return Layer0Report(share, chosen, divergence)


def _share(checkpoint: PaperCheckpoint, pooled: Tensor) -> float:
    """Mean share of layer 0 in the squared norm of vectors, from pooled states [n, d_s]."""
    first = (pooled @ checkpoint.weight.T + checkpoint.bias).square().sum(dim=-1)
    rest = checkpoint.generator.expansion(pooled).square().sum(dim=-1)
    return float((first / (first + rest).clamp_min(1e-30)).mean())


def _fold(checkpoint: PaperCheckpoint, weight: Tensor, bias: Tensor) -> None:
    """Add a linear map [n_embd, d_s] and [n_embd] to the rows of the expansion that make layer 1."""
    expansion, n_embd = checkpoint.generator.expansion, len(bias)
    assert isinstance(expansion, nn.Linear)
    expansion.weight[:n_embd] += weight
    expansion.bias[:n_embd] += bias


def _measure(
    checkpoint: PaperCheckpoint, model: PreTrainedModel, examples: Sequence[Example], pooled: Tensor
) -> tuple[dict[Layer0Method, tuple[Tensor, Tensor]], dict[str, float]]:
    """For each method what to fold, and its divergence."""
    blocks = decoder_blocks(model)
    all_layers = _vectors(checkpoint, pooled)
    expected = _logits(model, blocks, examples, all_layers, checkpoint)
    off = _logits(model, blocks, examples, torch.zeros_like(all_layers), checkpoint)
    divergence = {"off": float(mean_kl(expected, off))}
    folded: dict[Layer0Method, tuple[Tensor, Tensor]] = {}
    for method in _METHODS:
        folded[method] = weight, bias = _linear_map(checkpoint, method, model, blocks, examples)
        vectors = all_layers.clone()
        vectors[:, 0] = 0
        vectors[:, 1] += (pooled @ weight.T + bias) * checkpoint.generator.scale
        divergence[method] = float(mean_kl(expected, _logits(model, blocks, examples, vectors, checkpoint)))
    return folded, divergence


def _linear_map(
    checkpoint: PaperCheckpoint,
    method: Layer0Method,
    model: PreTrainedModel,
    blocks: nn.ModuleList,
    examples: Sequence[Example],
) -> tuple[Tensor, Tensor]:
    """Weight and bias that a method adds to layer 1."""
    if method == "drop":
        return torch.zeros_like(checkpoint.weight), torch.zeros_like(checkpoint.bias)
    if method == "add":
        return checkpoint.weight, checkpoint.bias
    columns = torch.cat([checkpoint.weight, checkpoint.bias[:, None]], dim=1).T  # [d_s + 1, n_embd]
    carried = [_carried(columns, model, blocks, example, checkpoint) for example in examples]
    mean = torch.stack(carried).mean(dim=0).T
    return mean[:, :-1].contiguous(), mean[:, -1].contiguous()


def _carried(
    columns: Tensor, model: PreTrainedModel, blocks: nn.ModuleList, example: Example, checkpoint: PaperCheckpoint
) -> Tensor:
    """Derivative of block 1's output along each direction, mean over the steered positions, [n, n_embd]."""
    inputs: dict[str, Any] = {}

    def record(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs.update(args=args, kwargs=kwargs)

    handle = blocks[1].register_forward_pre_hook(record, with_kwargs=True)
    try:
        model(input_ids=torch.tensor([example.prompt], device=model.device), use_cache=False)
    finally:
        handle.remove()
    kwargs = dict(inputs["kwargs"])
    hidden = inputs["args"][0] if inputs["args"] else kwargs.pop("hidden_states")
    mask = _mask(example, checkpoint, hidden.device)[0, : hidden.shape[1], None].to(hidden.dtype)
    size = _STEP * float(hidden.norm(dim=-1).mean())
    norms = columns.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    parts = []
    for chunk in (columns / norms).split(_COLUMNS):
        moved = size * chunk[:, None] * mask
        ahead = _hidden(blocks[1](hidden + moved, *inputs["args"][1:], **kwargs))
        behind = _hidden(blocks[1](hidden - moved, *inputs["args"][1:], **kwargs))
        slope = (ahead - behind) / (2 * size)
        parts.append((slope * mask).sum(dim=1) / mask.sum())
    return torch.cat(parts) * norms


def _vectors(checkpoint: PaperCheckpoint, pooled: Tensor) -> Tensor:
    """All layers, layer 0 first, [n, n_layer, n_embd]."""
    first = (pooled @ checkpoint.weight.T + checkpoint.bias) * checkpoint.generator.scale
    return torch.cat([first[:, None], checkpoint.generator.expand(pooled)], dim=1)


def _mask(example: Example, checkpoint: PaperCheckpoint, device: torch.device) -> Tensor:
    n = len(example.prompt)
    return position_mask([n], [n], Positions(checkpoint.spec.injection.positions), device)


def _logits(
    model: PreTrainedModel,
    blocks: nn.ModuleList,
    examples: Sequence[Example],
    vectors: Tensor,
    checkpoint: PaperCheckpoint,
) -> Tensor:
    """Logits [n, n_vocab] of the token after each prompt under `vectors` [n, n_layer, n_embd], layer 0 included."""
    shifted = nn.ModuleList([nn.Identity(), *blocks])  # `injected` skips the first block of a list
    rows = []
    for example, vector in zip(examples, vectors, strict=True):
        with injected(shifted, vector[None].to(model.device), _mask(example, checkpoint, model.device)):
            output = model(input_ids=torch.tensor([example.prompt], device=model.device), use_cache=False)
        rows.append(output.logits[0, -1].float())
    return torch.stack(rows)


def _hidden(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
