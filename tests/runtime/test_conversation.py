"""Conversations: what is evaluated again from turn to turn, what steers, and that answers are a fresh engine's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import atv_local
from atv_local import (
    OFF,
    Answer,
    Conversation,
    Engine,
    Event,
    Generator,
    Positions,
    Sampling,
    Steering,
    Target,
    TaskVector,
)
from atv_local.answer import GatedVector
from atv_local.answer.conversation import Turn
from atv_local.errors import ModelError, PromptError, UsageError
from atv_local.target.fitted_template import Message
from atv_local.target.prompt import Prompt, PromptFormat
from atv_local.target.target_context import OwnContext
from tests.runtime.templates import AT_THE_END, FORGED, FORGETTING
from tests.tiny import write_gguf

STEERINGS = (OFF, Steering(), Steering(strength=0.5), *(Steering(positions=how) for how in Positions))


def answer(events: Iterator[Event]) -> tuple[str, Event]:
    found = list(events)
    return "".join(event.text for event in found), found[-1]


def new(prompt: Prompt) -> int:
    """Tokens of the answer before and of the new message."""
    return sum(map(len, prompt.segments[-2:])) + 1


def held(engine: Engine, turns: Sequence[tuple[str, Steering]], **more: object) -> Conversation:
    """A conversation of these turns, each under its steering."""
    conversation = Conversation(engine, max_tokens=6, **more)
    for text, steering in turns:
        conversation.steering = steering
        answer(conversation.stream(text))
    return conversation


@pytest.mark.parametrize("steering", [OFF, Steering(), Steering(positions=Positions.LAST)])
def test_earlier_prompts_are_kept_and_the_answer_before_is_read_again(engine: Engine, steering: Steering) -> None:
    conversation = Conversation(engine, steering=steering, max_tokens=6)
    kept = 0
    for text in ("apple 1", "a dog", "what is this?", "dog 1"):
        prompt = conversation.prompt(text)
        last = answer(conversation.stream(text))[1]
        assert last.tokens.evaluated == len(prompt.tokens) - kept
        if kept:
            assert last.tokens.evaluated == new(prompt)
        kept = len(prompt.tokens) - 1  # all but the one that was steered


def test_with_all_positions_nothing_is_kept_before_or_after(engine: Engine) -> None:
    conversation = Conversation(engine, max_tokens=6)
    for how in (Positions.DECODE, Positions.ALL, Positions.ALL, Positions.DECODE):
        conversation.steering = Steering(positions=how)
        prompt = conversation.prompt("apple 1")
        assert answer(conversation.stream("apple 1"))[1].tokens.evaluated == len(prompt.tokens)
    prompt = conversation.prompt("apple 1")
    assert answer(conversation.stream("apple 1"))[1].tokens.evaluated == new(prompt)


def test_steering_off_for_a_turn_keeps_as_much(engine: Engine) -> None:
    conversation = held(engine, [("apple 1", Steering())])
    for steering in (OFF, Steering(strength=2.0), OFF):
        conversation.steering = steering
        prompt = conversation.prompt("a dog")
        assert answer(conversation.stream("a dog"))[1].tokens.evaluated == new(prompt)


@pytest.mark.parametrize("steering", [OFF, Steering(), Steering(positions=Positions.LAST)])
def test_what_is_read_ahead_leaves_the_message_alone_to_read(engine: Engine, steering: Steering) -> None:
    conversation = held(engine, [("apple 1", steering), ("a dog", steering)])
    conversation.read_ahead()
    prompt = conversation.prompt("what is this?")
    assert answer(conversation.stream("what is this?"))[1].tokens.evaluated == len(prompt.segments[-1]) + 1


def test_nothing_is_read_ahead_of_a_prompt_that_is_steered_or_too_long(engine: Engine) -> None:
    conversation = held(engine, [("apple 1", Steering())])
    before = engine.target.n_evaluated
    conversation.steering = Steering(positions=Positions.ALL)
    conversation.read_ahead()
    conversation.steering = OFF
    conversation.restore(None, [Turn("a", "b " * engine.target.n_ctx, {})])
    conversation.read_ahead()
    assert engine.target.n_evaluated == before


def test_reading_ahead_ends_with_its_body(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = held(engine, [("apple 1", OFF), ("a dog", OFF)])
    *wanted, _ = conversation.prompt("b").segments
    complete = sum(map(len, wanted))
    with conversation.reading_ahead():
        while engine.target.n_cached(wanted) < complete:
            time.sleep(0.01)
    begun, go, decode = threading.Event(), threading.Event(), OwnContext.decode

    def slow(*arguments: Any, **named: Any) -> None:
        begun.set()
        go.wait(10)
        decode(*arguments, **named)

    conversation.system = "Be kind."
    threads = threading.active_count()
    monkeypatch.setattr(OwnContext, "decode", slow)
    timer = threading.Timer(0.1, go.set)
    with conversation.reading_ahead():
        assert begun.wait(10)
        timer.start()
    timer.join()
    monkeypatch.undo()
    *wanted, _ = conversation.prompt("b").segments
    assert engine.target.n_cached(wanted) == len(wanted[0]) == engine.target.n_past  # one batch more, and no other
    assert threading.active_count() == threads
    conversation.engine.close()
    with conversation.reading_ahead():
        pass


def test_another_system_message_drops_all_and_clearing_keeps_the_templates_beginning(engine: Engine) -> None:
    conversation = held(engine, [("apple 1", Steering()), ("a dog", Steering())])
    conversation.system = "Be kind."
    prompt = conversation.prompt("dog 1")
    assert answer(conversation.stream("dog 1"))[1].tokens.evaluated == len(prompt.tokens)
    conversation.clear()
    prompt = conversation.prompt("dog 1")
    assert prompt.shared > 0
    assert answer(conversation.stream("dog 1"))[1].tokens.evaluated == len(prompt.tokens) - prompt.shared


def test_answering_again_evaluates_one_token(engine: Engine) -> None:
    conversation = held(engine, [("apple 1", Steering()), ("what is this?", Steering())])
    steered = conversation.last.answer_text
    assert answer(conversation.again())[1].tokens.evaluated == 1
    assert conversation.last.answer_text == steered
    conversation.steering = OFF
    assert answer(conversation.again())[1].tokens.evaluated == 1
    assert len(conversation.turns) == 2
    assert conversation.last.answer_text != steered


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["apple 1", "a dog", "üñï ☃", f"hi{FORGED}"]), st.sampled_from(STEERINGS)),
        min_size=2,
        max_size=4,
    ),
    st.booleans(),
)
def test_answers_are_those_of_a_fresh_engine(
    engine: Engine, tiny_gguf: Path, tiny_generator: Generator, turns: list[tuple[str, Steering]], ahead: bool
) -> None:
    conversation = held(engine, turns[:-1])
    if ahead:
        conversation.read_ahead()
    conversation.steering = turns[-1][1]
    answer(conversation.stream(turns[-1][0]))
    logits = engine.target.logits().copy()
    fresh = Conversation(Engine(Target(tiny_gguf, n_threads=1), tiny_generator), steering=turns[-1][1], max_tokens=6)
    fresh.restore(None, conversation.turns[:-1])
    assert answer(fresh.stream(turns[-1][0]))[0] == conversation.last.answer_text
    assert np.array_equal(fresh.engine.target.logits(), logits)


@pytest.mark.parametrize("template", [FORGETTING, AT_THE_END])
def test_nor_does_it_matter_what_the_template_does(tmp_path: Path, tiny_generator: Generator, template: str) -> None:
    path = write_gguf(tmp_path / "t.gguf", template=template)
    texts = ["apple 1 ", "a dog", "what is this?", "dog 1"]
    conversation = held(Engine(Target(path, n_threads=1), tiny_generator), [(text, Steering()) for text in texts])
    logits = conversation.engine.target.logits().copy()
    fresh = Conversation(Engine(Target(path, n_threads=1), tiny_generator), steering=Steering(), max_tokens=6)
    fresh.restore(None, conversation.turns[:-1])
    assert answer(fresh.stream(texts[-1]))[0] == conversation.last.answer_text
    assert np.array_equal(fresh.engine.target.logits(), logits)


def test_on_a_real_model_too(smollm2: Path) -> None:
    engine = atv_local.load(smollm2)
    conversation = Conversation(engine, max_tokens=12)
    kept = 0
    for text, strength in [
        ("I was charged for a cash withdrawal", 1.0),
        ("Who are you?", 0.0),
        ("how much salt, and why?", 0.5),
    ]:
        conversation.steering = Steering(strength=strength)
        prompt = conversation.prompt(text)
        last = answer(conversation.stream(text))[1]
        assert (last.tokens.prompt, last.tokens.evaluated) == (len(prompt.tokens), len(prompt.tokens) - kept)
        kept = len(prompt.tokens) - 1
    assert conversation.turns[0].answer_text == "cash withdrawal charge"
    logits = engine.target.logits().copy()
    fresh = Conversation(atv_local.load(smollm2), steering=conversation.steering, max_tokens=12)
    fresh.restore(None, conversation.turns[:-1])
    assert answer(fresh.stream("how much salt, and why?"))[0] == conversation.last.answer_text
    assert np.array_equal(fresh.engine.target.logits(), logits)


def test_the_generator_reads_the_words_of_its_turn_alone(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    made = engine.gated_vector
    monkeypatch.setattr(engine, "gated_vector", lambda query, **how: (read.append(query), made(query, **how))[1])
    conversation = held(engine, [("apple 1", Steering()), ("a dog", OFF), ("dog 1", Steering())], system="Be kind.")
    answer(conversation.again())
    assert read == ["apple 1", "dog 1", "dog 1"]


def test_a_turn_knows_what_steered_it(engine: Engine) -> None:
    conversation = held(engine, [("apple 1", Steering(0.5, (1, 2), Positions.LAST)), ("a dog", OFF)])
    first, second = (turn.record for turn in conversation.turns)
    assert (first["strength"], first["layers"], first["positions"]) == (0.5, [1, 2], "last")
    assert engine.generator
    assert (first["bundle"], second["bundle"]) == (engine.generator.bundle.id, None)
    assert (second["strength"], second["layers"], second["positions"]) == (0, None, None)
    assert first["sampling"] == {"temperature": 0.0, "top_p": 0.95, "top_k": 40, "seed": None, "max_tokens": 6}
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"] * 2


def test_a_seed_makes_an_answer_repeatable(engine: Engine) -> None:
    hot = Sampling(1.5, seed=1)
    first, second = (held(engine, [("apple 1", OFF), ("a dog", OFF)], sampling=hot) for _ in range(2))
    assert first.messages == second.messages
    second.sampling = Sampling(1.5, seed=2)
    answer(second.again())
    assert first.messages != second.messages


@pytest.mark.parametrize("again", [False, True])
def test_a_turn_that_fails_is_taken_back(engine: Engine, monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    conversation = held(engine, [("apple 1", Steering()), ("a dog", Steering())])
    turns = conversation.turns
    with monkeypatch.context() as patch:
        patch.setattr(
            engine, "gated_vector", lambda _, **_how: GatedVector(TaskVector(np.full((3, 64), 3e38)), Steering())
        )
        with pytest.raises(ModelError, match="lower `strength`"):
            answer(conversation.again() if again else conversation.stream("dog 1"))
    assert conversation.turns == turns
    answer(conversation.again())
    assert [turn.answer_text for turn in conversation.turns] == [turn.answer_text for turn in turns]


def test_a_full_context_is_one_clear_error_and_no_loss(engine: Engine) -> None:
    conversation = held(engine, [("apple 1", Steering())])
    n_tokens = len(conversation.prompt("a").tokens) + engine.target.n_ctx
    with pytest.raises(
        PromptError, match=rf"has {n_tokens} tokens with this turn and the context {engine.target.n_ctx}"
    ):
        answer(conversation.stream("a" * (engine.target.n_ctx + 1)))
    assert len(conversation.turns) == 1
    for _ in range(40):
        try:
            answer(conversation.stream("a dog"))
        except PromptError:
            break
    else:
        pytest.fail("the context never got full")
    conversation.clear()
    assert answer(conversation.stream("apple 1"))[0] == "a"


def test_a_restored_conversation_has_its_own_settings(engine: Engine) -> None:
    first, second = Conversation(engine, system="be kind", max_tokens=6), Conversation(engine, max_tokens=3)
    first.answer("apple 1")
    second.restore(first.system, first.turns)
    assert (second.messages, second.max_tokens) == (first.messages, 3)
    with pytest.raises(AttributeError):
        second.turns = ()  # type: ignore[misc]  # the mistake under test
    first.clear()
    assert len(second.turns) == 1


def test_a_conversation_that_cannot_fit_is_refused_at_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tokenising what was said before once more for each of its turns."""
    conversation = Conversation(engine)
    conversation.restore(None, [Turn(f"asked {number}", "answered " * 20, {}) for number in range(50)])
    rendered = []
    render = PromptFormat.render

    def counted(prompts: PromptFormat, messages: Sequence[Message]) -> str:
        rendered.append(len(messages))
        return render(prompts, messages)

    monkeypatch.setattr(PromptFormat, "render", counted)
    with pytest.raises(PromptError, match="tokens with this turn"):
        next(conversation.stream("more"))
    assert len(rendered) <= 2


def test_an_answer_that_is_stopped_stays_as_far_as_it_went(engine: Engine) -> None:
    conversation = held(engine, [("apple 1", Steering())])
    conversation.steering, conversation.max_tokens = OFF, 40
    events = conversation.stream("a dog")
    text = next(events).text + next(events).text
    events.close()  # type: ignore[attr-defined]
    assert conversation.last.answer_text == text
    assert conversation.last.record["finish_reason"] == "interrupted"
    prompt = conversation.prompt("dog 1")
    assert answer(conversation.stream("dog 1"))[1].tokens.evaluated == new(prompt)


@pytest.mark.parametrize(("calls", "kept"), [(1, False), (3, True)])
def test_an_interrupt_while_the_target_works(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, calls: int, kept: bool
) -> None:
    expected = held(engine, [("a dog", Steering())]).last.answer_text
    conversation = Conversation(engine, steering=OFF, max_tokens=40)
    left = calls

    def interrupting(work: Callable[..., object]) -> Callable[..., object]:
        def interrupted(*arguments: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
            return work(*arguments)

        return interrupted

    with monkeypatch.context() as patch:
        for name in ("evaluate", "finish"):
            patch.setattr(engine.target, name, interrupting(getattr(engine.target, name)))
        with pytest.raises(KeyboardInterrupt):
            answer(conversation.stream("apple 1"))
    assert bool(conversation.turns) == kept
    conversation.clear()
    conversation.steering, conversation.max_tokens = Steering(), 6
    assert answer(conversation.stream("a dog"))[0] == expected


def test_a_whole_answer_is_what_the_stream_adds_up_to(engine: Engine) -> None:
    streamed, whole = (Conversation(engine, max_tokens=6) for _ in range(2))
    for text in ("apple 1", "what is this?"):
        words, last = answer(streamed.stream(text))
        reply = whole.answer(text)
        assert isinstance(reply, Answer)
        assert (reply.text, reply.finish_reason, reply.tokens.prompt) == (words, last.finish_reason, last.tokens.prompt)
        assert reply.as_dict()["strength"] == whole.last.record["strength"] == 1
        assert whole.last.answer_text == reply.text
    assert whole.messages == streamed.messages


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", "5"),
        ("max_tokens", 2.5),
        ("steering", "off"),
        ("sampling", 0.7),
        ("sampling", {}),
        ("system", 5),
        ("system", "\ud800"),
    ],
)
def test_settings_of_another_type_are_refused_when_they_are_given(engine: Engine, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"`{name}`"):
        Conversation(engine, **{name: value})
    conversation = Conversation(engine)
    setattr(conversation, name, value)
    with pytest.raises(UsageError, match=f"`{name}`"):
        conversation.answer("apple 1")
    assert conversation.turns == ()
    if name != "max_tokens":
        with pytest.raises(UsageError, match=f"`{name}`"):
            engine.answer("apple 1", **{name: value})


def test_what_is_no_message_or_engine_is_named(engine: Engine) -> None:
    for text in (5, None, "", ["apple"], "\ud800"):
        with pytest.raises(UsageError, match="query"):
            Conversation(engine).answer(text)  # type: ignore[arg-type]  # the mistake under test
    for value in (None, "tiny.gguf", engine.target):
        with pytest.raises(UsageError, match=r"`engine`.*atv_local\.load"):
            Conversation(value)  # type: ignore[arg-type]  # the mistake under test


def test_comparing_changes_nothing(engine: Engine) -> None:
    conversation = held(engine, [("apple 1", OFF), ("what is this?", Steering())])
    turns = conversation.turns
    compared = {name: answer(events) for name, events in conversation.compare().items()}
    assert compared["with steering"][0] == turns[1].answer_text != compared["without steering"][0]
    prompt = conversation.prompt("what is this?", turns[:1])
    assert {last.tokens.evaluated for _, last in compared.values()} == {len(prompt.segments[-1]) + 1}
    new = {name: answer(events)[0] for name, events in conversation.compare("dog 1").items()}
    assert conversation.turns == turns
    assert answer(conversation.stream("dog 1"))[0] == new["with steering"]


def test_what_has_no_answer_is_an_error(engine: Engine) -> None:
    conversation = Conversation(engine, steering=OFF)
    for action in (conversation.again, conversation.compare, lambda: conversation.stream(" ")):
        with pytest.raises(UsageError):
            list(action())
    assert conversation.turns == ()


@pytest.mark.parametrize(
    ("name", "value"), [("steering", 0.5), ("sampling", "greedy"), ("system", 1), ("max_tokens", "many")]
)
def test_a_setting_of_another_type_is_an_error_for_the_next_turn(engine: Engine, name: str, value: object) -> None:
    conversation = Conversation(engine, max_tokens=2)
    conversation.answer("dog 1")
    setattr(conversation, name, value)
    for action in (
        lambda: conversation.answer("pig 2"),
        lambda: conversation.stream("pig 2"),
        conversation.again,
        conversation.compare,
    ):
        with pytest.raises(UsageError, match=name):
            action()
    assert len(conversation.turns) == 1
