"""Attention of a few last tokens over keys and values that are constants: the cached prefix of each prompt.

transformers' own path joins the two before it attends, and its backward pass then differentiates with respect to every
key and value, cached ones included, once per query head. Here they stay apart: no gradient is computed for what is
constant, and grouped heads are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

_NAME = "atv_cached_prefix"


@dataclass(frozen=True)
class CachedPrefix:
    """Prefixes of a batch, and how the tails that follow them are laid out.

    Args:
        states: keys and values [n_layer, 2, batch, n_head_kv, longest, d_head], padded on the right.
        lengths: int64 [batch], tokens of each prefix.
        tails: bool [batch, tail], true on the tokens that follow. The model gets these alone, as one row [1, n]; here
            they are laid out by sequence again.
    """

    states: Tensor
    lengths: Tensor
    tails: Tensor

    @classmethod
    def stack(cls, parts: Sequence[Tensor], tails: Tensor) -> CachedPrefix:
        """From one tensor [n_layer, 2, n_head_kv, length, d_head] for each row."""
        layers, two, heads, _, width = parts[0].shape
        lengths = [part.shape[3] for part in parts]
        states = parts[0].new_zeros(layers, two, len(parts), heads, max(lengths), width)
        for index, part in enumerate(parts):
            states[:, :, index, :, : lengths[index]] = part
        return cls(states, torch.tensor(lengths, device=states.device), tails)

    @property
    def mask(self) -> Tensor:
        """bool [batch, longest]: true on tokens of the prefixes, false on padding."""
        return torch.arange(self.states.shape[4], device=self.states.device) < self.lengths[:, None]

    @cached_property
    def places(self) -> Tensor:
        """int64 [n]: where each token stands among the batch * tail places."""
        return self.tails.flatten().nonzero().flatten()

    def spread(self, states: Tensor) -> Tensor:
        """[1, heads, n, d_head] by token to [batch, heads, tail, d_head] by sequence, zero where no token is."""
        batch, tail = self.tails.shape
        _, heads, _, width = states.shape
        empty = states.new_zeros(batch * tail, heads, width)
        laid_out = empty.index_copy(0, self.places, states[0].transpose(0, 1))
        return laid_out.unflatten(0, (batch, tail)).transpose(1, 2)

    def gather(self, states: Tensor) -> Tensor:
        """[batch, heads, tail, d_head] by sequence to [1, n, heads, d_head] by token."""
        return states.transpose(1, 2).flatten(0, 1).index_select(0, self.places)[None]


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    *,
    cached_prefix: CachedPrefix,
    **_: Any,
) -> tuple[Tensor, None]:
    """One layer's attention, as transformers' `AttentionInterface` calls it: prefix and causal tail together.

    Args:
        query: [1, n_head, n, d_head]; `key` and `value` the same with n_head_kv.
        attention_mask: not used; padding at the right of a tail is behind every token that counts.

    Returns:
        [1, n, n_head, d_head].
    """
    del attention_mask
    prefix = cached_prefix
    query, key, value = prefix.spread(query), prefix.spread(key), prefix.spread(value)
    batch, n_head, tail, width = query.shape
    n_head_kv = key.shape[1]
    past_key, past_value = prefix.states[int(module.layer_idx)]  # type: ignore[arg-type]  # typed as any attribute
    grouped = query.reshape(batch, n_head_kv, -1, width) * (width**-0.5 if scaling is None else scaling)
    past = grouped @ past_key.transpose(-1, -2)
    own = grouped @ key.transpose(-1, -2)
    if softcap is not None:
        past, own = (torch.tanh(scores / softcap) * softcap for scores in (past, own))
    past = past.masked_fill(~prefix.mask[:, None, None], float("-inf"))
    later = torch.ones(tail, tail, dtype=torch.bool, device=query.device).triu(1)
    own = own.masked_fill(later.repeat(n_head // n_head_kv, 1), float("-inf"))
    weights = torch.softmax(torch.cat([past, own], dim=-1), dim=-1, dtype=torch.float32).to(query.dtype)
    mixed = weights[..., : past.shape[-1]] @ past_value + weights[..., past.shape[-1] :] @ value
    return prefix.gather(mixed.reshape(batch, n_head, tail, width)), None


AttentionInterface.register(_NAME, attend)


@contextmanager
def attending(model: PreTrainedModel) -> Iterator[None]:
    """Within the context the model's layers attend this way; its forward then needs `cached_prefix=`."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
