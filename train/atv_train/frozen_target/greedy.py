"""Greedy answers under task vectors, token by token, with keys and values cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from atv_train.examples import Example
from atv_train.frozen_target.attention import CachedPrefix
from atv_train.frozen_target.frozen_target import FrozenTarget


@torch.no_grad()
def greedy_answers(
    target: FrozenTarget,
    examples: Sequence[Example],
    vectors: Tensor,
    limits: Sequence[int],
    ends: Callable[[int], bool],
) -> list[list[int]]:
    """The most likely tokens of each answer, one after the other, as llama.cpp decodes at temperature 0.

    Args:
        examples: their prompts are answered, in one batch.
        vectors: [batch, *vector_shape].
        limits: most tokens of each answer, 1 or more.
        ends: whether a token ends an answer.

    Returns:
        Token ids, with the one that ends the answer if it came within the limit.
    """
    tails = torch.ones(len(examples), 1, dtype=torch.bool, device=target.device)
    prefix = CachedPrefix.stack(target.prompt_states(examples, vectors), tails)
    cache = DynamicCache()
    for index, (keys, values) in enumerate(prefix.states.unbind(0)):
        cache.update(keys, values, index)
    mask, tokens = prefix.mask, torch.tensor([example.prompt[-1] for example in examples], device=target.device)
    answers: list[list[int]] = [[] for _ in examples]
    going = set(range(len(examples)))
    for step in range(max(limits)):
        mask = torch.cat([mask, tails], dim=1)
        inputs = {"input_ids": tokens[:, None], "position_ids": (prefix.lengths + step)[:, None]}
        with target.steering_one_token(vectors, first=step == 0):
            logits = target.model(**inputs, attention_mask=mask.long(), past_key_values=cache, use_cache=True).logits
        tokens = logits[:, -1].float().argmax(dim=-1)
        for index, token in enumerate(tokens.tolist()):
            if index in going:
                answers[index].append(token)
                if ends(token) or len(answers[index]) == limits[index]:
                    going.remove(index)
        if not going:
            break
    return answers
