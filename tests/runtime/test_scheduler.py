"""The scheduler over a context that computes exact logits from what a sequence holds; no model, no llama.cpp."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from atv_local.batch.scheduler import Scheduler
from atv_local.batch.token_tree import Branch, Tree
from atv_local.errors import ModelError, PromptError, UsageError
from atv_local.sequences import Reader, Token
from atv_local.target.logits import logprobs
from atv_local.vectors import TaskVector

N_VOCAB, END, BAD = 16, 0, 15
VECTORS = [None, TaskVector([[1.0]]), TaskVector([[2.0]])]
Cell = tuple[int, float]
"""A token and the value of the vector it was evaluated under, 0 for none."""


def value(vector: TaskVector | None) -> float:
    return 0.0 if vector is None else float(vector.array[0, 0])


def logits_after(cells: Sequence[Cell]) -> NDArray[np.float32]:
    """A model: its logits depend on all tokens before and on the vector of each. It never writes the bad token."""
    digest = hashlib.blake2b(repr(list(cells)).encode(), digest_size=4 * N_VOCAB).digest()
    logits = (np.frombuffer(digest, np.uint32) / np.float32(2**29)).astype(np.float32)
    logits[BAD] = -20
    return logits


class Context:
    """Checks what llama.cpp would get wrong in silence: positions, free cells, and what is shared with what."""

    def __init__(self, n_sequences: int = 8, n_ctx: int = 64, max_batch: int = 5) -> None:
        self.n_sequences, self.n_ctx, self.max_batch = n_sequences, n_ctx, max_batch
        self.cells: list[list[tuple[int, Cell]]] = [[] for _ in range(n_sequences)]
        self.rows: list[NDArray[np.float32]] = []
        self.n_evaluated = self.n_decodes = 0

    def decode(self, tokens: Sequence[Token], read: Reader) -> None:
        assert 0 < len(tokens) <= self.max_batch
        self.n_decodes += 1
        if any(token.token == BAD for token in tokens):
            self.reset()
            raise ModelError("a bad token")
        self.rows = []
        for token in tokens:
            held = self.cells[token.sequence]
            assert token.position == len(held)
            self.n_evaluated += 1
            held.append((self.n_evaluated, (token.token, value(token.vector))))
            self.rows.append(logits_after([cell for _, cell in held]))
        assert len({number for held in self.cells for number, _ in held}) <= self.n_ctx
        for index, token in enumerate(tokens):
            if token.output:
                read(index, index)

    def logits(self, row: int) -> NDArray[np.float32]:
        return self.rows[row]

    def share(self, source: int, destination: int) -> None:
        assert self.cells[source]
        assert not self.cells[destination]
        self.cells[destination] = list(self.cells[source])

    def drop(self, sequence: int) -> None:
        self.cells[sequence] = []

    def reset(self) -> None:
        self.cells = [[] for _ in range(self.n_sequences)]


class RankSampler:
    """Takes the likeliest token, then the second, and so on: another one whenever it is not reset."""

    def __init__(self) -> None:
        self.n_drawn = 0

    def pick(self, logits: NDArray[np.float32]) -> int:
        self.n_drawn += 1
        return int(np.argsort(-logits)[self.n_drawn % BAD])

    def reset(self) -> None:
        self.n_drawn = 0


def expected(branch: Branch, before: Sequence[Cell]) -> tuple[list[Any], int]:
    """The results of a branch and of all below it, computed one token after the other, and the tokens evaluated."""
    cells, scores = list(before), []
    for token in branch.tokens:
        if branch.scored:
            scores.append(float(logprobs(logits_after(cells))[token]))
        cells.append((token, value(branch.vector)))
    n_evaluated = len(branch.tokens) - (branch.scored and not branch.children and not branch.max_tokens)
    results: list[Any] = [scores]
    for child in branch.children:
        below, n = expected(child, cells)
        results.append(below)
        n_evaluated += n
    written: list[int] = []
    sampler = RankSampler() if branch.sampler else None
    while len(written) < branch.max_tokens:
        logits = logits_after(cells)
        token = sampler.pick(logits) if sampler else int(logits.argmax())
        if token == END:
            break
        written.append(token)
        if len(written) < branch.max_tokens:
            cells.append((token, value(branch.after)))
            n_evaluated += 1
    return [*results, written], n_evaluated


def results_of(branch: Branch) -> list[Any]:
    return [list(branch.logprobs), *map(results_of, branch.children), list(branch.written)]


def check(tree: Tree) -> None:
    """A tree has the results that it has alone."""
    assert tree.error is None
    n_evaluated = 0
    for branch in tree.branches:
        results, n = expected(branch, [] if branch.from_start else [(token, 0.0) for token in tree.shared])
        assert results_of(branch) == results
        n_evaluated += n
    assert tree.n_evaluated == n_evaluated


TOKENS = st.lists(st.integers(1, BAD - 1), min_size=1, max_size=7)
SHARED = st.sampled_from([(), (3,), (3, 4, 5), (7, 8, 9, 10, 11, 12, 13)])


@st.composite
def branches(draw: st.DrawFn, depth: int = 0) -> Branch:
    children = draw(st.lists(branches(depth + 1), max_size=3)) if depth < 2 else []
    scored = depth > 0 and draw(st.booleans())
    return Branch(
        draw(TOKENS),
        draw(st.sampled_from(VECTORS)),
        children,
        from_start=depth == 0 and draw(st.booleans()),
        scored=scored,
        max_tokens=draw(st.sampled_from([0, 0, 1, 4])),
        after=draw(st.sampled_from(VECTORS)),
        sampler=draw(st.sampled_from([None, RankSampler()])),  # type: ignore[arg-type]  # stands in for llama.cpp's
    )


TREES = st.lists(st.builds(Tree, SHARED, st.lists(branches(), min_size=1, max_size=3)), max_size=8)


def scheduler(context: Context) -> Scheduler:
    return Scheduler(context, lambda token: token == END)


@given(TREES, st.integers(2, 20), st.integers(10, 200), st.integers(1, 9))
def test_every_tree_has_the_results_that_it_has_alone(
    trees: list[Tree], n_sequences: int, n_ctx: int, max_batch: int
) -> None:
    for number, tree in enumerate(trees):
        tree.tag = number
    context = Context(n_sequences, n_ctx, max_batch)
    run = scheduler(context)
    finished = list(run.run(iter(trees)))
    assert [tree.tag for tree in finished] == list(range(len(trees)))
    for tree in finished:
        if run.fits(tree):
            check(tree)
        else:
            assert isinstance(tree.error, PromptError)


@given(TREES, st.data())
def test_a_failure_is_only_that_of_its_own_tree(trees: list[Tree], data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(0, len(trees) - 1))) if trees else set()
    for number in bad:
        where = data.draw(st.sampled_from(list(trees[number].walk())))
        where.tokens = [*where.tokens, BAD, 1]
    run = scheduler(Context(n_sequences=20, n_ctx=400))
    for number, tree in enumerate(run.run(iter(trees))):
        if not run.fits(tree):
            assert isinstance(tree.error, PromptError)
        elif number in bad:
            assert isinstance(tree.error, ModelError)
        else:
            check(tree)


def test_a_failing_beginning_fails_the_trees_that_share_it() -> None:
    trees = [Tree((3, BAD), [Branch([1], max_tokens=2)]), Tree((3, 4), [Branch([1], max_tokens=2)])]
    bad, good = scheduler(Context()).run(trees)
    assert isinstance(bad.error, ModelError)
    check(good)


def test_what_trees_share_is_evaluated_once_and_they_run_together() -> None:
    context = Context(n_sequences=10, n_ctx=100, max_batch=50)
    shared = tuple(range(1, 11))
    trees = [Tree(shared, [Branch([number], max_tokens=3)]) for number in range(1, 9)]
    for tree in scheduler(context).run(trees):
        check(tree)
    assert context.n_evaluated == len(shared) + sum(tree.n_evaluated for tree in trees)
    assert context.n_decodes == 1 + 3  # the beginning, then one token of all trees at a time


def test_a_shared_beginning_stays_when_the_context_is_full() -> None:
    context = Context(n_sequences=4, n_ctx=24)
    shared = tuple(range(1, 11))
    trees = [Tree(shared, [Branch([number, 2], max_tokens=4)]) for number in range(1, 13)]
    for tree in scheduler(context).run(trees):
        check(tree)
    assert context.n_evaluated == len(shared) + sum(tree.n_evaluated for tree in trees)


def test_many_options_cost_one_prompt() -> None:
    context = Context(n_sequences=30, n_ctx=200, max_batch=50)
    options = [Branch([number, 5], scored=True, keep=True) for number in range(1, 13)]
    (tree,) = scheduler(context).run([Tree((), [Branch(list(range(1, 11)), children=options)])])
    check(tree)
    assert context.n_evaluated == 10 + len(options)  # the last token of an option predicts nothing
    assert all(len(option.distributions) == 2 for option in options)
    assert sum(np.exp(option.distributions[0]).sum() for option in options) == pytest.approx(len(options), rel=1e-5)


def test_writing_ends_when_it_is_enough() -> None:
    branch = Branch([1], max_tokens=9, enough=lambda written: len(written) == 2)
    (tree,) = scheduler(Context()).run([Tree((), [branch])])
    assert tree.error is None
    assert branch.ended
    assert len(branch.written) == 2 or logits_after([(1, 0.0), *((t, 0.0) for t in branch.written)]).argmax() == END


def test_trees_are_drawn_as_there_is_room() -> None:
    drawn = 0

    def endless() -> Iterator[Tree]:
        nonlocal drawn
        while True:
            drawn += 1
            yield Tree((), [Branch([1], max_tokens=2)])

    context = Context(n_sequences=3)
    run = scheduler(context)
    finished = run.run(endless())
    for _ in range(4):
        check(next(finished))
    assert drawn < 4 + 4 * context.n_sequences
    with pytest.raises(UsageError, match="close"):
        next(run.run([]))
    finished.close()
    assert not any(context.cells)
    assert list(run.run([])) == []


def test_a_tree_with_an_error_comes_back_in_its_turn() -> None:
    error = UsageError("no query")
    trees = [Tree((), [Branch([1], max_tokens=1)]), Tree((), [], error=error), Tree((), [Branch([2], max_tokens=1)])]
    first, second, third = scheduler(Context()).run(trees)
    assert second.error is error
    check(first)
    check(third)


def test_the_scheduler_needs_no_llama_cpp() -> None:
    code = "import sys, atv_local.batch.scheduler; sys.exit('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
