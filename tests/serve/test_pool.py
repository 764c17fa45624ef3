"""The pool: order, bounds, stopping, closing. Its contexts here are names; nothing is evaluated."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from atv_local.errors import UsageError
from atv_serve.work import pool as pool_module
from atv_serve.work.pool import BrokenError, BusyError, ClosedError, GoneError, InTurn, Pool, PoolJob, TimeUpError


class Desk:
    """A context that works when it is told to."""

    def __init__(self, in_turn: InTurn) -> None:
        self.in_turn = in_turn
        self.go = threading.Event()

    def steps(self, n: int) -> Iterator[int]:
        for number in range(n):
            self.in_turn(lambda: 0)
            yield number

    def held(self) -> Iterator[str]:
        self.go.wait(10)
        yield "done"


def run(scenario: Callable[[Pool[Desk], list[Desk]], Coroutine[Any, Any, None]], **sizes: int) -> None:
    desks: list[Desk] = []

    def make(in_turn: InTurn) -> Desk:
        desks.append(Desk(in_turn))
        return desks[-1]

    pool = Pool(make, **({"n_contexts": 1, "n_waiting": 4} | sizes))
    try:
        asyncio.run(asyncio.wait_for(scenario(pool, desks), 20))
    finally:
        pool.close()
        for desk in desks:
            desk.go.set()
        pool.join()


async def read(job: PoolJob[Desk]) -> list[Any]:
    return [item async for item in job.items()]


def test_items_come_in_order_and_then_the_end() -> None:
    async def scenario(pool: Pool[Desk], _desks: list[Desk]) -> None:
        assert await read(pool.submit(lambda desk: desk.steps(100), seconds=10)) == list(range(100))
        assert pool.running == pool.waiting == 0

    run(scenario)


def test_jobs_are_begun_in_the_order_they_came() -> None:
    async def scenario(pool: Pool[Desk], desks: list[Desk]) -> None:
        begun: list[int] = []

        def work(number: int) -> Callable[[Desk], Iterator[int]]:
            def begin(_desk: Desk) -> Iterator[int]:
                begun.append(number)
                yield number

            return begin

        first = asyncio.create_task(read(pool.submit(Desk.held, seconds=10)))
        jobs = [pool.submit(work(number), seconds=10) for number in range(4)]
        assert (pool.running, pool.waiting) == (1, 4)
        desks[0].go.set()
        await first
        assert await asyncio.gather(*map(read, reversed(jobs))) == [[3], [2], [1], [0]]
        assert begun == [0, 1, 2, 3]

    run(scenario)


def test_running_jobs_advance_in_turn() -> None:
    async def scenario(pool: Pool[Desk], _desks: list[Desk]) -> None:
        order: list[str] = []
        together = threading.Barrier(2)

        def work(name: str) -> Callable[[Desk], Iterator[None]]:
            def steps(desk: Desk) -> Iterator[None]:
                together.wait(10)
                for _ in range(50):
                    desk.in_turn(lambda: order.append(name) or 0)
                    yield

            return steps

        await asyncio.gather(*(read(pool.submit(work(name), seconds=10)) for name in "ab"))
        middle = order[20:80]
        assert 20 <= middle.count("a") <= 40, "one of them was served first"

    run(scenario, n_contexts=2)


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    async def scenario(pool: Pool[Desk], desks: list[Desk]) -> None:
        jobs = [asyncio.create_task(read(pool.submit(Desk.held, seconds=10))) for _ in range(3)]
        with pytest.raises(BusyError, match=r"\(2 waiting\)") as busy:
            pool.submit(Desk.held, seconds=10)
        assert 1 <= busy.value.retry_after <= 60
        desks[0].go.set()
        assert await asyncio.gather(*jobs) == [["done"]] * 3
        assert await read(pool.submit(Desk.held, seconds=10)) == ["done"]

    run(scenario, n_waiting=2)


def test_one_that_went_away_frees_its_place_and_its_context() -> None:
    async def scenario(pool: Pool[Desk], desks: list[Desk]) -> None:
        endless = pool.submit(lambda desk: desk.steps(1 << 40), seconds=10)
        waiting = pool.submit(Desk.held, seconds=10)
        gone = pool.submit(Desk.held, seconds=10)
        gone.stop(GoneError("the client went away"))
        assert pool.waiting == 1
        with pytest.raises(GoneError):
            await read(gone)
        items = endless.items()
        assert [await anext(items), await anext(items)] == [0, 1]
        await items.aclose()
        desks[0].go.set()
        assert await read(waiting) == ["done"]
        assert pool.running == 0

    run(scenario)


def test_time_is_up_for_one_that_waits_and_for_one_that_runs() -> None:
    async def scenario(pool: Pool[Desk], _desks: list[Desk]) -> None:
        running = pool.submit(lambda desk: desk.steps(1 << 40), seconds=0.2)
        waiting = pool.submit(Desk.held, seconds=0.1)
        for job in (waiting, running):
            with pytest.raises(TimeUpError, match=r"0\.[12] s"):
                await read(job)
        assert await read(pool.submit(lambda desk: desk.steps(3), seconds=10)) == [0, 1, 2]

    run(scenario)


def test_closing_finishes_what_runs_and_gives_up_what_waits() -> None:
    async def scenario(pool: Pool[Desk], desks: list[Desk]) -> None:
        running, waiting = (pool.submit(Desk.held, seconds=10) for _ in range(2))
        pool.close()
        with pytest.raises(ClosedError):
            await read(waiting)
        with pytest.raises(ClosedError):
            pool.submit(Desk.held, seconds=10)
        desks[0].go.set()
        assert await read(running) == ["done"]

    run(scenario)


def test_failures_are_those_of_their_own_job(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(pool: Pool[Desk], _desks: list[Desk]) -> None:
        def wrong(_desk: Desk) -> Iterator[int]:
            yield 1
            raise UsageError("no such layer")

        def defect(_desk: Desk) -> Iterator[int]:
            yield 1 // 0

        with pytest.raises(UsageError, match="no such layer"):
            await read(pool.submit(wrong, seconds=10))
        with pytest.raises(BrokenError, match="log"):
            await read(pool.submit(defect, seconds=10))
        assert await read(pool.submit(lambda desk: desk.steps(2), seconds=10)) == [0, 1]

    run(scenario)
    assert "ZeroDivisionError" in caplog.text


def test_the_preferred_of_the_free_contexts_is_taken() -> None:
    async def scenario(pool: Pool[Desk], desks: list[Desk]) -> None:
        def which(desk: Desk) -> Iterator[int]:
            yield desks.index(desk)

        for wanted in (2, 0, 1, 2):
            job = pool.submit(which, seconds=10, prefer=lambda desk, wanted=wanted: desks.index(desk) == wanted)
            assert await read(job) == [wanted]

    run(scenario, n_contexts=3)


def test_what_comes_after_a_job_is_done_while_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool_module, "_PAUSE", 0.01)
    begun, ended, quiet = threading.Event(), threading.Event(), threading.Event()

    def until_stopped(desk: Desk) -> None:
        begun.set()
        try:
            while True:
                desk.in_turn(lambda: 0)
        finally:
            ended.set()

    def fails(_desk: Desk) -> None:
        quiet.set()
        raise ValueError("unforeseen")

    async def scenario(pool: Pool[Desk], _desks: list[Desk]) -> None:
        def ask(after: Callable[[Desk], None]) -> PoolJob[Desk]:
            return pool.submit(lambda desk: desk.steps(2), seconds=10, after=after)

        for _ in range(2):  # also where the context is the one that is at it
            begun.clear()
            ended.clear()
            assert await read(ask(until_stopped)) == [0, 1]
            assert await asyncio.to_thread(begun.wait, 10)
            assert pool.running == 0
            assert await read(ask(fails)) == [0, 1]
            assert ended.is_set()
            assert await asyncio.to_thread(quiet.wait, 10)
            quiet.clear()
        assert await read(ask(until_stopped)) == [0, 1]  # and closing the pool ends it

    run(scenario)
    run(scenario, n_contexts=2)
    assert [record.getMessage() for record in caplog.records] == ["what follows a request failed unexpectedly"] * 4


def test_all_that_comes_after_jobs_ends_when_something_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_PAUSE", 0.01)
    begun = threading.Semaphore(0)

    def until_stopped(desk: Desk) -> None:
        begun.release()
        while True:
            desk.in_turn(lambda: 0)

    async def scenario(pool: Pool[Desk], _desks: list[Desk]) -> None:
        jobs = [pool.submit(lambda desk: desk.steps(2), seconds=10, after=until_stopped) for _ in range(3)]
        assert [await read(job) for job in jobs] == [[0, 1]] * 3
        for _ in jobs:
            assert await asyncio.to_thread(begun.acquire, timeout=10)
        jobs = [pool.submit(lambda desk: desk.steps(2), seconds=10) for _ in range(3)]
        assert [await read(job) for job in jobs] == [[0, 1]] * 3

    run(scenario, n_contexts=3)


def test_nothing_comes_after_a_job_that_failed_or_while_another_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_PAUSE", 0.01)
    done: list[str] = []

    async def scenario(pool: Pool[Desk], desks: list[Desk]) -> None:
        held = pool.submit(lambda desk: desk.held(), seconds=10)
        other = pool.submit(lambda desk: desk.steps(1), seconds=10, after=lambda _: done.append("while it runs"))
        assert await read(other) == [0]
        await asyncio.sleep(0.1)
        desks[0].go.set()
        assert await read(held) == ["done"]

        def failing(_desk: Desk) -> Iterator[int]:
            yield 1
            raise UsageError("no")

        with pytest.raises(UsageError):
            await read(pool.submit(failing, seconds=10, after=lambda _: done.append("after a failure")))
        await asyncio.sleep(0.1)

    run(scenario, n_contexts=2)
    assert not done
