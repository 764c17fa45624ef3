"""Evaluates many trees of token runs in one context, each run once. It needs no llama.cpp: the context is a protocol.

What this buys: a beginning that many prompts share is evaluated once, and so is a prompt whose many options are scored
or that is answered in several ways. For plain answers to different queries the gain is small: steered answers came at
1.24 times the rate of one by one (docs/explanation/results.md).

Attention adds up a sequence's cells of KV in the order in which they are stored, so sums would depend on where a token
found a free cell. Cells are therefore taken one after the other and freed together, when nothing runs: a result does
not depend on what else is evaluated.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from atv_local.batch.token_tree import Branch, Tree
from atv_local.errors import ModelError, PromptError
from atv_local.sequences import Token, TokenContext
from atv_local.target import Turns


@dataclass(eq=False)
class _Run:
    """A branch being evaluated."""

    branch: Branch
    job: _Job
    sequence: int
    position: int
    done: int = 0
    """Tokens evaluated so far, those of the branch and then those it writes."""
    next: int = -1
    """The token written last, to be evaluated next."""

    @property
    def length(self) -> int:
        """Tokens of the branch to evaluate: not the last one of a scored leaf, whose logits are not used."""
        branch = self.branch
        return len(branch.tokens) - (branch.scored and not branch.children and not branch.max_tokens)


@dataclass(eq=False)
class _Job:
    """A tree to evaluate."""

    tree: Tree
    alone: bool = False
    """Run it alone, after a failure while it ran with others."""
    sequences: tuple[int, ...] = ()
    free: list[int] = field(default_factory=list)
    running: int = 0
    """Branches being evaluated."""

    @property
    def finished(self) -> bool:
        return self.tree.error is not None or (bool(self.sequences) and not self.running)


class Scheduler:
    """Evaluates trees in one context, as many at once as fit, and returns them in the order they came.

    Args:
        context: used by nothing else.
        ends: whether a token ends an answer.
    """

    def __init__(self, context: TokenContext, ends: Callable[[int], bool]) -> None:
        self._context, self._ends = context, ends
        self._prefixes: dict[tuple[int, ...], int] = {}
        """The sequence of each shared run that is evaluated."""
        self._turns = Turns("this batch")
        self._clear()

    def fits(self, tree: Tree) -> bool:
        """Whether the context has room for a tree when nothing else is in it."""
        shared = len(tree.shared)
        fits = tree.n_cells + shared <= self._context.n_ctx
        return fits and tree.n_leaves + bool(shared) <= self._context.n_sequences

    def run(self, trees: Iterable[Tree]) -> Iterator[Tree]:
        """Evaluate trees.

        Args:
            trees: drawn as there is room for them, a few ahead of the first.

        Yields:
            Each tree with its results, in order. One that does not fit the context, or cannot be evaluated, has
            `error` set; the others are evaluated all the same.

        Raises:
            UsageError: another run that this thread has begun is not finished; those of other threads are waited for.
        """
        turn = self._turns.begin()
        source = iter(trees)
        order: deque[_Job] = deque()
        waiting: deque[_Job] = deque()
        more = True
        try:
            while more or order:
                if more and not waiting and len(order) < 4 * self._context.n_sequences:
                    tree = next(source, None)
                    more = tree is not None
                    if tree is not None:
                        waiting.append(_Job(tree))
                        order.append(waiting[-1])
                try:
                    if waiting and self._admit(waiting[0]):
                        waiting.popleft()
                    elif self._runs:
                        waiting.extendleft(reversed(self._step()))
                except ModelError as error:  # of a shared run
                    waiting.popleft().tree.error = error
                    waiting.extendleft(reversed(self._restart()))
                while order and order[0].finished:
                    turn.pause()
                    yield order.popleft().tree
                    turn.resume()
        finally:
            try:
                self._clear()
            finally:
                self._turns.end()

    def _clear(self, keep: tuple[int, ...] = ()) -> None:
        """Free all cells, except those of a shared run that is stored before all others."""
        sequence = self._prefixes.get(keep) if keep and keep == next(iter(self._prefixes), ()) else None
        self._runs: list[_Run] = []
        self._free = [free for free in range(self._context.n_sequences) if free != sequence]
        self._prefixes = {} if sequence is None else {keep: sequence}
        self._cells = 0 if sequence is None else len(keep)
        self._alone = False
        if sequence is None:
            self._context.reset()
        else:
            for free in self._free:
                self._context.drop(free)

    def _admit(self, job: _Job) -> bool:
        """Begin a tree if there is room for it now; one for which there never is gets an error."""
        tree = job.tree
        if tree.error is not None:
            return True
        own, shared, leaves = tree.n_cells, len(tree.shared), tree.n_leaves
        n_ctx, n_sequences = self._context.n_ctx, self._context.n_sequences
        if not self.fits(tree):
            tree.error = PromptError(
                f"{own + shared} tokens in {leaves} branches do not fit a context of {n_ctx} tokens and "
                f"{n_sequences} sequences; shorten the prompt or raise them"
            )
            return True
        if self._alone or (self._runs and job.alone):
            return False
        new = shared > 0 and tree.shared not in self._prefixes
        cells = own + (shared if new else 0)
        if self._cells + cells > n_ctx or len(self._free) < leaves + new:
            if self._runs:
                return False
            self._clear(keep=tree.shared)
        prefix = self._prefix(tree.shared) if shared else None
        self._alone = job.alone
        job.sequences = tuple(self._free.pop() for _ in range(leaves))
        job.free = list(job.sequences)
        self._cells += own
        tree.n_evaluated = 0
        for branch in tree.walk():
            branch.clear_results()
        for branch in tree.branches:
            sequence = job.free.pop()
            if prefix is not None and not branch.from_start:
                self._context.share(prefix, sequence)
            self._start(_Run(branch, job, sequence, 0 if branch.from_start else shared))
        return True

    def _prefix(self, tokens: tuple[int, ...]) -> int:
        """The sequence that holds a shared run."""
        if tokens not in self._prefixes:
            sequence = self._prefixes[tokens] = self._free.pop()
            self._cells += len(tokens)
            for start in range(0, len(tokens), self._context.max_batch):
                chunk = tokens[start : start + self._context.max_batch]
                self._context.decode([Token(t, start + i, sequence) for i, t in enumerate(chunk)], _unread)
        return self._prefixes[tokens]

    def _start(self, run: _Run) -> None:
        run.job.running += 1
        self._runs.append(run)
        if not run.length:  # one scored token, which its parent's last logits have scored
            self._end(run)

    def _fork(self, run: _Run) -> None:
        """All tokens of a branch are evaluated: its children begin here, the last in its sequence if it writes none."""
        for index, child in enumerate(run.branch.children, start=1):
            sequence = run.sequence
            if run.branch.max_tokens or index < len(run.branch.children):
                sequence = run.job.free.pop()
                self._context.share(run.sequence, sequence)
            self._start(_Run(child, run.job, sequence, run.position))

    def _end(self, run: _Run) -> None:
        self._runs.remove(run)
        run.job.running -= 1
        if not run.job.running:
            self._alone = False

    def _step(self) -> list[_Job]:
        """Evaluate one batch.

        Returns:
            After a failure all jobs that were running, to be evaluated again one by one.
        """
        tokens: list[Token] = []
        places: list[tuple[_Run, int]] = []
        for run in sorted(self._runs, key=lambda run: run.done < run.length):  # first those that write
            branch = run.branch
            for place in range(run.done, max(run.length, run.done + 1)):
                reads = place < run.length
                if len(tokens) == self._context.max_batch:
                    break
                token, vector = (branch.tokens[place], branch.vector) if reads else (run.next, branch.after)
                output = branch.wants_logits(place) if reads else True
                tokens.append(Token(token, run.position + place - run.done, run.sequence, vector, output))
                places.append((run, place))
        try:
            self._context.decode(tokens, lambda index, row: self._read(*places[index], row))
        except ModelError as error:
            return self._retry(error)
        for run, count in Counter(run for run, _ in places).items():
            reading = run.done < run.length
            run.done += count
            run.position += count
            run.job.tree.n_evaluated += count
            if run.done < run.length:
                continue
            if reading:
                self._fork(run)
            if not run.branch.writes:
                self._end(run)
        return []

    def _retry(self, error: ModelError) -> list[_Job]:
        """The jobs that were running, each to be evaluated alone; one that was alone already has failed."""
        running = self._restart()
        if len(running) == 1:
            running.pop().tree.error = error
        return running

    def _restart(self) -> list[_Job]:
        """Stop all jobs that are running, to be evaluated again one by one."""
        running = list(dict.fromkeys(run.job for run in self._runs))
        self._clear()
        for job in running:
            job.sequences, job.running, job.alone = (), 0, True
        return running

    def _read(self, run: _Run, place: int, row: int) -> None:
        """Use the logits after one token: they predict the next one of this branch or the first of its children."""
        branch = run.branch
        logits = self._context.logits(row)
        if branch.scored and place + 1 < len(branch.tokens):
            branch.score(branch.tokens[place + 1], logits)
        if place + 1 < run.length:
            return
        for child in branch.children:
            if child.scored and place + 1 == run.length:
                child.score(child.tokens[0], logits)
        if branch.max_tokens:
            run.next = branch.sampler.pick(logits) if branch.sampler else int(logits.argmax())
            branch.write(run.next, self._ends(run.next))


def _unread(_index: int, _row: int) -> None:
    raise AssertionError("no token of a shared run asks for logits")
