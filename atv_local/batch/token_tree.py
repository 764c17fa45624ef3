"""Trees of token runs to evaluate, and what came of them. Knows nothing of contexts or of when a run has its turn.

A *tree* begins with a run that many trees share and branches from there: the same prompt with and without a vector,
several continuations of one prompt. Every run is evaluated once, whatever hangs below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atv_local.errors import AtvError
from atv_local.target import Sampler, logprobs
from atv_local.vectors import TaskVector


@dataclass(eq=False)
class Branch:
    """A run of tokens after its parent's, all under one vector, and what is wanted of it.

    Its tokens may be `scored`, given what comes before them; up to `max_tokens` may be written after them, under the
    vector `after`; and `children` may begin where its tokens end.
    """

    tokens: Sequence[int]
    vector: TaskVector | None = None
    children: Sequence[Branch] = ()
    from_start: bool = False
    """Begin the sequence, and not after the tree's shared tokens."""
    scored: bool = False
    keep: bool = False
    """Scored: keep the whole distributions as well."""
    max_tokens: int = 0
    after: TaskVector | None = None
    sampler: Sampler | None = None
    """Greedy if there is none."""
    enough: Callable[[Sequence[int]], bool] | None = None
    """Whether, given the tokens written so far, no more is wanted."""

    logprobs: list[float] = field(default_factory=list)
    """Result: log-probability of each scored token, in nats."""
    greedy: list[bool] = field(default_factory=list)
    """Result: whether each scored token was the most likely one."""
    distributions: list[NDArray[np.float32]] = field(default_factory=list)
    """Result: log-probabilities [n_vocab] before each scored token, if kept."""
    written: list[int] = field(default_factory=list)
    """Result: the tokens written, without the one that ended them."""
    ended: bool = False
    """Result: whether such a token came, or it was enough."""

    def walk(self) -> Iterator[Branch]:
        """This branch and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def wants(self, place: int) -> bool:
        """Whether the logits after the token at `place` say something that is wanted."""
        if place + 1 < len(self.tokens):
            return self.scored
        return self.max_tokens > 0 or any(child.scored for child in self.children)

    @property
    def writes(self) -> bool:
        """Whether there is more to write."""
        return not self.ended and len(self.written) < self.max_tokens

    def score(self, token: int, logits: NDArray[np.float32]) -> None:
        """Take down what the logits before one of its tokens say of it."""
        distribution = logprobs(logits)
        self.logprobs.append(float(distribution[token]))
        self.greedy.append(bool(distribution[token] == distribution.max()))
        if self.keep:
            self.distributions.append(distribution)

    def forget(self) -> None:
        """Drop all results."""
        self.logprobs, self.greedy, self.distributions, self.written, self.ended = [], [], [], [], False
        if self.sampler:
            self.sampler.reset()


@dataclass(eq=False)
class Tree:
    """Branches after `shared` unsteered tokens, which other trees may begin with too.

    A branch that is scored hangs below another one, whose last token predicts its first.
    """

    shared: tuple[int, ...]
    branches: Sequence[Branch]
    tag: Any = None
    """The caller's."""
    error: AtvError | None = None
    """Why it has no results, or cannot have any."""
    n_evaluated: int = 0
    """Result: tokens evaluated for this tree, the shared ones not counted."""

    def walk(self) -> Iterator[Branch]:
        """All branches."""
        for branch in self.branches:
            yield from branch.walk()

    @property
    def n_cells(self) -> int:
        """Cells of KV its own tokens can take."""
        return sum(len(branch.tokens) + branch.max_tokens for branch in self.walk())

    @property
    def n_leaves(self) -> int:
        """Sequences it takes."""
        return sum(not branch.children or branch.max_tokens > 0 for branch in self.walk())
