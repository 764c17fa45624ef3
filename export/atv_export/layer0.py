"""What becomes of layer 0, which the authors' vectors have and a control vector has not, and what that costs.

A vector v0 added to the output of block 0 reaches the output of block 1 in two ways: along the residual stream, as
itself, and through block 1, changed. `drop` leaves it out; `add` puts v0 into the row of layer 1, right but for the
change of block 1; `carry` puts J v0 there, with J the mean derivative of block 1's output on real prompts. All three
are linear in v0, so they are folded into the expansion and cost nothing at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div
from transformers import PreTrainedModel

from atv_export.paper_checkpoint import PaperCheckpoint
from atv_local.vectors import Positions
from atv_train import Example
from atv_train.frozen_target import decoder_blocks, injected, position_mask

Remedy = Literal["drop", "add", "carry"]
REMEDIES: tuple[Remedy, ...] = ("drop", "add", "carry")
_STEP = 0.05  # of the finite difference, relative to the norm of the hidden state
_COLUMNS = 64  # directions in one forward pass of block 1


@dataclass(frozen=True)
class Layer0:
    """What is lost and what was done about it.

    `share` is the mean of |v0|^2 / |v|^2 over queries; `divergence` the mean KL(all layers || remedy), in nats, of the
    next token after a prompt, and that of leaving out the whole vector under `off`. Empty where no target was run.
    """

    share: float
    remedy: Remedy
    divergence: dict[str, float]


def share(authors: PaperCheckpoint, pooled: Tensor) -> float:
    """Mean share of layer 0 in the squared norm of vectors, from pooled states [n, d_s]."""
    first = (pooled @ authors.weight.T + authors.bias).square().sum(dim=-1)
    rest = authors.generator.expansion(pooled).square().sum(dim=-1)
    return float((first / (first + rest).clamp_min(1e-30)).mean())


@torch.no_grad()
def choose(
    authors: PaperCheckpoint,
    model: PreTrainedModel,
    examples: Sequence[Example],
    pooled: Tensor,
    wanted: Remedy | None = None,
) -> Layer0:
    """Measure every remedy through the target and fold the best into the generator.

    Args:
        model: the target in PyTorch, float32.
        examples: prompts; `pooled` [n, d_s] has a row for each.
        wanted: fold this one, whatever was measured.
    """
    measured = share(authors, pooled)
    blocks = decoder_blocks(model)
    full = _vectors(authors, pooled)
    expected = [_logits(model, blocks, example, full[n], authors) for n, example in enumerate(examples)]
    off = _mean_kl(expected, model, blocks, examples, torch.zeros_like(full), authors)
    found: dict[Remedy, float] = {}
    folded: dict[Remedy, tuple[Tensor, Tensor]] = {}
    for remedy in REMEDIES:
        folded[remedy] = _folded(authors, remedy, model, blocks, examples)
        weight, bias = folded[remedy]
        vectors = full.clone()
        vectors[:, 0] = 0
        vectors[:, 1] += (pooled @ weight.T + bias) * authors.generator.scale
        found[remedy] = _mean_kl(expected, model, blocks, examples, vectors, authors)
    best: Remedy = min(REMEDIES, key=found.__getitem__) if wanted is None else wanted
    fold(authors, *folded[best])
    return Layer0(measured, best, {"off": off} | {str(remedy): value for remedy, value in found.items()})


@torch.no_grad()
def fold(authors: PaperCheckpoint, weight: Tensor, bias: Tensor) -> None:
    """Add a linear map [n_embd, d_s] and [n_embd] to the rows of the expansion that make layer 1."""
    expansion, n_embd = authors.generator.expansion, len(bias)
    assert isinstance(expansion, nn.Linear)
    expansion.weight[:n_embd] += weight
    expansion.bias[:n_embd] += bias


def _folded(
    authors: PaperCheckpoint, remedy: Remedy, model: PreTrainedModel, blocks: nn.ModuleList, examples: Sequence[Example]
) -> tuple[Tensor, Tensor]:
    if remedy == "drop":
        return torch.zeros_like(authors.weight), torch.zeros_like(authors.bias)
    if remedy == "add":
        return authors.weight, authors.bias
    columns = torch.cat([authors.weight, authors.bias[:, None]], dim=1).T  # [d_s + 1, n_embd]
    carried = torch.stack([_carried(columns, model, blocks, example, authors) for example in examples]).mean(dim=0).T
    return carried[:, :-1].contiguous(), carried[:, -1].contiguous()


def _carried(
    columns: Tensor, model: PreTrainedModel, blocks: nn.ModuleList, example: Example, authors: PaperCheckpoint
) -> Tensor:
    """Derivative of block 1's output along each direction, mean over the steered positions, [n, n_embd]."""
    seen: dict[str, Any] = {}

    def keep(_module: nn.Module, given: tuple[Any, ...], options: dict[str, Any]) -> None:
        seen.update(given=given, options=options)

    handle = blocks[1].register_forward_pre_hook(keep, with_kwargs=True)
    try:
        model(input_ids=torch.tensor([example.prompt], device=model.device), use_cache=False)
    finally:
        handle.remove()
    options = dict(seen["options"])
    hidden = seen["given"][0] if seen["given"] else options.pop("hidden_states")
    mask = _mask(example, authors, hidden.device)[0, : hidden.shape[1], None].to(hidden.dtype)
    size = _STEP * float(hidden.norm(dim=-1).mean())
    norms = columns.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    parts = []
    for chunk in (columns / norms).split(_COLUMNS):
        moved = size * chunk[:, None] * mask
        ahead = _output(blocks[1](hidden + moved, *seen["given"][1:], **options))
        behind = _output(blocks[1](hidden - moved, *seen["given"][1:], **options))
        slope = (ahead - behind) / (2 * size)
        parts.append((slope * mask).sum(dim=1) / mask.sum())
    return torch.cat(parts) * norms


def _vectors(authors: PaperCheckpoint, pooled: Tensor) -> Tensor:
    """All layers, layer 0 first, [n, n_layer, n_embd]."""
    first = (pooled @ authors.weight.T + authors.bias) * authors.generator.scale
    return torch.cat([first[:, None], authors.generator.expand(pooled)], dim=1)


def _mask(example: Example, authors: PaperCheckpoint, device: torch.device) -> Tensor:
    n = len(example.prompt)
    return position_mask([n], [n], Positions(authors.spec.injection.positions), device)


def _logits(
    model: PreTrainedModel, blocks: nn.ModuleList, example: Example, rows: Tensor, authors: PaperCheckpoint
) -> Tensor:
    """Log-probabilities of the token after a prompt under `rows` [n_layer, n_embd], layer 0 included."""
    shifted = nn.ModuleList([nn.Identity(), *blocks])  # `injected` leaves the first of a list alone
    with injected(shifted, rows[None].to(model.device), _mask(example, authors, model.device)):
        found = model(input_ids=torch.tensor([example.prompt], device=model.device), use_cache=False)
    return found.logits[0, -1].float().log_softmax(dim=-1)


def _mean_kl(
    expected: Sequence[Tensor],
    model: PreTrainedModel,
    blocks: nn.ModuleList,
    examples: Sequence[Example],
    vectors: Tensor,
    authors: PaperCheckpoint,
) -> float:
    found = [_logits(model, blocks, example, vectors[n], authors) for n, example in enumerate(examples)]
    kls = [kl_div(b, a, reduction="sum", log_target=True) for a, b in zip(expected, found, strict=True)]
    return float(torch.stack(kls).mean())


def _output(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
