"""Trees of token runs, many at a time: what one needs while another waits. Knows nothing of queries or text.

Attention adds up a sequence's cells of KV in the order in which they lie, so that sums would differ by where a token
found a free cell. Cells are therefore taken one after the other and freed together, when nothing runs: a result does
not depend on what was evaluated beside it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from atv_local.batch.sequence_context import MAX_BATCH, SequenceContext, Token
from atv_local.batch.token_tree import Branch, Tree
from atv_local.errors import ModelError, PromptError, UsageError


@dataclass(eq=False)
class _Run:
    """A branch being evaluated."""

    branch: Branch
    tree: _Admitted
    sequence: int
    position: int
    done: int = 0
    """Tokens of the branch that are evaluated; beyond its last one it writes."""
    next: int = -1

    @property
    def length(self) -> int:
        """Tokens of the branch to evaluate: the last one of a scored leaf predicts nothing that is wanted."""
        branch = self.branch
        return len(branch.tokens) - (branch.scored and not branch.children and not branch.max_tokens)


@dataclass(eq=False)
class _Admitted:
    tree: Tree
    alone: bool = False
    sequences: tuple[int, ...] = ()
    free: list[int] = field(default_factory=list)
    running: int = 0

    @property
    def finished(self) -> bool:
        return self.tree.error is not None or (bool(self.sequences) and not self.running)


class Scheduler:
    """Evaluates trees in one context, as many at once as fit it, and gives them back in the order they came.

    Args:
        sequences: nothing else may use it.
        ends: whether a token ends an answer.
    """

    def __init__(self, sequences: SequenceContext, ends: Callable[[int], bool]) -> None:
        self._sequences, self._ends = sequences, ends
        self._prefixes: dict[tuple[int, ...], int] = {}
        self._open = False
        self._clear()

    def holds(self, tree: Tree) -> bool:
        """Whether there is room for a tree when nothing else is there."""
        shared = len(tree.shared)
        fits = tree.n_cells + shared <= self._sequences.n_ctx
        return fits and tree.n_leaves + bool(shared) <= self._sequences.n_sequences

    def run(self, trees: Iterable[Tree]) -> Iterator[Tree]:
        """Each tree with its results, in order. Trees are drawn as there is room for them, a few ahead of the first.

        A tree that does not fit the context, or whose evaluation fails, comes with `error` set; others do not suffer.
        """
        if self._open:
            raise UsageError("another run of this scheduler has not ended; read or close that one first")
        self._open = True
        source = iter(trees)
        order: deque[_Admitted] = deque()
        waiting: deque[_Admitted] = deque()
        drawn = True
        try:
            while drawn or order:
                if drawn and not waiting and len(order) < 4 * self._sequences.n_sequences:
                    tree = next(source, None)
                    drawn = tree is not None
                    if tree is not None:
                        waiting.append(_Admitted(tree))
                        order.append(waiting[-1])
                try:
                    if waiting and self._admit(waiting[0]):
                        waiting.popleft()
                    elif self._runs:
                        waiting.extendleft(reversed(self._step()))
                except ModelError as error:  # of a shared run
                    waiting.popleft().tree.error = error
                    waiting.extendleft(reversed(self._again()))
                while order and order[0].finished:
                    yield order.popleft().tree
        finally:
            self._open = False
            self._clear()

    def _clear(self, keep: tuple[int, ...] = ()) -> None:
        """Free all cells, but for those of a shared run that lies before all others."""
        kept = self._prefixes.get(keep) if keep and keep == next(iter(self._prefixes), ()) else None
        self._runs: list[_Run] = []
        self._free = [sequence for sequence in range(self._sequences.n_sequences) if sequence != kept]
        self._prefixes = {} if kept is None else {keep: kept}
        self._cells = 0 if kept is None else len(keep)
        self._alone = False
        if kept is None:
            self._sequences.reset()
        else:
            for sequence in self._free:
                self._sequences.drop(sequence)

    def _admit(self, admitted: _Admitted) -> bool:
        """Begin a tree if there is room for it now; one for which there never is gets an error."""
        tree = admitted.tree
        if tree.error is not None:
            return True
        own, shared, leaves = tree.n_cells, len(tree.shared), tree.n_leaves
        n_ctx, n_sequences = self._sequences.n_ctx, self._sequences.n_sequences
        if not self.holds(tree):
            tree.error = PromptError(
                f"{own + shared} tokens in {leaves} branches do not fit a context of {n_ctx} tokens and "
                f"{n_sequences} sequences; shorten the prompt or raise them"
            )
            return True
        if self._alone or (self._runs and admitted.alone):
            return False
        new = shared and tree.shared not in self._prefixes
        if self._cells + own + shared * new > n_ctx or len(self._free) < leaves + new:
            if self._runs:
                return False
            self._clear(keep=tree.shared)
        prefix = self._prefix(tree.shared) if shared else None
        self._alone = admitted.alone
        admitted.sequences = tuple(self._free.pop() for _ in range(leaves))
        admitted.free = list(admitted.sequences)
        self._cells += own
        tree.n_evaluated = 0
        for branch in tree.walk():
            branch.forget()
        for branch in tree.branches:
            sequence = admitted.free.pop()
            if prefix is not None and not branch.from_start:
                self._sequences.share(prefix, sequence)
            self._start(_Run(branch, admitted, sequence, 0 if branch.from_start else shared))
        return True

    def _prefix(self, tokens: tuple[int, ...]) -> int:
        """The sequence that holds a shared run."""
        if tokens not in self._prefixes:
            sequence = self._prefixes[tokens] = self._free.pop()
            self._cells += len(tokens)
            for start in range(0, len(tokens), MAX_BATCH):
                chunk = tokens[start : start + MAX_BATCH]
                self._sequences.decode([Token(t, start + i, sequence) for i, t in enumerate(chunk)], _unread)
        return self._prefixes[tokens]

    def _start(self, run: _Run) -> None:
        run.tree.running += 1
        self._runs.append(run)
        if not run.length:  # one scored token, which its parent's last logits have scored
            self._end(run)

    def _fork(self, run: _Run) -> None:
        """All tokens of a branch are evaluated: its children begin here, the last in its sequence if it writes none."""
        for index, child in enumerate(run.branch.children, start=1):
            sequence = run.sequence
            if run.branch.max_tokens or index < len(run.branch.children):
                sequence = run.tree.free.pop()
                self._sequences.share(run.sequence, sequence)
            self._start(_Run(child, run.tree, sequence, run.position))

    def _end(self, run: _Run) -> None:
        self._runs.remove(run)
        run.tree.running -= 1
        if not run.tree.running:
            self._alone = False

    def _step(self) -> list[_Admitted]:
        """Evaluate one batch. After a failure all that was running comes back, to be tried again one by one."""
        tokens: list[Token] = []
        asked: list[tuple[_Run, int]] = []
        for run in sorted(self._runs, key=lambda run: run.done < run.length):  # first those that write
            branch = run.branch
            for place in range(run.done, max(run.length, run.done + 1)):
                reads = place < run.length
                if len(tokens) == MAX_BATCH:
                    break
                token, vector = (branch.tokens[place], branch.vector) if reads else (run.next, branch.after)
                output = branch.wants(place) if reads else True
                tokens.append(Token(token, run.position + place - run.done, run.sequence, vector, output))
                asked.append((run, place))
        try:
            self._sequences.decode(tokens, lambda index, row: self._read(*asked[index], row))
        except ModelError as error:
            return self._retry(error)
        for run, count in Counter(run for run, _ in asked).items():
            reading = run.done < run.length
            run.done += count
            run.position += count
            run.tree.tree.n_evaluated += count
            if run.done < run.length:
                continue
            if reading:
                self._fork(run)
            if not run.branch.writes:
                self._end(run)
        return []

    def _retry(self, error: ModelError) -> list[_Admitted]:
        """What was running, without results and each to be alone; what was alone already has failed."""
        running = self._again()
        if len(running) == 1:
            running.pop().tree.error = error
        return running

    def _again(self) -> list[_Admitted]:
        """Give up what is running, to be evaluated again tree by tree."""
        running = list(dict.fromkeys(run.tree for run in self._runs))
        self._clear()
        for admitted in running:
            admitted.sequences, admitted.running, admitted.alone = (), 0, True
        return running

    def _read(self, run: _Run, place: int, row: int) -> None:
        """What the logits after one token say: about the next token, of this branch or of those below."""
        branch = run.branch
        logits = self._sequences.logits(row)
        if branch.scored and place + 1 < len(branch.tokens):
            branch.score(branch.tokens[place + 1], logits)
        if place + 1 < run.length:
            return
        for child in branch.children:
            if child.scored and place + 1 == run.length:
                child.score(child.tokens[0], logits)
        if branch.max_tokens:
            token = branch.sampler.pick(self._sequences.handle, row) if branch.sampler else int(logits.argmax())
            branch.ended = self._ends(token)
            if not branch.ended:
                branch.written.append(token)
                branch.ended = branch.enough is not None and branch.enough(branch.written)
            run.next = token


def _unread(_index: int, _row: int) -> None:
    raise AssertionError("no token of a shared run asks for logits")
