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
    begun = torch.ones(len(examples), 1, dtype=torch.bool, device=target.device)
    prefix = CachedPrefix.stack(target.prompt_states(examples, vectors), begun)
    cache = DynamicCache()
    for index, (keys, values) in enumerate(prefix.states.unbind(0)):
        cache.update(keys, values, index)
    mask, places = prefix.mask, prefix.lengths
    tokens = torch.tensor([example.prompt[-1] for example in examples], device=target.device)
    answers: list[list[int]] = [[] for _ in examples]
    going = list(range(len(examples)))
    while going:
        mask = torch.cat([mask, begun[: len(going)]], dim=1)
        inputs = {"input_ids": tokens[:, None], "position_ids": places[:, None], "attention_mask": mask.long()}
        with target.steering_one_token(vectors, first=not answers[going[0]]):
            logits = target.model(**inputs, past_key_values=cache, use_cache=True).logits[:, -1]
        tokens, places = logits.float().argmax(dim=-1), places + 1
        for index, token in zip(going, tokens.tolist(), strict=True):
            answers[index].append(token)
        left = [n for n, i in enumerate(going) if len(answers[i]) < limits[i] and not ends(answers[i][-1])]
        if len(left) < len(going):  # an answer that has ended costs as much as any other
            going = [going[n] for n in left]
            rows = torch.tensor(left, dtype=torch.long, device=target.device)
            cache.batch_select_indices(rows)
            mask, places, tokens, vectors = mask[rows], places[rows], tokens[rows], vectors[rows]
    return answers
