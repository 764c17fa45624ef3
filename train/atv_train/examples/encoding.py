"""Rows encoded for training: tokens for the target, a query for the generator; batches of similar length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from atv_local.data import Row
from atv_local.errors import DataError
from atv_local.target import PromptFormat
from atv_train.examples.row_wordings import Wordings


@dataclass(frozen=True)
class Example:
    """One row in one wording, tokenised with the target's own vocabulary. `answer` ends with the end-of-turn token.

    `references` are further right answers, which are not trained on.
    """

    index: int
    query: str
    task: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    references: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Tokens of prompt and answer."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True)
class EncodedRows:
    """The examples of a list of rows: one list for each row, one example for each wording. Long rows are left out."""

    rows: list[list[Example]]
    too_long: list[str]

    @property
    def first(self) -> list[Example]:
        """Every row in its first wording."""
        return [wordings[0] for wordings in self.rows]

    @property
    def all(self) -> list[Example]:
        """Every row in every wording."""
        return [example for wordings in self.rows for example in wordings]


def encode(
    rows: Sequence[Row], prompts: PromptFormat, max_row_tokens: int, worded: Wordings | None = None
) -> EncodedRows:
    """Examples of all rows that have at most `max_row_tokens` tokens in every wording.

    Raises:
        DataError: no row is short enough, or a prompt has only one token.
    """
    worded, encoded, too_long = worded or Wordings(), [], []
    formats = lru_cache(maxsize=64)(lambda system, history: prompts.after(system=system, turns=history))
    for index, row in enumerate(rows):
        form = formats(row.system, row.history)
        wordings = []
        for query in worded.of_row(row):
            prompt, answer = form.example(query, row.output)
            wordings.append(Example(index, query, row.task, prompt, answer, row.references or ()))
        if any(len(example.prompt) < 2 for example in wordings):
            raise DataError(
                f"row {index + 1} ({row.input[:40]!r}) makes a prompt of one token; training needs two or more"
            )
        if (length := max(example.length for example in wordings)) > max_row_tokens:
            too_long.append(
                f"row {index + 1} ({row.input[:40]!r}...) has {length} tokens, more than the limit of {max_row_tokens}"
            )
        else:
            encoded.append(wordings)
    if rows and not encoded:
        raise DataError(f"no row is short enough; raise `max_row_tokens`: {too_long[0]}")
    return EncodedRows(encoded, too_long)


def epoch_batches(
    rows: Sequence[Sequence[Example]], size: int, seed: int, epoch: int, pool: int = 16
) -> list[list[Example]]:
    """Shuffled batches of one epoch, each row in a random wording; the same for the same arguments.

    Rows are sorted by length within every `pool` batches, so that a batch needs little padding.
    """
    rng = random.Random(f"{seed}/{epoch}")
    order = [rng.choice(wordings) for wordings in rows]
    rng.shuffle(order)
    batches: list[list[Example]] = []
    for start in range(0, len(order), pool * size):
        part = sorted(order[start : start + pool * size], key=lambda e: e.length)
        batches += [part[first : first + size] for first in range(0, len(part), size)]
    rng.shuffle(batches)
    return batches


def pad(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> Tensor:
    """int64 [batch, longest], padded on the right with `value`."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], device=device)


def padding_mask(lengths: Sequence[int], device: torch.device) -> Tensor:
    """bool [batch, longest]: true on tokens, false on the padding at the right."""
    return torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device)[:, None]
