"""Many questions at once: each gets what it would get alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import atv_local
from atv_local.answer.answer import Finish
from atv_local.answer.engine import Engine
from atv_local.batch.batch import Batch, BatchQuestion, SteeredPrompt
from atv_local.batch.limits import MAX_PARALLEL
from atv_local.errors import PromptError, UnstableError, UsageError
from atv_local.generator.generator import Generator
from atv_local.target.prompt import Prompt
from atv_local.target.sampling import Sampling
from atv_local.target.target import Target
from atv_local.vectors.steering import OFF, Positions, Steering
from atv_local.vectors.task_vector import TaskVector
from tests import ROOT

DEMO = ROOT / "data" / "demo" / "test"


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path, tiny_generator: Generator) -> Engine:
    return Engine(Target(tiny_gguf, n_threads=1), tiny_generator)


@pytest.fixture(scope="module")
def real(smollm2: Path) -> Engine:
    return atv_local.load(smollm2)


def alone(engine: Engine, query: str, steering: Steering, max_tokens: int) -> str:
    return engine.answer(query, steering=steering, max_tokens=max_tokens).text


def test_the_real_target_says_bit_for_bit_what_it_says_one_by_one(real: Engine) -> None:
    lines = [line for file in sorted(DEMO.glob("*.jsonl")) for line in file.read_text().splitlines()[:4]]
    queries = [json.loads(line)["input"] for line in lines]
    prompts = real.target.prompts
    steering = replace(real.steering, gate="off")
    last = Steering(0.7, (4, 20), Positions.LAST, gate="off")
    everything = Steering(0.2, None, Positions.ALL, gate="off")
    styles = (OFF, steering, last, everything)

    def questions() -> Iterator[BatchQuestion]:
        for query in queries:
            vector = real.vector(query)
            options = [prompts.answer(query, text) for text in ("ham", "spam", "travel", "banking")]
            yield BatchQuestion(prompts(query), [SteeredPrompt.of(style, vector) for style in styles], 12, options)

    together = list(Batch(real).ask(questions()))
    few = list(Batch(real, parallel=20, n_ctx=400).ask(questions()))
    assert [reply.outcomes for reply in together] == [reply.outcomes for reply in few]
    for query, reply in zip(queries, together, strict=True):
        assert not reply.error
        exact = styles if len(prompts(query).tokens) < 64 else styles[:3]  # `all` evaluates the whole prompt at once
        assert [o.text for o in reply.outcomes[: len(exact)]] == [alone(real, query, style, 12) for style in exact]


def test_options_score_as_the_target_evaluates_them_alone(real: Engine) -> None:
    prompts, target, query = real.target.prompts, real.target, "book me a flight to rome"
    texts, vector, prompt = ["travel", "kitchen and dining", "t"], real.vector(query), prompts(query)
    options = [prompts.answer(query, text) for text in texts]
    (reply,) = Batch(real).ask(
        [BatchQuestion(prompt, [SteeredPrompt(), SteeredPrompt.of(real.steering, vector)], options=options)]
    )
    for outcome, steered in zip(reply.outcomes, (False, True), strict=True):
        for option, found in zip(options, outcome.options, strict=True):
            target.reset()
            target.prefill(prompt.tokens[: prompt.shared], prompt.tokens[prompt.shared : -1])
            if steered:
                target.apply(real.steering.apply(vector))
            total = 0.0
            for before, token in zip((prompt.tokens[-1], *option), option, strict=False):
                logits = np.float64(target.evaluate([before]))
                total += logits[token] - logits.max() - np.log(np.exp(logits - logits.max()).sum())
            assert found == pytest.approx(total, abs=1e-3)
    target.reset()
    base, steered_ones = (reply.outcomes[0].options, reply.outcomes[1].options)
    assert np.argmax(steered_ones) == 0
    assert base != steered_ones


def test_positions_and_vectors_of_neighbours_do_not_meet(tiny: Engine) -> None:
    vector = TaskVector(np.random.default_rng(0).normal(size=(tiny.target.n_rows, tiny.target.n_embd)))
    prompt = tiny.target.prompts("hello there")
    option = tiny.target.prompts.answer("hello there", "abc")
    ways = [SteeredPrompt(), *(SteeredPrompt.of(Steering(s, None, p), vector) for s in (0.1, 1, 3) for p in Positions)]
    (together,) = Batch(tiny).ask([BatchQuestion(prompt, ways, 8, [option])])
    singly = [next(iter(Batch(tiny).ask([BatchQuestion(prompt, [way], 8, [option])]))).outcomes[0] for way in ways]
    for found, wanted in zip(together.outcomes, singly, strict=True):
        assert found.text == wanted.text
        assert found.options == pytest.approx(wanted.options, abs=1e-3)
    assert len({round(outcome.options[0], 3) for outcome in together.outcomes}) == len(ways)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(st.integers(1, 90), st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=12),
    parallel=st.integers(5, 19),
    n_ctx=st.integers(130, 600),
)
def test_any_mixture_comes_back_whole_and_in_order(
    tiny: Engine, sizes: list[tuple[int, int, int]], parallel: int, n_ctx: int
) -> None:
    rng = np.random.default_rng(1)
    questions = [
        BatchQuestion(
            Prompt(tuple(int(t) for t in rng.integers(5, 260, length)), min(length - 1, 20)),
            max_tokens=max_tokens,
            options=[[int(t) for t in rng.integers(5, 260, n + 1)] for n in range(n_options)],
            tag=index,
        )
        for index, (length, max_tokens, n_options) in enumerate(sizes)
        if max_tokens or n_options
    ]
    replies = list(Batch(tiny, parallel=parallel, n_ctx=n_ctx).ask(questions))
    assert [reply.question.tag for reply in replies] == [question.tag for question in questions]
    for reply in replies:
        assert reply.error is None
        assert reply.n_evaluated >= len(reply.question.prompt.tokens) - reply.question.prompt.shared
        assert len(reply.outcomes[0].options) == len(reply.question.options)
        assert all(np.isfinite(reply.outcomes[0].options))


def test_a_prompt_too_long_and_a_vector_too_strong_are_their_own_misfortune(tiny: Engine) -> None:
    prompts = tiny.target.prompts
    shape = tiny.target.n_rows, tiny.target.n_embd
    monstrous = SteeredPrompt(TaskVector(np.full(shape, 3e38)))
    asked = [
        BatchQuestion(prompts("first"), max_tokens=4),
        BatchQuestion(prompts("a" * 2000), max_tokens=4),
        BatchQuestion(prompts("second"), [monstrous], max_tokens=4),
        BatchQuestion(prompts("third"), max_tokens=4),
    ]
    found = list(Batch(tiny).ask(asked))
    assert [type(reply.error) for reply in found] == [type(None), PromptError, UnstableError, type(None)]
    for reply, query in ((found[0], "first"), (found[3], "third")):
        assert reply.outcomes[0].text == alone(tiny, query, OFF, 4)


def test_answers_end_as_those_of_the_engine(tiny: Engine) -> None:
    prompts = tiny.target.prompts
    query = "apple 1"
    long = "a" * (tiny.target.n_ctx - len(prompts("").tokens) - 3)
    asked = [
        BatchQuestion(prompts(query), [SteeredPrompt.of(tiny.steering, tiny.vector(query))], max_tokens=20),
        BatchQuestion(prompts(query), max_tokens=3, sampling=Sampling(1.0, seed=3)),
        BatchQuestion(prompts(query), max_tokens=3, sampling=Sampling(1.0, seed=3)),
        BatchQuestion(prompts(long), max_tokens=20),
        BatchQuestion(prompts(query), max_tokens=20, enough=lambda written: len(written) == 2),
    ]
    steered, drawn, again, full, enough = (reply.outcomes[0] for reply in Batch(tiny).ask(asked))
    events = list(tiny.stream(query, max_tokens=20))
    assert (steered.text, steered.finish_reason) == ("".join(event.text for event in events), events[-1].finish_reason)
    assert drawn == again
    assert len(drawn.tokens) <= 3
    last = list(tiny.stream(long, steering=OFF, max_tokens=20))[-1]
    assert (full.finish_reason, len(full.tokens)) == (last.finish_reason, last.tokens.generated) == (Finish.CONTEXT, 4)
    assert len(enough.tokens) == 2


def test_what_questions_share_is_evaluated_once(tiny: Engine) -> None:
    prompts, batch = tiny.target.prompts.after(system="answer with one letter"), Batch(tiny)
    asked = [BatchQuestion(prompts(f"query {n}"), [SteeredPrompt(), SteeredPrompt()], max_tokens=1) for n in range(30)]
    list(batch.ask(asked))
    own = sum(len(question.prompt.tokens) - question.prompt.shared + 1 for question in asked)  # the last token twice
    assert batch.n_evaluated == own + asked[0].prompt.shared


def test_questions_are_drawn_as_there_is_room(tiny: Engine) -> None:
    drawn = 0

    def endless() -> Iterator[BatchQuestion]:
        nonlocal drawn
        prompts = tiny.target.prompts
        while True:
            drawn += 1
            yield BatchQuestion(prompts(f"query {drawn}"), max_tokens=1)

    replies = Batch(tiny, parallel=7).ask(endless())
    for _ in range(5):
        next(replies)
    assert drawn < 60
    replies.close()
    assert len(list(Batch(tiny).ask([]))) == 0


def test_a_small_context_of_many_sequences_takes_a_full_batch(tiny: Engine) -> None:
    prompt = tiny.target.prompts("apple 1")
    replies = list(Batch(tiny, parallel=3, n_ctx=16).ask([BatchQuestion(prompt, max_tokens=2)] * 3))
    assert [reply.outcomes[0].n_generated for reply in replies if not reply.error] == [2, 2, 2]


def test_more_ways_and_options_than_fit_at_a_time_are_asked_in_parts(tiny: Engine) -> None:
    prompts = tiny.target.prompts
    rng = np.random.default_rng(2)
    vector = TaskVector(rng.normal(size=(tiny.target.n_rows, tiny.target.n_embd)))
    options = [[int(token) for token in rng.integers(5, 260, 2 + n % 3)] for n in range(40)]
    ways = [
        SteeredPrompt(),
        SteeredPrompt.of(Steering(0.5), vector),
        SteeredPrompt.of(Steering(0.5, None, Positions.ALL), vector),
    ]
    asked = [
        BatchQuestion(prompts("fig 1"), ways, 4, options),
        BatchQuestion(prompts("fig 2"), ways[:1], 4, tag="next"),
    ]
    roomy, tight = (list(Batch(tiny, parallel=n).ask(asked)) for n in (254, 8))
    assert [reply.question for reply in tight] == asked
    for wide, narrow in zip(roomy, tight, strict=True):
        assert narrow.error is None
        assert [outcome.text for outcome in narrow.outcomes] == [outcome.text for outcome in wide.outcomes]
        for one, other in zip(narrow.outcomes, wide.outcomes, strict=True):
            assert one.options == pytest.approx(other.options, abs=1e-3)
            assert len(one.options) == len(one.greedy)


def test_what_cannot_be_asked_is_refused(tiny: Engine) -> None:
    prompt = tiny.target.prompts("fig")
    for wrong in ({"ways": (), "max_tokens": 1}, {"max_tokens": 0}):
        with pytest.raises(UsageError):
            BatchQuestion(prompt, **wrong)  # type: ignore[arg-type]
    batch = Batch(tiny)
    first = batch.ask([BatchQuestion(prompt, max_tokens=1)] * 3)
    next(first)
    with pytest.raises(UsageError, match="close it"):
        next(batch.ask([BatchQuestion(prompt, max_tokens=1)]))
    first.close()
    assert len(list(batch.ask([BatchQuestion(prompt, max_tokens=1)]))) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("engine", None),
        ("engine", "tiny.gguf"),
        ("parallel", 0),
        ("parallel", 255),
        ("parallel", 2.5),
        ("n_ctx", 0),
        ("n_ctx", -3),
        ("n_ctx", 1 << 40),
        ("n_ctx", "64"),
    ],
)
def test_a_batch_of_parts_of_another_type_or_size(tiny: Engine, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"`{name}` {value!r}"):
        Batch(**{"engine": tiny, name: value})  # type: ignore[arg-type]  # the mistake under test


def test_one_answer_at_a_time_and_the_most_that_llama_cpp_takes(tiny: Engine) -> None:
    """The sequence of what prompts share is not counted, so that one name means as much everywhere."""
    assert llama_cpp.llama_max_parallel_sequences() == MAX_PARALLEL + 2
    expected = [tiny.answer(query, max_tokens=3).text for query in ("apple 1", "dog 1")]
    for parallel in (1, MAX_PARALLEL):
        with Batch(tiny, parallel=parallel) as batch:
            assert [answer.text for answer in batch.answer(["apple 1", "dog 1"], max_tokens=3)] == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("options", "ab"),
        ("options", [1]),
        ("options", ["a", None]),
        ("options", 5),
        ("options", []),
        ("queries", "apple 1"),
        ("queries", 5),
        ("steering", 0.5),
        ("system", 5),
    ],
)
def test_what_cannot_be_scored_is_refused(tiny: Engine, name: str, value: object) -> None:
    with Batch(tiny) as batch, pytest.raises(UsageError, match=f"`{name}`"):
        list(batch.score(**{"queries": ["apple 1"], "options": ["a", "b"], name: value}))  # type: ignore[arg-type]


def test_a_text_is_no_question(tiny: Engine) -> None:
    with Batch(tiny) as batch, pytest.raises(UsageError, match=r"'apple 1'.*question"):
        list(batch.ask("apple 1" for _ in range(2)))  # type: ignore[misc]  # the mistake under test


def test_options_may_be_drawn(tiny: Engine) -> None:
    with Batch(tiny) as batch:
        assert list(batch.score(["apple 1"], iter(["a", "b"]))) == list(batch.score(["apple 1"], ["a", "b"]))  # type: ignore[arg-type]


def test_a_closed_batch_frees_its_own_context_and_not_the_engine(tiny: Engine) -> None:
    with Batch(tiny) as batch:
        unfinished = batch.answer(["apple 1"] * 400, max_tokens=3)
        first = next(unfinished)
    for call in (
        lambda: list(unfinished),
        lambda: list(batch.answer(["apple 1"])),
        lambda: list(batch.score([], ["a"])),
        lambda: list(batch.distributions([BatchQuestion(tiny.target.prompts("fig"), options=[[5, 6]])])),
    ):
        with pytest.raises(UsageError, match="batch is closed"):
            call()
    batch.close()
    assert tiny.answer("apple 1", max_tokens=3).text == first.text
    with Batch(tiny) as other:
        assert next(other.answer(["apple 1"], max_tokens=3)).text == first.text


def test_a_batch_closed_by_another_thread_ends_its_call(tiny: Engine) -> None:
    batch = Batch(tiny)
    answers = batch.answer(["apple 1", "dog 1"] * 2000, max_tokens=5)
    next(answers)
    closing = threading.Timer(0.05, batch.close)
    closing.start()
    with pytest.raises(UsageError, match="batch is closed"):
        list(answers)
    closing.join()
