"""Owners of llama.cpp's objects: freed once, in the process that made them, and not while something uses them."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from functools import cache
from time import monotonic
from typing import Any

from atv_local.errors import UsageError

_EXIT_SECONDS = 5.0
"""How long the interpreter's exit waits for batches that daemon threads evaluate; one batch rarely takes longer."""


class _Process:
    """What an object asks of the process; it holds this itself, since Python clears a module's names at its end."""

    current_pid = staticmethod(os.getpid)
    exiting = threading.Event()


_objects: weakref.WeakSet[NativeObject] = weakref.WeakSet()


class NativeObject:
    """A pointer of llama.cpp that is freed with its last reference. `lock` is held while llama.cpp uses it.

    Args:
        pointer: what llama.cpp gave.
        free: frees it.
        name: the file, for errors.
        needs: what must not be freed before it.
    """

    def __init__(self, pointer: Any, free: Callable[[Any], None], name: str, needs: object = None) -> None:
        self.pointer, self.name, self.pid = pointer, name, os.getpid()
        self._process = _Process
        self.lock = threading.RLock()
        weakref.finalize(self, _free, free, pointer, self.pid, needs)
        _objects.add(self)
        _hook()

    @property
    def foreign(self) -> bool:
        """Whether another process loaded it, which has forked this one."""
        return self._process.current_pid() != self.pid

    @property
    def out_of_reach(self) -> bool:
        """Whether it must not be used any more: in another process, or while the interpreter exits."""
        return self.foreign or self._process.exiting.is_set()

    def check_process(self) -> None:
        """Raise UsageError after `fork`, and while the interpreter exits."""
        if self.foreign:
            raise UsageError(f"{self.name} was loaded before the fork; load it in this process ({os.getpid()})")
        if self._process.exiting.is_set():
            raise UsageError(f"{self.name} cannot be used while the interpreter exits; join the thread before")


def _free(free: Callable[[Any], None], pointer: Any, pid: int, _needs: object) -> None:
    if os.getpid() != pid:
        return  # it would wait for threads that exist in the other process only
    if _Process.exiting.is_set() and threading.active_count() > 1:
        return  # a daemon thread may use it; the system frees it
    free(pointer)


@cache
def _hook() -> None:
    """Run `_at_exit` before weakref's own hook, which was registered by the first finalizer: the last is run first."""
    atexit.register(_at_exit)


def _at_exit() -> None:
    _Process.exiting.set()
    end = monotonic() + _EXIT_SECONDS
    for native in list(_objects):
        if not native.foreign:
            native.lock.acquire(timeout=max(0.0, end - monotonic()))
            # not released: nothing begins to use it again
