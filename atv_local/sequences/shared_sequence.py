"""One sequence of a shared context, as a target uses it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from atv_local.errors import UsageError
from atv_local.sequences.shared_context import SharedContext
from atv_local.sequences.wanted import Wanted
from atv_local.vectors import TaskVector


class SharedSequence:
    """A `TargetContext` in a context that others share.

    Args:
        shared: the context.

    Raises:
        UsageError: all of its sequences are taken.
    """

    def __init__(self, shared: SharedContext) -> None:
        self._shared, self._number = shared, shared.take()
        self.n_ctx, self.n_batch = shared.n_ctx, shared.n_batch
        self._vector: TaskVector | None = None
        self._rows: list[NDArray[np.float32]] = []
        self._keep = 0
        self._begun: Wanted | None = None
        self._state: bytes | None = None
        self._beginning: tuple[int, ...] = ()
        self._closed = False

    @property
    def out_of_reach(self) -> bool:
        """See `TargetContext`."""
        return self._closed or self._shared.out_of_reach

    def check_open(self) -> None:
        """See `TargetContext`."""
        if self._closed:
            raise UsageError(f"{self._shared.name} is closed; load it again")
        self._shared.check_open()

    def close(self) -> None:
        """See `TargetContext`; the shared context stays open."""
        if not self._closed:
            self._closed = True
            self._shared.give_back(self._number)

    def decode(self, tokens: Sequence[int], position: int, *, every: bool) -> None:
        """See `TargetContext`."""
        self._post(tokens, position, every=every)
        self.finish()

    def begin(self, tokens: Sequence[int], position: int) -> None:
        """See `TargetContext`."""
        self._post(tokens, position, every=False)

    def finish(self) -> None:
        """See `TargetContext`."""
        wanted, self._begun = self._begun, None
        assert wanted is not None  # nothing else is called between `begin` and `finish`
        self._shared.wait(wanted)
        self._rows, self._keep = wanted.rows, wanted.position + len(wanted.tokens)

    def _post(self, tokens: Sequence[int], position: int, *, every: bool) -> None:
        self.check_open()
        if self._begun is not None:  # by an answer that was not read on
            self._shared.take_back(self._begun)
            self._begun = None
        wanted = Wanted(self._number, self._keep, tokens, position, self._vector, every)
        wanted.state, wanted.beginning = self._state, self._beginning
        self._state, self._beginning = None, ()
        self._shared.post(wanted)
        self._begun = wanted

    def logits(self, row: int) -> NDArray[np.float32]:
        """See `TargetContext`."""
        return self._rows[row]

    def steer(self, rows: NDArray[np.float32] | None) -> None:
        """See `TargetContext`; takes effect with the next tokens."""
        self._vector = None if rows is None else TaskVector(rows)

    def cut(self, position: int) -> bool:
        """See `TargetContext`; done with the next tokens. What is lost has to be evaluated again."""
        if position and self._shared.is_lost(self._number):
            return False
        if position < self._keep:
            self._keep, self._beginning = position, ()
            self._state = self._state if position else None
        return True

    def clear(self) -> None:
        """See `TargetContext`."""
        self.cut(0)

    def load(self, tokens: tuple[int, ...]) -> bool:
        """See `TargetContext`; copied with the next tokens."""
        self._beginning = ()
        self._state = self._shared.beginning(tokens)
        if self._state is not None:
            self._keep = len(tokens)
        return self._state is not None

    def save(self, tokens: tuple[int, ...]) -> None:
        """See `TargetContext`; copied before the next tokens."""
        self._beginning = tokens

    def state_bytes(self) -> int:
        """See `TargetContext`."""
        return self._shared.state_bytes(self._number)

    def rest(self) -> None:
        """See `TargetContext`."""
        if self._begun is not None and not self.out_of_reach:
            self._shared.take_back(self._begun)
            self._begun = None
        self._shared.rest(self._number)
