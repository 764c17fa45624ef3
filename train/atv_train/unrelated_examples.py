"""Queries outside any task, and what the base model answers: what steering should leave alone."""

from __future__ import annotations

import torch

from atv_local.data import held_out, read_unrelated_queries
from atv_local.errors import DataError
from atv_local.target import TargetFile, Vocabulary
from atv_train.examples import Example
from atv_train.frozen_target import FrozenTarget
from atv_train.job import Job

TASK = "unrelated"
_ANSWER_TOKENS, _BATCH = 16, 16


def encode_unrelated(job: Job, target: FrozenTarget, target_file: TargetFile) -> tuple[list[Example], list[Example]]:
    """(for training, for measuring): each query with the first tokens of the base model's own greedy answer.

    The last sixth of the lines is for measuring. Blank lines and repeats are passed over.

    Raises:
        DataError: the file cannot be read, is no UTF-8 text, or has fewer than 12 lines, or a line is too long.
    """
    queries = read_unrelated_queries(job.unrelated)
    prompts = [target_file.prompts(query).tokens for query in queries]
    if (longest := max(map(len, prompts))) + _ANSWER_TOKENS > job.max_tokens:
        raise DataError(f"an unrelated query has {longest} tokens, too many for a limit of {job.max_tokens}")
    answers = _answers(prompts, target, target_file.vocabulary)
    examples = [
        Example(index, query, TASK, prompt, answer)
        for index, (query, prompt, answer) in enumerate(zip(queries, prompts, answers, strict=True))
    ]
    held = held_out(examples)
    return examples[: -len(held)], held


@torch.no_grad()
def _answers(prompts: list[tuple[int, ...]], target: FrozenTarget, vocabulary: Vocabulary) -> list[tuple[int, ...]]:
    """The base model's greedy continuation of each prompt, `_ANSWER_TOKENS` long or up to an end of turn."""
    answers: list[tuple[int, ...]] = []
    for start in range(0, len(prompts), _BATCH):
        batch = prompts[start : start + _BATCH]
        width = max(map(len, batch))
        tokens = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in batch], device=target.device)
        lengths = torch.tensor([len(prompt) for prompt in batch], device=target.device)
        mask = (torch.arange(width, device=target.device) >= width - lengths[:, None]).long()
        generated = target.model.generate(  # type: ignore[operator]  # typed as a tensor or module
            tokens, attention_mask=mask, do_sample=False, max_new_tokens=_ANSWER_TOKENS, pad_token_id=0
        )[:, width:].tolist()
        for row in generated:
            end = next((place for place, token in enumerate(row) if vocabulary.ends(token)), len(row))
            answers.append(tuple(row[: end + 1]))
    return answers
