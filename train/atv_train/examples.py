"""Rows as tokens of the target and of the generator, in batches of similar length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atv_local.errors import DataError
from atv_local.prompt import PromptFormat
from atv_local.vocabulary import Vocabulary
from atv_train.data import Row


@dataclass(frozen=True)
class Example:
    """One row, tokenised with the target's own vocabulary. `answer` ends with the end-of-turn token."""

    index: int
    query: str
    task: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]


def encode(rows: Sequence[Row], vocabulary: Vocabulary, max_tokens: int) -> list[Example]:
    """Examples of all rows.

    Raises:
        DataError: a row longer than `max_tokens`.
    """
    prompt_format = PromptFormat(vocabulary)
    examples = []
    for index, row in enumerate(rows):
        answer = prompt_format.answer(row.input, row.output)
        example = Example(index, row.input, row.task, prompt_format(row.input).tokens, answer)
        if len(example.prompt) < 2:
            raise DataError(
                f"row {index + 1} ({row.input[:40]!r}) is a prompt of one token; nothing would be before it"
            )
        if (length := len(example.prompt) + len(answer)) > max_tokens:
            raise DataError(
                f"row {index + 1} ({row.input[:40]!r}...) has {length} tokens, over the {max_tokens} allowed"
            )
        examples.append(example)
    return examples


def batches(examples: Sequence[Example], size: int, generator: random.Random) -> Iterator[list[Example]]:
    """Shuffled batches; rows of similar answer length share a batch, which keeps padding small."""
    order = list(examples)
    generator.shuffle(order)
    pools = [order[start : start + 16 * size] for start in range(0, len(order), 16 * size)]
    result = []
    for pool in pools:
        pool.sort(key=lambda example: len(example.answer))
        result += [pool[start : start + size] for start in range(0, len(pool), size)]
    generator.shuffle(result)
    yield from result


def pad(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> Tensor:
    """int64 [batch, longest], padded on the right with `value`."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], device=device)
