"""The terms of the training loss: pure functions of logits and vectors."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

_TEMPERATURE = 0.1


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the cross-entropies of the answer tokens, nats; logits float32 [n, n_vocab], labels int64 [n]."""
    return cross_entropy(logits, labels, reduction="sum")


def mean_kl(base: Tensor, steered: Tensor) -> Tensor:
    """KL(base || steered) in nats, mean over positions; logits float32 [n, n_vocab] twice."""
    expected = base.log_softmax(dim=-1)
    return (expected.exp() * (expected - steered.log_softmax(dim=-1))).sum(dim=-1).mean()


def contrast(states: Tensor, labels: Sequence[Hashable], outside: Tensor) -> Tensor:
    """Supervised contrastive loss: states with one label near each other, all others apart (Khosla et al. 2020,
    arXiv 2004.11362, equation 2; cosine, temperature 0.1).

    Args:
        states: [batch, d_s].
        labels: of each row; a label that is alone in the batch draws nothing near.
        outside: [n, d_s], states that belong near none.

    Returns:
        Mean over rows with a companion, nats; 0 if there is none.
    """
    n = len(labels)
    units = normalize(torch.cat([states, outside]), dim=-1)
    scores = units[:n] @ units.T / _TEMPERATURE
    itself = torch.eye(n, len(units), dtype=torch.bool, device=states.device)
    log_shares = scores.masked_fill(itself, float("-inf")).log_softmax(dim=-1).masked_fill(itself, 0.0)
    known = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    numbers = torch.tensor([known[label] for label in labels], device=states.device)
    same = torch.zeros_like(itself)
    same[:, :n] = (numbers[:, None] == numbers) & ~itself[:, :n]
    counts = same.sum(dim=-1)
    rows = (log_shares * same).sum(dim=-1)[counts > 0] / counts[counts > 0]
    return -rows.mean() if len(rows) else states.sum() * 0
