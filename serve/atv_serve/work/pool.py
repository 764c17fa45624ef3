"""Contexts over one model, and which request runs next.

Each context has a thread. Contexts that cannot evaluate together do it in one more thread for all of them, in order of
arrival, because in parallel they would only compete for the same cores. Either way running requests advance token by
token.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Generic, TypeVar

from atv_local.errors import AtvError

_log = logging.getLogger(__name__)
_PAUSE = 0.5
"""Seconds after which no program asks for the next turn at once, and a person may be reading."""
_MEMORY = 0.8
"""Weight of earlier jobs in the running mean of a job's seconds."""

C = TypeVar("C")
InTurn = Callable[[Callable[[], None]], None]


class BusyError(AtvError):
    """The queue is full."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        what = f"the queue is full ({waiting} waiting)" if waiting else "no other request can be answered now"
        super().__init__(f"{what}; try again in {retry_after} s")
        self.retry_after = retry_after


class ClosedError(AtvError):
    """The server is stopping."""


class TimeUpError(AtvError):
    """A request took longer than the server allows."""


class GoneError(AtvError):
    """The client went away."""


class BrokenError(AtvError):
    """A defect of this program; the log has the details."""


class PoolJob(Generic[C]):
    """The work of one request, and the queue that its items come through."""

    def __init__(
        self,
        work: Callable[[C], Generator[Any]],
        seconds: float,
        spent: float,
        after: Callable[[C], None] | None = None,
    ) -> None:
        self.work, self.after = work, after
        self.stopped: AtvError | None = None
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[tuple[Any, bool]] = asyncio.Queue()
        late = TimeUpError(f"the request took longer than the {seconds:g} s that this server allows")
        self._timer = self._loop.call_later(max(0.0, seconds - spent), self.stop, late)

    def stop(self, reason: AtvError) -> None:
        """End it before its next evaluation; its reader gets the reason now."""
        if self.stopped is None:
            self.stopped = reason
            self.end(reason)

    def check(self) -> None:
        """Raise why it was stopped, if it was."""
        if self.stopped is not None:
            raise self.stopped

    def put(self, item: Any) -> None:
        """Hand an item to the event loop, from any thread."""
        self._send(item, False)

    def end(self, error: AtvError | None) -> None:
        """No more items follow; an error says why."""
        self._send(error, True)

    def _send(self, item: Any, last: bool) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._items.put_nowait, (item, last))

    async def items(self) -> AsyncGenerator[Any, None]:
        """Its items as they come. Read it once, and close it.

        Raises:
            AtvError: what the work raised, or why it was stopped.
        """
        try:
            while True:
                item, last = await self._items.get()
                if last:
                    if item is not None:
                        raise item
                    return
                yield item
        finally:
            self._timer.cancel()
            self.stop(GoneError("the answer is no longer read"))


class _Rest:
    """What a context does while nothing is asked."""

    def __init__(self) -> None:
        self._stopped = False

    def stop(self) -> None:
        """End it before its next evaluation."""
        self._stopped = True

    def check(self) -> None:
        """Raise GoneError if it was stopped."""
        if self._stopped:
            raise GoneError("something is asked")


class _Slot(Generic[C]):
    """A context, its thread, and the job it works on."""

    def __init__(self, make: Callable[[InTurn], C], turns: ThreadPoolExecutor | None, number: int) -> None:
        self.number = number
        self.inbox: SimpleQueue[PoolJob[C] | None] = SimpleQueue()
        self.job: PoolJob[C] | _Rest | None = None
        self._turns = turns
        self.context = make(self._in_turn)

    def _in_turn(self, evaluate: Callable[[], None]) -> None:
        if self.job is not None:
            self.job.check()
        if self._turns is None:
            evaluate()
        else:
            self._turns.submit(evaluate).result()

    def work(self, job: PoolJob[C]) -> AtvError | None:
        self.job = job
        try:
            job.check()
            with closing(job.work(self.context)) as items:
                for item in items:
                    job.put(item)
                    job.check()
        except AtvError as error:
            return error
        except Exception:
            _log.exception("a request failed unexpectedly")
            return BrokenError("the request failed; the server's log has the details")
        return None


class Pool(Generic[C]):
    """Runs jobs, each in a context of its own, in the order they came.

    Args:
        make: makes a context; every evaluation in it must go through the function that it is given.
        n_contexts: how many run at once.
        n_waiting: how many may wait beside those.
        together: whether evaluations may be begun at the same time, as in contexts that share them.
    """

    def __init__(self, make: Callable[[InTurn], C], *, n_contexts: int, n_waiting: int, together: bool = False) -> None:
        self._turns = None if together else ThreadPoolExecutor(max_workers=1, thread_name_prefix="evaluation")
        slots = [_Slot(make, self._turns, number) for number in range(n_contexts)]
        self._n_waiting = n_waiting
        self._lock = threading.Lock()
        self._idle = list(slots)
        self._n_contexts = n_contexts
        self._running = 0
        self._queue: deque[PoolJob[C]] = deque()
        self._seconds = 1.0
        self._closed = False
        self._rests = set[_Rest]()
        """What contexts do while no job runs."""
        self._threads = [threading.Thread(target=self._run, args=[slot], daemon=True) for slot in slots]
        for thread in self._threads:
            thread.start()

    @property
    def size(self) -> int:
        """Jobs that may run or wait at a time."""
        return self._n_contexts + self._n_waiting

    @property
    def running(self) -> int:
        """Jobs that have a context."""
        return self._running

    @property
    def waiting(self) -> int:
        """Jobs that wait for one."""
        with self._lock:
            return sum(job.stopped is None for job in self._queue)

    @property
    def closed(self) -> bool:
        """Whether it takes no more jobs."""
        return self._closed

    def check(self) -> None:
        """Raise what `submit` would raise now, so that no request is prepared in vain."""
        with self._lock:
            self._check()

    def submit(
        self,
        work: Callable[[C], Generator[Any]],
        *,
        seconds: float,
        spent: float = 0,
        prefer: Callable[[C], int] = lambda _: 0,
        after: Callable[[C], None] | None = None,
    ) -> PoolJob[C]:
        """Start work, or queue it. Call this on the event loop that reads the items.

        Args:
            work: called in the context's thread; yields the items.
            seconds: limit for the request, waiting included.
            spent: how many of them are over.
            prefer: picks the free context for which it is largest, of several the first: neighbours evaluate together.
            after: called in the context's thread a while after the work, if nothing else is asked; ends when it is.

        Raises:
            BusyError: too many wait already.
            ClosedError: the pool is closed.
        """
        with self._lock:
            self._check()
            job = PoolJob(work, seconds, spent, after)
            for rest in self._rests:
                rest.stop()
            if self._idle:
                slot = max(self._idle, key=lambda slot: (prefer(slot.context), -slot.number))
                self._idle.remove(slot)
                self._running += 1
                slot.inbox.put(job)
            else:
                self._queue.append(job)
            return job

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("the server is stopping")
        self._queue = deque(job for job in self._queue if job.stopped is None)
        if not self._idle and len(self._queue) >= self._n_waiting:
            ahead = self._seconds * (len(self._queue) + 1) / self._n_contexts
            raise BusyError(len(self._queue), min(60, max(1, math.ceil(ahead))))

    def close(self) -> None:
        """Take no more jobs: waiting ones are stopped, running ones go on."""
        with self._lock:
            self._closed = True
            for rest in self._rests:
                rest.stop()
            waiting, self._queue = self._queue, deque()
            while self._idle:
                self._idle.pop().inbox.put(None)
        for job in waiting:
            job.stop(ClosedError("the server is stopping"))

    def join(self) -> None:
        """Wait until nothing runs in a closed pool."""
        for thread in self._threads:
            thread.join()
        if self._turns is not None:
            self._turns.shutdown()

    def _run(self, slot: _Slot[C]) -> None:
        job = slot.inbox.get()
        while job is not None:
            begun = monotonic()
            error = slot.work(job)
            slot.job = None
            ended, job = job, None
            with self._lock:
                if ended.stopped is None:
                    self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * (monotonic() - begun)
                while self._queue and job is None:
                    first = self._queue.popleft()
                    job = first if first.stopped is None else None
                if job is None:
                    self._running -= 1
                    self._idle.append(slot)
                    if self._closed:
                        slot.inbox.put(None)
            ended.end(error)  # after the slot is free, so that the next request finds it
            job = job or self._next(slot, None if error else ended.after)

    def _next(self, slot: _Slot[C], after: Callable[[C], None] | None) -> PoolJob[C] | None:
        """The next job of a slot, which does what comes `after` the last one if nothing is asked for a while."""
        if after is not None:
            with suppress(Empty):
                return slot.inbox.get(timeout=_PAUSE)
            self._do_after(slot, after)
        return slot.inbox.get()

    def _do_after(self, slot: _Slot[C], after: Callable[[C], None]) -> None:
        with self._lock:
            if self._running or self._closed or not slot.inbox.empty():
                return
            slot.job = rest = _Rest()
            self._rests.add(rest)
        try:
            after(slot.context)
        except AtvError:  # it was stopped, or the next request says what is wrong
            pass
        except Exception:
            _log.exception("what follows a request failed unexpectedly")
        with self._lock:
            slot.job = None
            self._rests.discard(rest)
