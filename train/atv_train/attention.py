"""Attention of a few last tokens over keys and values that are constants: the kept prefix of each prompt.

transformers' own path joins the two before it attends, and its backward pass then differentiates with respect to every
key and value, kept ones included, once per query head. Here they stay apart: no gradient is computed for what is
constant, and grouped heads are not copied. Knows nothing of prompts or vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

_NAME = "atv_kept_prefix"


@dataclass(frozen=True)
class Kept:
    """Prefixes of a batch.

    Args:
        states: keys and values [n_layer, 2, batch, n_head_kv, longest, d_head], padded on the right.
        lengths: tokens of each prefix.
    """

    states: Tensor
    lengths: Tensor

    @classmethod
    def stack(cls, parts: Sequence[Tensor]) -> Kept:
        """From one tensor [n_layer, 2, n_head_kv, length, d_head] for each row."""
        layers, two, heads, _, width = parts[0].shape
        lengths = [part.shape[3] for part in parts]
        states = parts[0].new_zeros(layers, two, len(parts), heads, max(lengths), width)
        for index, part in enumerate(parts):
            states[:, :, index, :, : lengths[index]] = part
        return cls(states, torch.tensor(lengths, device=states.device))

    @property
    def mask(self) -> Tensor:
        """bool [batch, longest]: true on tokens, false on padding."""
        return torch.arange(self.states.shape[4], device=self.states.device) < self.lengths[:, None]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    *,
    kept: Kept,
    **_: Any,
) -> tuple[Tensor, None]:
    """One layer's attention, as transformers' `AttentionInterface` calls it: prefix and causal tail together.

    Args:
        query: [batch, n_head, tail, d_head]; `key` and `value` the same with n_head_kv.
        attention_mask: not used; padding at the right of a tail is behind every token that counts.

    Returns:
        [batch, tail, n_head, d_head].
    """
    del attention_mask
    batch, n_head, tail, width = query.shape
    n_head_kv = key.shape[1]
    past_key, past_value = kept.states[int(module.layer_idx)]  # type: ignore[arg-type]
    grouped = query.reshape(batch, n_head_kv, -1, width) * (width**-0.5 if scaling is None else scaling)
    past = grouped @ past_key.transpose(-1, -2)
    own = grouped @ key.transpose(-1, -2)
    if softcap is not None:
        past, own = (torch.tanh(scores / softcap) * softcap for scores in (past, own))
    past = past.masked_fill(~kept.mask[:, None, None], float("-inf"))
    later = torch.ones(tail, tail, dtype=torch.bool, device=query.device).triu(1)
    own = own.masked_fill(later.repeat(n_head // n_head_kv, 1), float("-inf"))
    weights = torch.softmax(torch.cat([past, own], dim=-1), dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = weights[..., : past.shape[-1]] @ past_value + weights[..., past.shape[-1] :] @ value
    return mixed.reshape(batch, n_head, tail, width).transpose(1, 2), None


AttentionInterface.register(_NAME, attend)


@contextmanager
def attending(model: PreTrainedModel) -> Iterator[None]:
    """Within the context the model's layers attend this way; its forward then needs `kept=`."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
