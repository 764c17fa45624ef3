"""One context for many targets: each evaluates as if it were alone."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atv_local.answer import Engine
from atv_local.errors import ModelError, UnstableError, UsageError
from atv_local.generator import Bundle, Generator
from atv_local.sequences import SharedContext, SharedSequence, token_vectors
from atv_local.target import Model, Sampling, Target
from atv_local.vectors import OFF, Positions, Steering, TaskVector

N = 4
SHAPE = (3, 64)
Logits = NDArray[np.float32]
Work = tuple[list[int], list[int], int | None]
"""Tokens of a prompt, tokens after it, and the vector of the latter."""


def vector(seed: int, size: float = 1.0) -> TaskVector:
    return TaskVector(np.random.default_rng(seed).normal(0, size, SHAPE))


@pytest.fixture(scope="module")
def model(tiny_gguf: Path) -> Model:
    return Model(tiny_gguf)


@pytest.fixture
def shared(model: Model) -> Iterator[SharedContext]:
    shared = SharedContext(model, n_sequences=N, n_ctx=512, n_threads=1)
    yield shared
    shared.close()


@pytest.fixture
def targets(model: Model, shared: SharedContext) -> list[Target]:
    return [Target(model, n_threads=1, context=SharedSequence(shared)) for _ in range(N)]


def logits_of(target: Target, work: Work) -> list[Logits]:
    """The logits after each token that follows the prompt."""
    prompt, tokens, seed = work
    with target.turn():
        target.prefill(prompt)
        if seed is not None:
            target.apply(vector(seed))
        found = [target.evaluate([token]).copy() for token in tokens]
        target.clear()
    return found


def equal(first: list[Logits], second: list[Logits]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


tokens_of = st.lists(st.integers(5, 260), min_size=1, max_size=8)
prompts = st.integers(0, 9).flatmap(
    lambda seed: st.sampled_from([3, 70, 140]).map(
        lambda length: [int(token) for token in np.random.default_rng(seed).integers(5, 260, length)]
    )
)
works = st.lists(st.tuples(prompts, tokens_of, st.sampled_from([None, 0, 1])), min_size=2, max_size=10)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(works)
def test_what_is_evaluated_together_is_evaluated_as_alone(targets: list[Target], works: list[Work]) -> None:
    alone = [logits_of(targets[0], work) for work in works]
    with ThreadPoolExecutor(N) as threads:
        free = [*targets]

        def together(work: Work) -> list[Logits]:
            target = free.pop()
            try:
                return logits_of(target, work)
            finally:
                free.append(target)

        found = [*threads.map(together, works)]
    assert all(equal(a, b) for a, b in zip(alone, found, strict=True))


def test_logits_are_those_of_a_target_with_its_own_context_but_for_rounding(
    model: Model, targets: list[Target]
) -> None:
    prompt = [int(token) for token in np.random.default_rng(0).integers(5, 260, 100)]
    own = logits_of(Target(model, n_threads=1), (prompt, [7, 8, 9], 0))
    shared = logits_of(targets[2], (prompt, [7, 8, 9], 0))
    assert max(float(np.abs(a - b).max()) for a, b in zip(own, shared, strict=True)) < 0.01
    base = logits_of(targets[2], (prompt, [7, 8, 9], None))
    assert max(float(np.abs(a - b).max()) for a, b in zip(own, base, strict=True)) > 0.1


def test_engines_answer_as_alone(targets: list[Target], tiny_bundle: Path) -> None:
    generator = Generator(Bundle(tiny_bundle))
    engines = [Engine(target, generator) for target in targets]
    steerings = [Steering(strength, None, positions) for strength in (0.5, 2.0) for positions in Positions] + [OFF]
    asked: list[tuple[str, dict[str, Any]]] = [
        (
            f"apple {number} and more of it",
            {
                "steering": steerings[number % len(steerings)],
                "sampling": Sampling(1.1, seed=number) if number % 2 else Sampling(),
                "max_tokens": 5 + number % 11,
            },
        )
        for number in range(24)
    ]
    alone = [engines[0].answer(query, **how).text for query, how in asked]
    found: dict[int, str] = {}

    def work(number: int) -> None:
        for index in range(number, len(asked), N):
            query, how = asked[index]
            found[index] = engines[number].answer(query, **how).text

    run_all(work)
    assert [found[index] for index in range(len(asked))] == alone


def run_all(work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=[number]) for number in range(N)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_vector_that_is_too_strong_harms_nobody_else(targets: list[Target]) -> None:
    work: Work = ([3, 70, 80], [*range(10, 60)], 1)
    alone = logits_of(targets[0], work)
    found: dict[int, list[Logits]] = {}

    def work_of(number: int) -> None:
        if number:
            found[number] = logits_of(targets[number], work)
            return
        with targets[0].turn():
            targets[0].prefill([3, 70, 80])
            targets[0].apply(TaskVector(np.full(SHAPE, 3e38, dtype=np.float32)))
            with pytest.raises(UnstableError, match="lower `strength`"):
                targets[0].evaluate([5])

    run_all(work_of)
    assert len(found) == N - 1
    assert all(equal(alone, logits) for logits in found.values())
    assert equal(alone, logits_of(targets[0], work)), "its own cells are used again"


def test_what_prompts_begin_with_is_evaluated_once(shared: SharedContext, targets: list[Target]) -> None:
    system, other = [*range(10, 80)], [*range(80, 90)]
    found = []
    for target in targets:
        before = shared._context.n_evaluated
        with target.turn():
            target.prefill(system, other)
            found.append(target.evaluate([5]).copy())
        assert target.n_past == 81
        evaluated = shared._context.n_evaluated - before
        assert evaluated >= 81 if target is targets[0] else evaluated < 20
    assert equal([found[0]] * N, found)


def test_beginnings_take_no_more_room_than_a_sequence(shared: SharedContext, targets: list[Target]) -> None:
    for first in range(10, 200, 10):
        with targets[0].turn():
            targets[0].prefill([first] * 100, [5])
            targets[0].evaluate([6])
    assert sum(map(len, shared._beginnings)) <= shared.n_ctx
    assert (190,) * 100 in shared._beginnings


def test_a_copied_beginning_can_be_dropped_again(targets: list[Target]) -> None:
    wanted = []
    for target in (targets[0], targets[1]):
        with target.turn():
            target.prefill([7] * 30, [8])
            target.prefill([9] * 20, [8])
            target.prefill([7] * 30)
            wanted.append(target.evaluate([5]).copy())
    assert equal(wanted[:1], wanted[1:])


def test_the_prompt_that_came_first_is_evaluated_first(
    shared: SharedContext, targets: list[Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, entered, go_on = shared._context.decode, threading.Event(), threading.Event()
    steps: list[list[int]] = []

    def record(tokens: list[Any], read: Any) -> None:
        entered.set()
        assert go_on.wait(30)
        steps.append(sorted({token.sequence for token in tokens}))
        decode(tokens, read)

    def prompt(number: int) -> int:
        with targets[number].turn():
            targets[number].prefill([10 + number, *range(20, 260), *range(20, 220)])
        return len(steps)

    monkeypatch.setattr(shared._context, "decode", record)
    with ThreadPoolExecutor(N) as threads:
        first = threads.submit(prompt, 0)
        assert entered.wait(30)
        others = [threads.submit(prompt, number) for number in (2, 1, 3)]
        while len(shared._wanted) < 3:
            time.sleep(0.01)
        go_on.set()
        ends = [first.result(60), *(other.result(60) for other in others)]
    assert ends[0] == min(ends)
    assert ends[0] < max(ends)


def test_an_answer_that_is_not_read_on_keeps_nobody_waiting(targets: list[Target]) -> None:
    with targets[0].turn():
        targets[0].prefill([3, 70])
        targets[0].evaluate([5])
        assert len(logits_of(targets[1], ([3, 80], [5, 6], None))) == 2


def failing(shared: SharedContext, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Callable[[], None]:
    """Let every evaluation fail, until what is returned is called."""
    decode = shared._context.decode

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(shared._context, "decode", fail)
    return lambda: monkeypatch.setattr(shared._context, "decode", decode)


@pytest.mark.parametrize(
    ("error", "said"), [(ModelError("code -3"), "code -3"), (MemoryError(), "MemoryError"), (ValueError("odd"), "odd")]
)
def test_after_a_failure_every_answer_begins_anew(
    shared: SharedContext, targets: list[Target], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    work: Work = ([3, 70, 80], [10, 11], 1)
    wanted = logits_of(targets[1], work)
    with targets[1].turn():
        targets[1].prefill([3, 70, 80])
        repair = failing(shared, monkeypatch, error)
        with pytest.raises(ModelError, match=said):
            logits_of(targets[0], work)
        repair()
        with pytest.raises(ModelError, match="ask again"):
            targets[1].evaluate([10])
    for target in targets:
        assert equal(wanted, logits_of(target, work))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_has_ended(
    shared: SharedContext, targets: list[Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    repair = failing(shared, monkeypatch, MemoryError())
    monkeypatch.setattr(shared._context, "reset", shared._context.decode)
    with pytest.raises(UsageError, match="is closed; load it again"):
        logits_of(targets[0], ([3], [5], None))
    repair()
    monkeypatch.undo()
    assert targets[1].closed


def test_what_waits_while_another_step_fails_is_not_answered_wrongly(
    shared: SharedContext, targets: list[Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    with targets[1].turn():
        targets[1].prefill([3, 70, 80])
        decode = shared._context.decode

        def fail(*_: Any) -> None:
            entered.set()
            assert go_on.wait(30)
            monkeypatch.setattr(shared._context, "decode", decode)
            raise ModelError("code -3")

        monkeypatch.setattr(shared._context, "decode", fail)
        with ThreadPoolExecutor(1) as other:
            failed = other.submit(logits_of, targets[0], ([3], [5], None))
            assert entered.wait(30)
            threading.Timer(0.2, go_on.set).start()
            with pytest.raises(ModelError, match="ask again"):
                targets[1].evaluate([10])
            with pytest.raises(ModelError, match="code -3"):
                failed.result(30)
    assert len(logits_of(targets[1], ([3], [5], None))) == 1


def test_a_beginning_is_not_kept_for_another_prompt(targets: list[Target]) -> None:
    """An answer ends just after its beginning was evaluated, and the next one has a beginning of that length."""
    one, two = [7] * 30, [9] * 30
    with targets[0].turn():
        targets[0].prefill(two, [5])
        of_two = targets[0].evaluate([6]).copy()
    with targets[1].turn():
        targets[1].prefill(one)
    with targets[1].turn():
        targets[1].prefill(two, [5])
        assert np.array_equal(targets[1].evaluate([6]), of_two)
    with targets[2].turn():
        targets[2].prefill(one, [5])
        of_one = targets[2].evaluate([6]).copy()
    with targets[3].turn():
        targets[3].prefill([8], one, [5])
        targets[3].prefill(one, [5])
        assert np.array_equal(targets[3].evaluate([6]), of_one)
    assert not np.array_equal(of_one, of_two)


def test_after_an_interrupt_the_next_answer_is_right(targets: list[Target], monkeypatch: pytest.MonkeyPatch) -> None:
    work: Work = ([3, 70, 80], [10, 11], 1)
    wanted = logits_of(targets[1], work)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    logits_of(targets[0], work)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Event, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            logits_of(targets[0], work)
    assert equal(wanted, logits_of(targets[0], work))


def test_what_waits_ends_when_the_context_is_closed(shared: SharedContext, targets: list[Target]) -> None:
    begun, errors = threading.Event(), []

    def ask() -> None:
        try:
            while True:
                logits_of(targets[0], ([3, 70, 80], [10, 11], 1))
                begun.set()
        except UsageError as error:
            errors.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(30)
    shared.close()
    shared.close()
    thread.join(30)
    assert len(errors) == 1
    assert "is closed; load it again" in errors[0]
    assert targets[1].closed
    assert "closed" in repr(targets[1])


@pytest.mark.skipif(sys.platform == "win32", reason="its heap does not tell the size of a block")
def test_llama_cpp_calls_back_only_until_the_tensors_are_found(shared: SharedContext, targets: list[Target]) -> None:
    vectors = shared._context._vectors
    before = vectors.n_calls
    assert before > 0
    logits_of(targets[0], ([3, 70, 80], [10, 11], 1))
    assert vectors.n_calls == before


def test_calls_that_cannot_be_ended_do_no_harm(
    model: Model, targets: list[Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_vectors, "replace_in_block", lambda *_: False)
    other = SharedContext(model, n_sequences=1, n_ctx=512, n_threads=1)
    before = other._context._vectors.n_calls
    work: Work = ([3, 70, 80], [10, 11], 1)
    assert equal(
        logits_of(Target(model, n_threads=1, context=SharedSequence(other)), work), logits_of(targets[0], work)
    )
    assert other._context._vectors.n_calls > before
    other.close()


def test_there_are_as_many_sequences_as_were_asked_for(shared: SharedContext, targets: list[Target]) -> None:
    assert len(targets) == N
    with pytest.raises(UsageError, match="all sequences"):
        SharedSequence(shared)


def test_a_sequence_can_be_given_back(shared: SharedContext, targets: list[Target], model: Model) -> None:
    targets[2].close()
    targets[2].close()
    other = Target(model, n_threads=1, context=SharedSequence(shared))
    assert equal(logits_of(other, ([3], [5], 0)), logits_of(targets[0], ([3], [5], 0)))
    with pytest.raises(UsageError, match="all sequences"):
        SharedSequence(shared)


@pytest.mark.parametrize(("n_ctx", "n_sequences"), [(1, 1), (1, 2), (2, 1), (40, 3)])
def test_small_contexts(model: Model, n_ctx: int, n_sequences: int) -> None:
    shared = SharedContext(model, n_sequences=n_sequences, n_ctx=n_ctx, n_threads=1)
    target = Target(model, n_threads=1, context=SharedSequence(shared))
    assert target.n_ctx == n_ctx
    full = [logits_of(target, ([], [7] * n_ctx, None))[-1] for _ in range(2)]
    assert equal(full[:1], full[1:])
    shared.close()


def test_models_whose_positions_are_scaled_early_are_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "n_ctx_unscaled", 200)
    with pytest.raises(ModelError, match="scaled beyond 200 tokens"):
        SharedContext(model, n_sequences=2, n_ctx=100, n_threads=1)


def test_attention_that_does_not_forget_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    params = lib.llama_context_default_params

    def without_flash_attention() -> Any:
        made = params()
        made.flash_attn_type = 0
        return made

    monkeypatch.setattr(lib, "llama_context_default_params", without_flash_attention)
    with pytest.raises(ModelError, match="would spoil later answers"):
        SharedContext(model, n_sequences=2, n_ctx=100, n_threads=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_does_not_wait(shared: SharedContext, targets: list[Target]) -> None:
    with shared._condition:  # as another thread may hold it
        child = os.fork()
        if not child:
            targets[0].close()
            shared.close()
            os._exit(0)
    for _ in range(300):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
    assert (ended, status) == (child, 0)


def test_a_prompt_fills_the_context_to_its_last_token(targets: list[Target]) -> None:
    target = targets[3]
    with target.turn():
        target.prefill([5] * (target.n_ctx - 1))
        assert np.isfinite(target.evaluate([6])).all()
        assert target.n_past == target.n_ctx


def test_a_recurrent_state_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib, "llama_model_is_recurrent", lambda _: True)
    with pytest.raises(ModelError, match="cannot be cut"):
        SharedContext(model, n_sequences=2, n_ctx=64, n_threads=1)
