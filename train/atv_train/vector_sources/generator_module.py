"""The generator in PyTorch: backbone, pooling, expansion. Of the target it knows only the shape."""

from __future__ import annotations

import math

from torch import Tensor, nn
from transformers import PreTrainedModel

from atv_local.generator import Pooling


class GeneratorModule(nn.Module):
    """Query tokens to task vectors (ATV, arXiv 2506.03426, section 3): f(pool(backbone(x))) * scale.

    Args:
        backbone: any Hugging Face model with `last_hidden_state` [batch, seq, d_s], encoder or decoder.
        n_rows: n_layer-1 of the target.
        n_embd: width of the target's hidden state.
        pooling: how the hidden states become one vector of width d_s.
        scale: constant factor on the task vector (lambda in the paper).
        rank: width of a bottleneck in the expansion; None is one full linear map, as in the paper.
        layers: first and last layer to steer, 1-based; the vectors of the others are zero. None is all.
        n_vectors: 2 for a prompt vector too, whose rows come after those of the first one.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        n_rows: int,
        n_embd: int,
        pooling: Pooling = "mean",
        scale: float = 1.0,
        rank: int | None = None,
        layers: tuple[int, int] | None = None,
        n_vectors: int = 1,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.first, self.last = layers or (1, n_rows)
        self.shape = (n_vectors, self.last - self.first + 1, n_embd)
        self.n_rows = n_rows
        self.expansion = expansion(backbone.config.hidden_size, math.prod(self.shape), rank)
        self.pooling = pooling
        self.scale = scale

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 [batch, seq] twice (padded on the right) -> float32 [batch, n_vectors * n_rows, n_embd]."""
        return self.expand(self.pooled(input_ids, attention_mask))

    def pooled(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 [batch, seq] twice -> float32 [batch, d_s]."""
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return pool(hidden, attention_mask, self.pooling)

    def expand(self, pooled: Tensor) -> Tensor:
        """float32 [batch, d_s] -> float32 [batch, n_vectors * n_rows, n_embd]."""
        rows = self.expansion(pooled).unflatten(-1, self.shape) * self.scale
        return nn.functional.pad(rows, (0, 0, self.first - 1, self.n_rows - self.last)).flatten(1, 2)


def expansion(d_in: int, d_out: int, rank: int | None) -> nn.Module:
    """A linear map, through a bottleneck of `rank`. It starts at zero, where answers are the base model's."""
    out = nn.Linear(rank or d_in, d_out)
    nn.init.zeros_(out.weight)
    nn.init.zeros_(out.bias)
    return nn.Sequential(nn.Linear(d_in, rank, bias=False), out) if rank else out


def pool(hidden: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """[batch, seq, d_s] -> [batch, d_s] over the tokens in `attention_mask`.

    `mix` is 0.3 of the last token and 0.7 of the mean, as in the ATV authors' later code.
    """
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "mix":
        return 0.3 * pool(hidden, attention_mask, "last") + 0.7 * pool(hidden, attention_mask, "mean")
    if pooling == "last":
        last = (attention_mask.sum(dim=1) - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])
        return hidden.gather(1, last).squeeze(1)
    weights = attention_mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def n_trainable(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
