"""Which answers would be right, without writing any: right answers and allowed ones are given to the target, and its
logits say whether greedy decoding writes them. In PyTorch, on a GPU if there is one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from atv_train import Example
from atv_train.frozen_target import FrozenTarget
from atv_train.vector_sources import VectorSource

Logits = Callable[[Sequence[Example]], tuple[Tensor, Tensor]]
"""Of all answer tokens of some examples, and the tokens, as `FrozenTarget.answer_logits` gives them."""
_TOKENS, _ANSWER_TOKENS = 65536 if torch.cuda.is_available() else 16384, 4096
"""Of one batch, prompts included, where an answer counts its whole prompt; and those whose logits are computed."""


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
    def size(self) -> tuple[int, int]:
        """Tokens, at most, and those of answers."""
        longest = max(len(example.answer) for example in self.examples)
        n_answers = sum(len(example.answer) for example in self.examples)
        return len(self.examples) * (len(self.example.prompt) + longest), n_answers


@dataclass(frozen=True)
class Outcome:
    """Whether the greedy answer is the right one.

    Args:
        exact: to its end.
        first: in its first token, the paper's measure.
        choice: whether the right answer is the most likely of the allowed ones; None if there are none.
        likelihood: of the right answer, the geometric mean of its tokens.
    """

    exact: bool
    first: bool
    choice: bool | None
    likelihood: float


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
        begun = torch.stack([hit[0] for hit in hits]).tolist()
        sums = torch.stack([part.sum() for part in likely]).tolist()
        start = 0
        for index in batch:
            first, end = start + 1, start + 1 + len(rows[index].options)
            options = sums[first:end]
            choice = max(range(len(options)), key=options.__getitem__) == rows[index].right if options else None
            likelihood = math.exp(sums[start] / sizes[start])
            found[index], start = Outcome(exact[start], begun[start], choice, likelihood), end
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


def loss_of(found: Sequence[Outcome]) -> float:
    """Of the right answers, per token: the mean of the rows' means."""
    return sum(-math.log(max(row.likelihood, 1e-30)) for row in found) / len(found)


def _batches(rows: Sequence[Asked]) -> Iterator[list[int]]:
    """Indices of rows of similar length."""
    batch: list[int] = []
    size = n_answers = 0
    for index in sorted(range(len(rows)), key=lambda index: rows[index].size):
        more, more_answers = rows[index].size
        if batch and (size + more > _TOKENS or n_answers + more_answers > _ANSWER_TOKENS):
            yield batch
            batch, size, n_answers = [], 0, 0
        batch.append(index)
        size, n_answers = size + more, n_answers + more_answers
    if batch:
        yield batch
