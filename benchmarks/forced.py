"""Which answers would be right, without writing any: right answers and allowed ones are given to the target, and its
logits say whether greedy decoding writes them. In PyTorch, on a GPU if there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atv_train import Example
from atv_train.frozen_target import FrozenTarget
from atv_train.vector_sources import VectorSource

Logits = Callable[[Sequence[Example]], tuple[Tensor, Tensor]]
"""Of all answer tokens of some examples, and the tokens, as `FrozenTarget.answer_logits` gives them."""
_TOKENS = 16384
"""Of one batch, prompts included; an answer counts its whole prompt."""


@dataclass(frozen=True)
class Asked:
    """A row with the tokens of each allowed answer; `right` is the place of the right one among them."""

    example: Example
    options: tuple[tuple[int, ...], ...] = ()
    right: int = -1

    @property
    def examples(self) -> list[Example]:
        """One for the right answer, then one for each allowed one."""
        return [self.example, *(replace(self.example, answer=option) for option in self.options)]

    @property
    def size(self) -> int:
        """Tokens, at most."""
        longest = max(len(example.answer) for example in self.examples)
        return len(self.examples) * (len(self.example.prompt) + longest)


@dataclass(frozen=True)
class Outcome:
    """Whether the greedy answer is the right one, and the most likely of the allowed ones; None if there are none."""

    exact: bool
    choice: bool | None


@torch.no_grad()
def outcomes(rows: Sequence[Asked], logits: Logits) -> list[Outcome]:
    """What the target would answer to each row."""
    found: dict[int, Outcome] = {}
    for batch in _batches(rows):
        examples = [example for index in batch for example in rows[index].examples]
        scores, labels = logits(examples)
        sizes = [len(example.answer) for example in examples]
        hits = (scores.argmax(dim=-1) == labels).split(sizes)
        likely = scores.log_softmax(dim=-1).gather(1, labels[:, None]).flatten().split(sizes)
        exact = torch.stack([hit.all() for hit in hits]).tolist()
        sums = torch.stack([part.sum() for part in likely]).tolist()
        start = 0
        for index in batch:
            first, end = start + 1, start + 1 + len(rows[index].options)
            options = sums[first:end]
            choice = max(range(len(options)), key=options.__getitem__) == rows[index].right if options else None
            found[index], start = Outcome(exact[start], choice), end
    return [found[index] for index in range(len(rows))]


def steered(target: FrozenTarget, source: VectorSource) -> Logits:
    """Logits under the vectors of a source, which reads each query once."""
    source.eval()

    def logits(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        firsts = list({(example.query, example.prompt): example for example in examples}.values())
        places = {(example.query, example.prompt): index for index, example in enumerate(firsts)}
        vectors = source(firsts)[[places[example.query, example.prompt] for example in examples]]
        return target.answer_logits(examples, vectors)

    return logits


def unsteered(target: FrozenTarget) -> Logits:
    """Logits of the base model."""
    return lambda examples: target.answer_logits(examples, target.zeros(len(examples)))


def _batches(rows: Sequence[Asked]) -> Iterator[list[int]]:
    """Indices of rows of similar length."""
    batch: list[int] = []
    size = 0
    for index in sorted(range(len(rows)), key=lambda index: rows[index].size):
        if batch and size + rows[index].size > _TOKENS:
            yield batch
            batch, size = [], 0
        batch.append(index)
        size += rows[index].size
    if batch:
        yield batch
