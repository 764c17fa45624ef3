"""The generator in PyTorch: backbone, pooling, expansion. Knows nothing of the target but its shape."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from transformers import PreTrainedModel

Pooling = Literal["mean", "last", "cls"]


class Generator(nn.Module):
    """Query tokens to task vectors (ATV, arXiv 2506.03426, section 3): f(pool(backbone(x))) * scale.

    Args:
        backbone: any Hugging Face model with `last_hidden_state` [batch, seq, d_s].
        n_rows: n_layer-1 of the target.
        n_embd: width of the target's hidden state.
        pooling: how the hidden states become one vector of width d_s.
        scale: constant factor on the task vector (lambda in the paper).
    """

    def __init__(self, backbone: PreTrainedModel, n_rows: int, n_embd: int, pooling: Pooling, scale: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.expansion = nn.Linear(backbone.config.hidden_size, n_rows * n_embd)
        nn.init.zeros_(self.expansion.weight)  # training starts from the base model's answers
        nn.init.zeros_(self.expansion.bias)
        self.shape = (n_rows, n_embd)
        self.pooling = pooling
        self.scale = scale

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 [batch, seq] twice (padded on the right) -> float32 [batch, n_rows, n_embd]."""
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = pool(hidden, attention_mask, self.pooling)
        return self.expansion(pooled).unflatten(-1, self.shape) * self.scale


def pool(hidden: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """[batch, seq, d_s] -> [batch, d_s] over the tokens that `attention_mask` keeps."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        last = (attention_mask.sum(dim=1) - 1)[:, None, None].expand(-1, 1, hidden.shape[-1])
        return hidden.gather(1, last).squeeze(1)
    weights = attention_mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)
