"""What an engine gives to Python code: answers, chats, many answers at once, and errors that say the way out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atv_local
from atv_local import (
    OFF,
    Answer,
    AtvError,
    Batch,
    Conversation,
    Engine,
    Finish,
    Generator,
    Positions,
    PromptError,
    Sampling,
    Steering,
    Target,
    TaskVector,
    UsageError,
)

QUERIES = ["apple 1", "dog 1", "what is this?", "pear 2"]


def test_an_answer_is_what_the_stream_adds_up_to(engine: Engine) -> None:
    events = list(engine.stream("what is this?", steering=OFF, max_tokens=12))
    answer = engine.answer("what is this?", steering=OFF, max_tokens=12)
    last = events[-1]
    assert answer.text == str(answer) == "".join(event.text for event in events)
    assert answer.finish_reason is last.finish_reason
    assert (answer.tokens.prompt, answer.tokens.generated) == (last.tokens.prompt, last.tokens.generated)
    assert answer.tokens.evaluated < last.tokens.evaluated  # the prompt was in the cache
    assert answer.timings_ms is not None
    assert 0 < answer.timings_ms.first_token <= answer.timings_ms.total


def test_an_answer_as_json_says_what_steered_it(engine: Engine) -> None:
    assert engine.generator is not None
    record = json.loads(json.dumps(engine.answer("apple 1", steering=Steering(0.5, (1, 2))).as_dict()))
    assert record.keys() == {
        *("text", "finish_reason", "tokens", "timings_ms"),
        *("bundle", "precision", "provider", "strength", "layers", "positions", "control_vectors"),
    }
    assert (record["strength"], record["layers"], record["positions"]) == (0.5, [1, 2], "decode")
    assert (record["bundle"], record["provider"]) == (engine.generator.bundle.id, "cpu")
    assert engine.answer("apple 1", max_tokens=1).as_dict()["layers"] == [1, 3]
    off = engine.answer("apple 1", steering=OFF, max_tokens=2).as_dict()
    assert (off["strength"], off["finish_reason"]) == (0, "length")
    assert off["bundle"] is off["precision"] is off["provider"] is off["layers"] is off["positions"] is None


def test_a_vector_is_given_as_an_array_or_a_file_too(engine: Engine, tmp_path: Path) -> None:
    vector = engine.vector("dog 1")
    vector.save(tmp_path / "v.gguf")
    given = [vector, np.asarray(vector), vector.array.tolist(), tmp_path / "v.gguf", str(tmp_path / "v.gguf")]
    answers = [engine.answer("apple 1", vector=each) for each in given]
    assert {answer.text for answer in answers} == {answers[0].text}
    assert answers[0].text.startswith("b")
    assert {answer.bundle for answer in answers} == {None}
    listed = [answer.as_dict()["control_vectors"] for answer in answers]
    assert [[one["name"] for one in vectors] for vectors in listed] == [["vector"]] * 3 + [["v.gguf"]] * 2
    assert len({vectors[0]["sha256"] for vectors in listed[:3]}) == 1
    off = engine.answer("apple 1", vector=vector, steering=OFF, max_tokens=1)
    assert off.as_dict()["control_vectors"] == []
    bare = Engine(engine.target)
    found = bare.answer("apple 1", vector=vector).steering
    assert replace(found, control_vectors=None) == Steering(layers=(1, 3))
    assert bare.answer("apple 1", max_tokens=1).steering == OFF


def test_a_chat_answers_its_last_message(engine: Engine) -> None:
    assert engine.chat([{"role": "user", "content": "apple 1"}]).text == engine.answer("apple 1").text
    conversation = Conversation(engine, system="be kind", max_tokens=6)
    list(conversation.stream("apple 1"))
    list(conversation.stream("dog 1"))
    *messages, _ = conversation.messages
    answer = engine.chat(messages, max_tokens=6)
    assert answer.text == conversation.last.answer_text
    assert answer.tokens.prompt == conversation.last.record["tokens"]["prompt"]


def test_a_chat_takes_the_roles_and_parts_of_openais_api(engine: Engine) -> None:
    parts = [{"type": "text", "text": "apple "}, {"type": "text", "text": "1"}]
    for role in ("system", "developer"):
        messages = [{"role": role, "content": "be kind"}, {"role": "user", "content": parts, "name": "eve"}]
        given, plain = engine.chat(messages, max_tokens=6), engine.answer("apple 1", system="be kind", max_tokens=6)
        assert (given.text, given.tokens.prompt) == (plain.text, plain.tokens.prompt)
    silent = [{"role": "user", "content": "apple 1"}, {"role": "assistant", "content": None, "tool_calls": None}]
    empty = [silent[0], {"role": "assistant", "content": ""}]
    texts = {engine.chat([*before, {"role": "user", "content": "dog 1"}]).text for before in (silent, empty)}
    assert len(texts) == 1


@pytest.mark.parametrize(
    "messages",
    [
        "hello",
        [],
        ["hello"],
        [{"role": "assistant", "content": "hi"}],
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a"}}]}],
        [{"role": "user", "content": "hi", "tool_calls": [{}]}],
        *(
            [{"role": role, "content": "be kind"}, {"role": "user", "content": "hi"}]
            for role in ("System", "foo", None)
        ),
        [{"role": "system", "content": "\ud800"}, {"role": "user", "content": "hi"}],
    ],
)
def test_a_chat_that_cannot_be_answered(engine: Engine, messages: Any) -> None:
    with pytest.raises(UsageError, match="messages"):
        engine.chat(messages)


def test_many_answers_are_those_of_single_queries(engine: Engine) -> None:
    for settings in (
        {"steering": OFF},
        {"steering": Steering(positions=Positions.LAST)},
        {"system": "be kind", "sampling": Sampling(1.0, seed=3)},
    ):
        many = list(engine.answer_many(iter(QUERIES), max_tokens=6, **settings))
        single = [engine.answer(query, max_tokens=6, **settings) for query in QUERIES]
        assert [(a.text, a.finish_reason, a.steering, a.bundle) for a in many] == [
            (a.text, a.finish_reason, a.steering, a.bundle) for a in single
        ]
        assert [a.tokens.prompt for a in many] == [a.tokens.prompt for a in single]
        assert all(0 < a.tokens.evaluated <= a.tokens.prompt for a in many)
        assert {a.timings_ms for a in many} == {None}
        assert json.dumps(many[0].as_dict())


def test_many_answers_come_in_order_until_one_fails(engine: Engine) -> None:
    answers = Batch(engine).answer(["apple 1", "x" * 2000, "dog 1"], max_tokens=2)
    assert next(answers).text == "a"
    with pytest.raises(PromptError):
        next(answers)


def test_options_are_scored_as_answers(engine: Engine) -> None:
    batch = Batch(engine)
    fruit, beast = batch.score(["apple 1", "dog 1"], ["a", "b"])
    assert fruit[0] > fruit[1]
    assert beast[0] < beast[1]
    assert sum(np.exp(fruit)) <= 1
    (base,) = batch.score(["apple 1"], ["a", "b"], steering=OFF)
    assert base != fruit
    with pytest.raises(UsageError, match="options"):
        next(batch.score(["apple 1"], []))


def test_an_engine_is_closed_after_its_block(tiny_gguf: Path) -> None:
    with atv_local.load(tiny_gguf, off=True, n_threads=1) as engine:
        stream = engine.stream("hello", max_tokens=9)
        next(stream)
    for ended in (lambda: next(stream), lambda: engine.target.evaluate([1])):
        with pytest.raises(UsageError, match=r"tiny\.gguf is closed"):
            ended()
    for call in (lambda: engine.answer("hello"), lambda: engine.stream("hello"), lambda: engine.answer_many(["hello"])):
        with pytest.raises(UsageError, match="engine is closed; load"):
            call()
    engine.close()


def test_nothing_of_a_closed_engine_can_be_used(tiny_gguf: Path, tiny_bundle: Path) -> None:
    engine = atv_local.load(tiny_gguf, tiny_bundle, n_threads=1)
    conversation, batch = Conversation(engine, max_tokens=2), Batch(engine)
    conversation.answer("dog 1")
    question = batch.question("apple 1", max_tokens=2)
    unfinished = batch.ask([question] * 400)
    next(unfinished)
    engine.close()
    for call in (
        lambda: next(unfinished),
        lambda: engine.vector("apple 1"),
        lambda: conversation.answer("apple 1"),
        conversation.again,
        conversation.compare,
        lambda: batch.answer(["apple 1"]),
        lambda: batch.score(["apple 1"], ["a"]),
        lambda: batch.ask([question]),
        lambda: batch.distributions([question]),
        lambda: Batch(engine),
    ):
        with pytest.raises(UsageError, match="engine is closed; load"):
            call()
    batch.close()


def test_a_batch_of_many_answers_is_freed_with_its_generator(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    free = Batch.close
    monkeypatch.setattr(Batch, "close", lambda batch: (free(batch), closed.append(batch)))
    answers = engine.answer_many(["apple 1"] * 400, max_tokens=2)
    next(answers)
    assert not closed
    answers.close()
    assert len(closed) == 1
    engine.answer_many(["apple 1"]).close()  # of which nothing was drawn
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda engine, _: engine.stream(" "), "empty"),
        (lambda engine, _: engine.stream("a", max_tokens=0), "`max_tokens` 0"),
        (lambda engine, _: engine.stream("a", sampling=0.7), "`sampling` 0.7"),
        (lambda engine, _: engine.stream("a", system=5), "`system` 5"),
        (lambda engine, _: engine.stream("a", steering=Steering(layers=(1, 999))), "999"),
        (lambda engine, _: engine.stream("a" * 5000), "n_ctx"),
        (lambda engine, _: engine.answer_many("a"), "`queries` 'a'"),
        (lambda engine, _: engine.answer_many(["a"], steering=0.5), "`steering` 0.5"),
        (lambda engine, _: engine.answer_many(["a"], max_tokens="9"), "`max_tokens` '9'"),
        (lambda _, batch: batch.answer(5), "`queries` 5"),
        (lambda _, batch: batch.answer(["a"], steering=Steering(layers=(1, 999))), "999"),
        (lambda _, batch: batch.answer(["a"], system=5), "`system` 5"),
        (lambda _, batch: batch.score(["a"], "ab"), "`options` 'ab'"),
        (lambda _, batch: batch.score(["a"], []), "`options`"),
        (lambda _, batch: batch.score("a", ["b"]), "`queries` 'a'"),
        (lambda _, batch: batch.ask(batch.question("a", max_tokens=1)), "`questions` BatchQuestion"),
        (lambda _, batch: batch.ask("a"), "`questions` 'a'"),
        (lambda _, batch: batch.distributions(5), "`questions` 5"),
        (lambda _, batch: next(batch.distributions([5])), "5 is not a BatchQuestion"),
        (lambda _, batch: next(batch.distributions([batch.question("a", max_tokens=1)])), "0 options"),
    ],
)
def test_arguments_are_checked_before_the_first_item(
    engine: Engine, mistake: Callable[[Engine, Batch], object], says: str
) -> None:
    with Batch(engine) as batch, pytest.raises((UsageError, PromptError), match=re.escape(says)):
        mistake(engine, batch)


def test_an_engine_without_a_generator_says_so_before_the_first_item(tiny_gguf: Path) -> None:
    with atv_local.load(tiny_gguf, off=True, n_threads=1) as engine, Batch(engine) as batch:
        for call in (engine.stream, lambda query, **how: engine.answer_many([query], **how)):
            with pytest.raises(UsageError, match="`bundle="):
                call("apple 1", steering=Steering())
        with pytest.raises(UsageError, match="`bundle="):
            batch.score(["apple 1"], ["a"], steering=Steering())


def test_steering_is_given_when_an_engine_is_made(target: Target, tiny_generator: Generator) -> None:
    steering = Steering(strength=0.25)
    engine = Engine(target, tiny_generator, steering=steering)
    assert engine.steering is steering
    assert engine.answer("apple 1", max_tokens=1).steering.strength == 0.25
    with pytest.raises(AttributeError):
        engine.steering = OFF  # type: ignore[misc]  # the mistake under test


def test_names_of_positions_and_layers_are_read() -> None:
    expected = Steering(1.0, (2, 3), Positions.ALL)
    assert Steering(positions="all", layers="2-3") == expected  # type: ignore[arg-type]
    assert Steering(positions="all", layers=[2, 3]) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda _: Engine("tiny.gguf"), "atv_local.load"),  # type: ignore[arg-type]
        (lambda engine: engine.answer("x", steering=0.5), "Steering(strength=0.5)"),
        (lambda engine: engine.answer("x", sampling=0.7), "Sampling(temperature=0.7)"),
        (lambda engine: engine.answer(["x", "y"]), "list"),
        (lambda engine: engine.answer("x", max_tokens=0), "max_tokens"),
        (lambda engine: next(engine.answer_many(["x"], max_tokens=0)), "max_tokens"),
        (lambda engine: engine.answer("x", vector=np.ones((2, 2))), "[3, 64]"),
        (lambda engine: engine.answer("x", vector="absent.gguf"), "absent.gguf"),
        (lambda _: Steering(positions="some"), "all, last, decode"),  # type: ignore[arg-type]
        (lambda _: Steering(layers="a"), "'a'"),  # type: ignore[arg-type]
        (lambda _: Steering(layers=(1, 2, 3)), "(1, 2, 3)"),  # type: ignore[arg-type]
    ],
)
def test_a_mistake_names_the_value_or_the_way_out(engine: Engine, mistake: Callable[[Engine], Any], says: str) -> None:
    with pytest.raises(AtvError) as caught:
        mistake(engine)
    assert says in str(caught.value)


def test_things_say_in_one_line_what_they_are(engine: Engine) -> None:
    assert engine.generator is not None
    bundle = engine.generator.bundle
    for thing, words in (
        (engine, ["tiny", bundle.id, "strength=1"]),
        (engine.target, ["tiny", "llama", "512"]),
        (engine.generator, [bundle.id, "cpu"]),
        (bundle, [bundle.id, bundle.path.name]),
        (Steering(0.5, (1, 2)), ["0.5", "(1, 2)", "'decode'"]),
        (engine.vector("apple 1"), ["3", "64"]),
        (Batch(engine), ["tiny", "128"]),
        (Conversation(engine), ["0 turns", "tiny"]),
    ):
        text = repr(thing)
        assert text.startswith(type(thing).__name__ + "(")
        assert "\n" not in text
        assert all(word in text for word in words), text


def test_the_public_names_are_there() -> None:
    assert {"Answer", "Batch", "Finish", "load", "UsageError"} <= set(dir(atv_local))
    assert Answer is atv_local.answer.Answer
    assert Finish.STOP == "stop"
    assert TaskVector is atv_local.vectors.TaskVector
