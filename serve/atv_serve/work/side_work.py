"""Threads for work that needs no context of the target, such as tokenising."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from atv_serve.work.pool import BusyError, TimeUpError

_THREADS = 2
"""One text that is slow to tokenise must not stop all others; more threads would take cores from the evaluation."""

T = TypeVar("T")


class SideWork:
    """Runs functions off the event loop, a few at a time.

    Args:
        n_waiting: how many may wait.
    """

    def __init__(self, *, n_waiting: int) -> None:
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="side")
        self._last = ThreadPoolExecutor(_THREADS, thread_name_prefix="completion")  # new requests do not wait for it
        self._most = _THREADS + n_waiting
        self._lock = threading.Lock()
        self._pending = 0

    async def run(self, work: Callable[[], T], seconds: float) -> T:
        """What `work` returns.

        Args:
            seconds: limit, waiting included. Work that has begun is not stopped, but no longer waited for.

        Raises:
            BusyError: too many wait already.
            TimeUpError: it took too long.
            AtvError: what `work` raises.
        """
        with self._lock:
            if self._pending >= self._most:
                raise BusyError(self._pending, 1)
            self._pending += 1
        future = self._executor.submit(work)
        future.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise TimeUpError(f"the request took longer than the {seconds:g} s that this server allows") from error

    async def complete(self, work: Callable[[], T]) -> T:
        """What `work` returns, for a request that has been accepted: never refused, and without a limit in time."""
        return await asyncio.get_running_loop().run_in_executor(self._last, work)

    def _ended(self, _future: Future[Any]) -> None:
        with self._lock:
            self._pending -= 1

    def close(self) -> None:
        """Cancel what waits; wait for what runs."""
        self._executor.shutdown(cancel_futures=True)
        self._last.shutdown(cancel_futures=True)
