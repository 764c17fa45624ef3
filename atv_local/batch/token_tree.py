"""Trees of token runs to evaluate, and their results.

A tree begins with a run of tokens that other trees may begin with too, and branches from there: the same prompt with
and without a vector, several continuations of one prompt. Every run is evaluated once, however many branches follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from atv_local.errors import AtvError
from atv_local.target import logprobs
from atv_local.vectors import TaskVector

if TYPE_CHECKING:
    from atv_local.target import Sampler


@dataclass(eq=False)
class Branch:
    """A run of tokens after its parent's, all under one vector, and what is wanted of it.

    Its tokens may be `scored`, up to `max_tokens` may be written after them, and `children` may begin where they end.
    """

    tokens: Sequence[int]
    vector: TaskVector | None = None
    children: Sequence[Branch] = ()
    from_start: bool = False
    """Begin the sequence, instead of following the tree's shared tokens."""
    scored: bool = False
    """Score the tokens, given those before them."""
    keep: bool = False
    """Keep the whole distributions of what is scored."""
    max_tokens: int = 0
    """Tokens to write after those of the branch."""
    after: TaskVector | None = None
    """The vector of the tokens that are written."""
    sampler: Sampler | None = None
    """Draws the tokens that are written; greedy without one."""
    enough: Callable[[Sequence[int]], bool] | None = None
    """Takes the tokens written so far; True ends the writing."""

    logprobs: list[float] = field(default_factory=list)
    """Result: log-probability of each scored token, in nats."""
    greedy: list[bool] = field(default_factory=list)
    """Result: whether each scored token was the most likely one."""
    distributions: list[NDArray[np.float32]] = field(default_factory=list)
    """Result, with `keep`: log-probabilities [n_vocab] before each scored token."""
    written: list[int] = field(default_factory=list)
    """Result: the tokens written, without the one that ended them."""
    ended: bool = False
    """Result: whether the writing ended before `max_tokens`."""

    def walk(self) -> Iterator[Branch]:
        """This branch and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def wants_logits(self, place: int) -> bool:
        """Whether the logits after the token at `place` are used."""
        if place + 1 < len(self.tokens):
            return self.scored
        return self.max_tokens > 0 or any(child.scored for child in self.children)

    @property
    def writes(self) -> bool:
        """Whether there is more to write."""
        return not self.ended and len(self.written) < self.max_tokens

    def score(self, token: int, logits: NDArray[np.float32]) -> None:
        """Score one of its tokens by the logits before it."""
        distribution = logprobs(logits)
        self.logprobs.append(float(distribution[token]))
        self.greedy.append(bool(distribution[token] == distribution.max()))
        if self.keep:
            self.distributions.append(distribution)

    def write(self, token: int, ends: bool) -> None:
        """Take the next token of the answer, which `ends` it or belongs to it."""
        self.ended = ends
        if not ends:
            self.written.append(token)
            self.ended = self.enough is not None and self.enough(self.written)

    def clear_results(self) -> None:
        """Drop all results, to be evaluated again."""
        self.logprobs, self.greedy, self.distributions, self.written, self.ended = [], [], [], [], False
        if self.sampler:
            self.sampler.reset()


@dataclass(eq=False)
class Tree:
    """Branches after `shared` unsteered tokens, which other trees may begin with too.

    A branch that is scored has a parent, whose last token predicts its first.
    """

    shared: tuple[int, ...]
    branches: Sequence[Branch]
    tag: Any = None
    """Whatever the caller wants to find again."""
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
        """Cells of KV that its own tokens can take."""
        return sum(len(branch.tokens) + branch.max_tokens for branch in self.walk())

    @property
    def n_leaves(self) -> int:
        """Sequences it takes."""
        return sum(not branch.children or branch.max_tokens > 0 for branch in self.walk())
