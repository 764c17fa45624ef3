"""Calls of compiled libraries that the interpreter's exit waits for.

When a daemon thread returns from such a library after Python has ended, Python ends the thread inside the library,
which then aborts the process.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from atv_local.errors import UsageError

_EXIT_SECONDS = 5.0
"""How long the exit waits; a query takes milliseconds."""


class _Calls:
    """Counts the calls that run."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._exiting = False
        atexit.register(self._wait)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around a call; raises UsageError while the interpreter exits."""
        with self._changed:
            if self._exiting:
                raise UsageError("no query can be read while the interpreter exits; join the thread before")
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _wait(self) -> None:
        with self._changed:
            self._exiting = True
            self._changed.wait_for(lambda: not self._running, _EXIT_SECONDS)

    def forget(self) -> None:
        """In a forked process, which has none of the threads that made calls."""
        self._changed, self._running = threading.Condition(), 0


_calls = _Calls()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_calls.forget)
native_call = _calls.running
