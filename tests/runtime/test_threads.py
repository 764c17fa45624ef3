"""One target for several engines, threads and processes: the answers are those of one alone, or an error says why not.

What could crash or hang runs in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from atv_local.answer import Engine
from atv_local.batch import Batch, BatchQuestion
from atv_local.errors import UsageError
from atv_local.generator import Generator
from atv_local.target import Prompt, Target, score_text
from atv_local.vectors import OFF

MAX_TOKENS = 12
START = """
import os, sys, threading
from pathlib import Path
from atv_local.answer import Engine
from atv_local.errors import UsageError
from atv_local.generator import Bundle, Generator
from atv_local.target import Target

def engine():
    return Engine(Target(Path(sys.argv[1]), n_threads=1), Generator(Bundle(Path(sys.argv[2]))))
"""


def run(source: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """A script that begins with START, which must end by itself."""
    command = [sys.executable, "-X", "faulthandler", "-c", START + source, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_two_engines_of_one_target_do_not_mix(target: Target, tiny_generator: Generator) -> None:
    steered, base = Engine(target, tiny_generator), Engine(target)
    expected = [event.text for event in steered.stream("dog 1", max_tokens=MAX_TOKENS)]
    plain = base.answer("what is this?", max_tokens=MAX_TOKENS).text
    long = base.stream("what is this?", steering=OFF, max_tokens=MAX_TOKENS)
    opening = next(long).text
    calls = (
        lambda: steered.answer("dog 1"),
        lambda: next(steered.stream("dog 1")),
        lambda: steered.chat([{"role": "user", "content": "dog 1"}]),
        lambda: target.prefill([1, 2]),
        lambda: target.evaluate([1]),
        lambda: next(target.read([1])),
        lambda: target.apply(steered.vector("dog 1")),
        target.reset,
        lambda: next(score_text(target, [1, 2, 3], 0)),
    )
    for call in calls:
        with pytest.raises(UsageError, match="close it"):
            call()
    assert opening + "".join(event.text for event in long) == plain
    assert [event.text for event in steered.stream("dog 1", max_tokens=MAX_TOKENS)] == expected


def test_another_thread_waits_for_its_turn(engine: Engine) -> None:
    expected = engine.answer("dog 1", max_tokens=MAX_TOKENS).text
    whole = engine.answer("what is this?", steering=OFF, max_tokens=MAX_TOKENS).text
    found: list[str] = []
    stream = engine.stream("what is this?", steering=OFF, max_tokens=MAX_TOKENS)
    opening = next(stream).text
    thread = threading.Thread(target=lambda: found.append(engine.answer("dog 1", max_tokens=MAX_TOKENS).text))
    thread.start()
    assert opening + "".join(event.text for event in stream) == whole
    thread.join(30)
    assert found == [expected]


def test_a_waiting_thread_gets_an_error_when_the_target_is_closed(engine: Engine) -> None:
    errors: list[UsageError] = []

    def wait() -> None:
        try:
            engine.answer("dog 1")
        except UsageError as error:
            errors.append(error)

    stream = engine.stream("what is this?", steering=OFF, max_tokens=MAX_TOKENS)
    next(stream)
    thread = threading.Thread(target=wait)
    thread.start()
    engine.close()
    thread.join(30)
    assert len(errors) == 1
    assert "closed" in str(errors[0])


def test_the_last_event_ends_the_turn(engine: Engine) -> None:
    stream = engine.stream("dog 1", max_tokens=1)
    assert next(stream).finish_reason
    assert engine.answer("dog 1", max_tokens=1).finish_reason


def test_ids_that_are_no_tokens_are_refused(engine: Engine) -> None:
    target = engine.target
    for wrong in (-1, target.vocabulary.n_tokens, 1 << 31, 1 << 80):
        prompt = Prompt((1, wrong, 2), 0)
        calls = (
            lambda wrong=wrong: target.prefill([1], [wrong]),
            lambda wrong=wrong: target.evaluate([1, wrong]),
            lambda wrong=wrong: list(target.read([wrong])),
            lambda wrong=wrong: list(score_text(target, [1, 2, wrong], 0)),
            lambda wrong=wrong: target.vocabulary.piece(wrong),
            lambda wrong=wrong: target.vocabulary.ends(wrong),
            lambda prompt=prompt: next(engine.stream("a", prompt=prompt)),
            lambda prompt=prompt: list(Batch(engine).ask([BatchQuestion(prompt, max_tokens=1)])),
        )
        for call in calls:
            with pytest.raises(UsageError, match=str(wrong)):
                call()
    assert engine.answer("dog 1", max_tokens=MAX_TOKENS).text == "b"


def test_logits_stay_readable_after_the_target_is_closed(target: Target) -> None:
    logits = target.evaluate([1, 2])
    before = logits.copy()
    target.close()
    assert np.array_equal(logits, before)
    for call in (target.logits, target.reset, lambda: target.prefill([1]), target.turn):
        with pytest.raises(UsageError, match="closed"):
            call()
    target.clear()
    target.close()


def test_a_forked_child_is_told_to_load_the_engine_itself(tiny_gguf: Path, tiny_bundle: Path) -> None:
    result = run(
        """
engine = engine()
engine.answer("dog 1", max_tokens=4)
stream = engine.stream("dog 1", max_tokens=4)
next(stream)
if os.fork() == 0:
    calls = (lambda: engine.answer("dog 1"), lambda: engine.vector("dog 1"), lambda: engine.target.evaluate([1]),
             lambda: list(engine.answer_many(["dog 1"])), lambda: next(stream))
    for call in calls:
        try:
            call()
            print("no error")
        except UsageError as error:
            print("fork" in str(error))
    engine.close()
    del engine
    sys.exit(0)
os.wait()
print(len(list(stream)) > 0, engine.answer("dog 1", max_tokens=4).text)
""",
        tiny_gguf,
        tiny_bundle,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split() == ["True"] * 6 + ["b"]


@pytest.mark.parametrize(
    "call",
    [
        "shared.answer('what is this?')",
        "list(shared.answer_many(['dog 1', 'apple 2'] * 9))",
        "shared.vector('dog 1')",  # ONNX Runtime aborted the process in about one of five
    ],
)
def test_a_daemon_thread_that_works_at_exit_neither_crashes_nor_hangs(
    tiny_gguf: Path, tiny_bundle: Path, call: str
) -> None:
    result = run(
        f"""
shared, begun = engine(), threading.Event()

def work():
    try:
        while True:
            {call}
            begun.set()
    except UsageError:
        pass

threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
begun.wait()
""",
        tiny_gguf,
        tiny_bundle,
    )
    assert result.returncode == 0, result.stderr


def test_closing_while_threads_answer_is_an_error_for_them(tiny_gguf: Path, tiny_bundle: Path) -> None:
    result = run(
        """
generator = Generator(Bundle(Path(sys.argv[2])))
kinds = set()
for _ in range(20):
    engine = Engine(Target(Path(sys.argv[1]), n_threads=1), generator)
    begun = threading.Event()

    def work():
        try:
            while True:
                engine.answer("what is this?", max_tokens=20)
                begun.set()
        except Exception as error:
            kinds.add(type(error))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    begun.wait()
    engine.close()
    for thread in threads:
        thread.join()
print(kinds == {UsageError} or kinds)
""",
        tiny_gguf,
        tiny_bundle,
    )
    assert (result.returncode, result.stdout.strip()) == (0, "True"), result.stderr


def test_many_threads_give_the_answers_of_one(tiny_gguf: Path, tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.thread_stress", "--seconds", "2", "--threads", "6"]
    command += ["--model", str(tiny_gguf), "--bundle", str(tiny_bundle)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(json.loads(result.stdout)["calls"]) >= {"answer", "stream", "stop"}


def test_an_unfinished_answer_at_exit_says_nothing(tiny_gguf: Path, tiny_bundle: Path) -> None:
    code = f"import atv_local; answer = atv_local.load({str(tiny_gguf)!r}, {str(tiny_bundle)!r}).stream('dog 1')"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}; next(answer)"], capture_output=True, text=True, check=False, timeout=120
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.train
def test_what_is_unfinished_at_exit_ends_in_silence(tiny_gguf: Path, tiny_bundle: Path) -> None:
    """With torch, Python clears the names of all modules before it collects what a script still holds."""
    result = run(
        """
import atv_local, torch

first = atv_local.load(sys.argv[1], sys.argv[2])
batch = atv_local.Batch(first)
scores = batch.score(["apple 1", "cat 2"], ["a", "b"])
next(scores)
answers = first.answer_many(["dog 1", "apple 2", "pig 3"])
next(answers)
second = atv_local.load(sys.argv[1], sys.argv[2])
events = second.stream("apple 1", max_tokens=5)
next(events)
""",
        tiny_gguf,
        tiny_bundle,
    )
    assert (result.returncode, result.stderr) == (0, "")
