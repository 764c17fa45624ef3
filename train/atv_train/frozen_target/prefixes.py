"""Keys and values of prompts' prefixes, as the base model computes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from atv_train.examples import pad, padding_mask

Prefix = tuple[int, ...]
"""Tokens of a prompt before its last one."""
_LEAST_SHARED = 8
"""Tokens beyond those that all share; for fewer a group is not made."""


@torch.no_grad()
def evaluate_prefixes(model: PreTrainedModel, prefixes: Sequence[Prefix], head: Tensor | None = None) -> list[Tensor]:
    """Keys and values [n_layer, 2, n_head_kv, len(prefix), d_head] of each prefix, from one batch.

    Args:
        head: those of the tokens that all of them begin with.
    """
    cache = DynamicCache()  # our own, so that no layer drops what is outside an attention window
    begin = 0 if head is None else head.shape[3]
    for index, (keys, values) in enumerate(head if head is not None else ()):
        cache.update(keys.expand(len(prefixes), -1, -1, -1), values.expand(len(prefixes), -1, -1, -1), index)
    model.base_model(  # without its head: one logit row a prompt would cost more than all the layers
        input_ids=pad([prefix[begin:] for prefix in prefixes], 0, model.device),
        attention_mask=padding_mask([len(prefix) for prefix in prefixes], model.device).long(),
        past_key_values=cache,
        use_cache=True,
    )
    layers: list[Any] = list(cache.layers)
    parts = []
    for index, prefix in enumerate(prefixes):
        states = [torch.stack([layer.keys[index], layer.values[index]]) for layer in layers]
        parts.append(torch.stack(states)[:, :, :, : len(prefix)].contiguous())
    return parts


def shared_heads(prefixes: Collection[Prefix]) -> dict[Prefix, Prefix]:
    """What each prefix begins with and others do too, such as a template, a system message or an instruction.

    At least one token of each is not part of it.
    """
    ordered = sorted(set(prefixes))
    whole = ordered[0][: common_length(ordered)] if ordered else ()
    groups: list[list[Prefix]] = []
    for prefix in ordered:
        if groups and common_length([groups[-1][-1], prefix]) >= len(whole) + _LEAST_SHARED:
            groups[-1].append(prefix)
        else:
            groups.append([prefix])
    heads: dict[Prefix, Prefix] = {}
    for group in groups:
        head = group[0][: common_length(group)] if len(group) > 1 else whole
        heads |= dict.fromkeys(group, head if len(head) >= len(whole) + _LEAST_SHARED else whole)
    return heads


def prefix_bytes(model: PreTrainedModel, heads: Mapping[Prefix, Prefix]) -> int:
    """Memory that the keys and values of prefixes take, what they share counted once.

    Args:
        heads: from `shared_heads`.
    """
    one = evaluate_prefixes(model, [(0,)])[0]
    tokens = sum(map(len, set(heads.values()))) + sum(len(prefix) - len(head) for prefix, head in heads.items())
    return one.numel() * one.element_size() * tokens


def common_length(prefixes: Sequence[Prefix]) -> int:
    """Number of tokens that all of them begin with, so that at least one of each is left."""
    first, last = min(prefixes), max(prefixes)
    limit = min(map(len, prefixes)) - 1
    return next((n for n in range(limit) if first[n] != last[n]), max(0, limit))
