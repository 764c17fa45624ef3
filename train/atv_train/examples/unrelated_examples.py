"""Unrelated queries with the base model's answers, which steering should not change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from atv_local.data import held_out
from atv_local.errors import DataError
from atv_local.target import TargetFile, Vocabulary
from atv_train.examples.encoding import Example

UNRELATED = "unrelated"
"""The task of examples that belong to none."""
_ANSWER_TOKENS, _BATCH = 16, 16


def encode_unrelated(
    queries: Sequence[str], model: PreTrainedModel, target_file: TargetFile, max_row_tokens: int
) -> tuple[list[Example], list[Example]]:
    """(for training, for validation): each query with the first tokens of the base model's greedy answer.

    The last sixth of the queries is for validation.

    Args:
        model: the target in PyTorch.

    Raises:
        DataError: a query is too long.
    """
    prompts = [target_file.prompts(query).tokens for query in queries]
    if (longest := max(map(len, prompts))) + _ANSWER_TOKENS > max_row_tokens:
        raise DataError(f"an unrelated query has {longest} tokens, too many for `max_row_tokens` {max_row_tokens}")
    answers = _answers(prompts, model, target_file.vocabulary)
    examples = [
        Example(index, query, UNRELATED, prompt, answer)
        for index, (query, prompt, answer) in enumerate(zip(queries, prompts, answers, strict=True))
    ]
    held = held_out(examples)
    return examples[: -len(held)], held


@torch.no_grad()
def _answers(prompts: list[tuple[int, ...]], model: PreTrainedModel, vocabulary: Vocabulary) -> list[tuple[int, ...]]:
    """The base model's greedy continuation of each prompt, `_ANSWER_TOKENS` long or up to an end of turn."""
    answers: list[tuple[int, ...]] = []
    for start in range(0, len(prompts), _BATCH):
        batch = prompts[start : start + _BATCH]
        width = max(map(len, batch))
        tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in batch], device=model.device)
        lengths = torch.tensor([len(prompt) for prompt in batch], device=model.device)
        mask = (torch.arange(width, device=model.device) >= width - lengths[:, None]).long()
        generated = model.generate(  # type: ignore[operator]  # typed as a tensor or module
            tokens, attention_mask=mask, do_sample=False, max_new_tokens=_ANSWER_TOKENS, pad_token_id=0
        )[:, width:].tolist()
        for row in generated:
            end = next((place for place, token in enumerate(row) if vocabulary.ends(token)), len(row))
            answers.append(tuple(row[: end + 1]))
    return answers
