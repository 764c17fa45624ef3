"""A lock for a context that an answer holds from its first token to its last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import Self

from atv_local.errors import UsageError

_POLL_SECONDS = 0.1
"""How often a thread that waits looks whether the context was closed."""


class ContextTurn:
    """One turn, as a context manager that ends it. It belongs to the thread that last read the answer."""

    _current_thread = staticmethod(get_ident)  # an answer may end after Python has cleared this module's names

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.thread = get_ident()
        self.running = True

    def pause(self) -> None:
        """Before a piece of the answer is handed to its reader, who must not change the context."""
        self.running = False

    def resume(self) -> None:
        """When the reader, in whichever thread, wants the next piece or ends the answer."""
        self.thread, self.running = self._current_thread(), True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns.end()


class Turns:
    """The turns of one context.

    Args:
        what: what it is called in errors.
        check: raises if the context cannot be used.
        ended: called when a turn has ended.
    """

    def __init__(
        self, what: str, check: Callable[[], None] = lambda: None, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._what, self._check, self._ended = what, check, ended
        self._lock = threading.Lock()
        self._holder: ContextTurn | None = None

    def begin(self) -> ContextTurn:
        """Wait for the answers of other threads to end, and begin a turn.

        Raises:
            UsageError: an answer that this thread has begun is unfinished, or the context cannot be used.
        """
        self._check()
        if not self._lock.acquire(blocking=False):
            holder = self._holder
            if holder is not None and holder.thread == get_ident():
                self._refuse()
            while not self._lock.acquire(timeout=_POLL_SECONDS):
                self._check()
        self._holder = ContextTurn(self)
        return self._holder

    def end(self) -> None:
        """End the turn that runs."""
        self._holder = None
        self._ended()
        self._lock.release()

    def check_free(self) -> None:
        """Raise UsageError where an answer is unfinished, except in that answer itself."""
        holder = self._holder
        if holder is not None and not (holder.running and holder.thread == get_ident()):
            self._refuse()

    def _refuse(self) -> None:
        raise UsageError(f"another answer of {self._what} has not ended; read it to its end or close it first")
