"""The terms of the training loss: pure functions of logits and vectors."""

from __future__ import annotations

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


def contrast(vectors: Tensor, tasks: list[str]) -> Tensor:
    """Supervised contrastive loss: vectors of one task near each other, others apart (cosine, temperature 0.1).

    Args:
        vectors: [batch, n_layer-1, n_embd].
        tasks: of each row; a task that is alone in the batch does not count.

    Returns:
        Mean over rows with a companion, nats; 0 if there is none.
    """
    flat = normalize(vectors.flatten(1) + 1e-12, dim=-1)
    scores = flat @ flat.T / _TEMPERATURE
    itself = torch.eye(len(tasks), dtype=torch.bool, device=vectors.device)
    log_shares = scores.masked_fill(itself, float("-inf")).log_softmax(dim=-1).masked_fill(itself, 0.0)
    numbers = torch.tensor([sorted(set(tasks)).index(task) for task in tasks], device=vectors.device)
    same = (numbers[:, None] == numbers) & ~itself
    counts = same.sum(dim=-1)
    rows = (log_shares * same).sum(dim=-1)[counts > 0] / counts[counts > 0]
    return -rows.mean() if len(rows) else vectors.sum() * 0
