"""Tasks that are told in words: what is read for a query, and that all ways to ask read the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atv_local.answer import Conversation, Engine, Turn
from atv_local.batch import Batch
from atv_local.data import tell, with_choices
from atv_local.errors import BundleError, UsageError
from atv_local.generator import MANIFEST, Bundle, Generator
from atv_local.target import Target
from atv_local.vectors import OFF
from tests import tiny

SORT, NAME = "Sort the word.", "Name the kind."
INSIDE, OUTSIDE = "pear 7", "something else"


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path, told_bundle: Path) -> Iterator[Engine]:
    with Engine(Target(tiny_gguf, n_threads=1), Generator(told_bundle, tried=True)) as engine:
        yield engine


@pytest.fixture(scope="module")
def single(tiny_gguf: Path, only_told_bundle: Path) -> Iterator[Engine]:
    with Engine(Target(tiny_gguf, n_threads=1), Generator(only_told_bundle, tried=True)) as engine:
        yield engine


@pytest.mark.parametrize("query", [INSIDE, OUTSIDE])
def test_a_named_task_and_its_words_are_the_same_and_open_the_gate(engine: Engine, query: str) -> None:
    named, said = engine.answer(query, task="name", max_tokens=6), engine.answer(query, instruction=NAME, max_tokens=6)
    as_text = engine.answer(tell(NAME, query), steering=replace(engine.steering, gate=0.0), max_tokens=6)
    assert named.text == said.text == as_text.text
    assert named.tokens.prompt == as_text.tokens.prompt > engine.answer(query, max_tokens=1).tokens.prompt
    assert not named.steering.off
    assert named.as_dict()["instruction"] == NAME
    assert "instruction" not in engine.answer(query, max_tokens=1).as_dict()


def test_several_tasks_are_not_guessed(engine: Engine) -> None:
    asked = engine.asked(INSIDE)
    assert (asked.text, asked.instruction) == (INSIDE, None)


def test_the_only_task_needs_no_name(single: Engine) -> None:
    answer = single.answer(INSIDE, max_tokens=6)
    assert answer.text == single.answer(INSIDE, task="sort", max_tokens=6).text
    assert answer.instruction == SORT
    assert answer.gate is not None
    assert answer.gate.steered


def test_outside_the_only_task_the_base_model_answers_the_query_alone(single: Engine) -> None:
    base, answer = single.answer(OUTSIDE, steering=OFF, max_tokens=8), single.answer(OUTSIDE, max_tokens=8)
    assert (answer.text, answer.tokens.prompt) == (base.text, base.tokens.prompt)
    assert answer.instruction is None
    assert answer.steering.off
    assert answer.gate is not None
    assert answer.gate.score == pytest.approx(single.gate_decisions(tell(SORT, OUTSIDE))[0].score)


def test_off_leaves_the_only_task_out_and_keeps_what_is_said(single: Engine) -> None:
    assert single.answer(INSIDE, steering=OFF, max_tokens=2).instruction is None
    told = single.answer(INSIDE, task="sort", steering=OFF, max_tokens=6)
    assert told.text == single.answer(tell(SORT, INSIDE), steering=OFF, max_tokens=6).text


@pytest.mark.parametrize("said", [{}, {"task": "sort"}, {"instruction": NAME}], ids=str)
@pytest.mark.parametrize("query", [INSIDE, OUTSIDE])
def test_all_ways_to_ask_read_the_same(single: Engine, said: dict[str, str], query: str) -> None:
    alone = single.answer(query, **said, max_tokens=6)
    (many,) = single.answer_many([query], **said, max_tokens=6)
    chat = single.chat([{"role": "user", "content": query}], **said, max_tokens=6)
    stream = "".join(event.text for event in single.stream(query, **said, max_tokens=6))
    turn = Conversation(single, **said, max_tokens=6).answer(query)
    with Batch(single) as batch:
        (reply,) = batch.ask([batch.question(query, **said, max_tokens=6)])
    assert {alone.text, many.text, chat.text, stream, turn.text, reply.outcomes[0].text} == {alone.text}
    for answer in (many, chat, turn):
        assert (answer.instruction, answer.gate, answer.tokens.prompt) == (
            alone.instruction,
            alone.gate,
            alone.tokens.prompt,
        )


def test_the_vector_is_that_of_what_is_read(engine: Engine, single: Engine, told_bundle: Path) -> None:
    generator = Generator(told_bundle, tried=True)
    assert (engine.vector(INSIDE, task="name").array == generator(tell(NAME, INSIDE)).array).all()
    assert (single.vector(INSIDE).array == generator(tell(SORT, INSIDE)).array).all()
    assert (engine.vector(INSIDE).array == generator(INSIDE).array).all()
    mean = single.control_vector([INSIDE])
    assert (mean.vector().array == generator(tell(SORT, INSIDE)).array).all()


def test_choices_are_listed_after_an_instruction(engine: Engine) -> None:
    allowed = with_choices(NAME, ("x", "y"))
    assert engine.answer(INSIDE, instruction=NAME, choices=["x", "y"]).instruction == allowed
    assert engine.answer(INSIDE, task="name", choices=["x", "y"]).instruction == allowed
    assert allowed == f"{NAME}\nAnswer with one of these, and nothing else: x, y."


def test_the_choices_of_a_task_are_listed_unless_there_are_others(
    tiny_gguf: Path, gated_bundle: Path, tmp_path: Path
) -> None:
    folder = tiny.write_told(tmp_path / "told", gated_bundle, {"sort": SORT, "name": NAME})
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["tasks"][0] |= {"kind": "labels", "labels": ["a", "b"], "choices": ["b", "a"]}
    manifest["tasks"][1] |= {"kind": "labels", "labels": ["c", "d"]}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with Engine(Target(tiny_gguf, n_threads=1), Generator(folder, tried=True)) as engine:
        assert engine.answer(INSIDE, task="sort", max_tokens=1).instruction == with_choices(SORT, ("b", "a"))
        other = engine.answer(INSIDE, task="sort", choices=["x", "a"])
        assert other.instruction == with_choices(SORT, ("x", "a"))
        assert engine.instructions == {"sort": with_choices(SORT, ("b", "a")), "name": NAME}
        labels = {"task": "name", "choices": "auto"}
        for answer in (engine.answer(INSIDE, **labels), Conversation(engine, **labels).answer(INSIDE)):
            assert set(answer.probabilities or ()) == {"c", "d"}


def test_only_the_message_that_is_answered_has_the_instruction(engine: Engine) -> None:
    conversation = Conversation(engine, task="sort", max_tokens=4)
    first = conversation.answer(INSIDE)
    conversation.task = None
    second = conversation.answer(OUTSIDE)
    messages = [
        {"role": "user", "content": INSIDE},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": OUTSIDE},
    ]
    whole = engine.chat(messages, max_tokens=4)
    assert (second.text, second.tokens.prompt) == (whole.text, whole.tokens.prompt)
    conversation.clear()
    conversation.restore(None, [Turn(INSIDE, first.text, {})])
    conversation.task = "name"
    third, told = conversation.answer(OUTSIDE), engine.chat(messages, task="name", max_tokens=4)
    assert (third.text, third.tokens.prompt, third.instruction) == (told.text, told.tokens.prompt, NAME)


def test_without_steering_a_comparison_reads_what_off_reads(engine: Engine, single: Engine) -> None:
    for one, said in ((engine, {"instruction": NAME}), (engine, {"task": "name"}), (single, {}), (engine, {})):
        answers = Conversation(one, **said, max_tokens=6).compare(INSIDE)
        texts = {name: "".join(event.text for event in events) for name, events in answers.items()}
        assert texts["without steering"] == one.answer(INSIDE, **said, steering=OFF, max_tokens=6).text
        assert texts["with steering"] == one.answer(INSIDE, **said, max_tokens=6).text


def test_there_is_nothing_to_put_an_instruction_before(engine: Engine) -> None:
    for content in ([], [{"role": "user", "content": " "}]):
        with pytest.raises(UsageError, match="nothing to put an instruction before"):
            engine.chat([{"role": "system", "content": "x"}, *content], instruction=NAME, steering=OFF)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"task": "sort", "instruction": NAME}, "leave out either"),
        ({"task": "other"}, "'other' is not one of the bundle's tasks, which are sort, name"),
        ({"task": 3}, "not text"),
        ({"instruction": " \n"}, "blank"),
        ({"instruction": "x" * 9000}, "9000 characters"),
        ({"instruction": "\ud800"}, "not UTF-8"),
    ],
)
def test_what_cannot_be_said_is_refused_by_every_way_to_ask(engine: Engine, said: dict[str, Any], message: str) -> None:
    for ask in (
        lambda: engine.answer(INSIDE, **said),
        lambda: engine.stream(INSIDE, **said),
        lambda: engine.answer_many([INSIDE], **said),
        lambda: engine.vector(INSIDE, **said),
        lambda: engine.chat([{"role": "user", "content": INSIDE}], **said),
        lambda: Conversation(engine, **said),
        lambda: engine.asked(INSIDE, **said),
    ):
        with pytest.raises(UsageError, match=message):
            list(ask())  # type: ignore[call-overload]  # what is refused is never listed


def test_a_bundle_without_instructions_has_no_tasks_to_name(tiny_gguf: Path, gated_bundle: Path) -> None:
    with Engine(Target(tiny_gguf, n_threads=1), Generator(gated_bundle, tried=True)) as engine:
        with pytest.raises(UsageError, match="have no instructions"):
            engine.answer(INSIDE, task="kinds")
        assert engine.answer(INSIDE, instruction=NAME, max_tokens=2).instruction == NAME


def test_a_told_bundle_is_loaded_alone(tiny_gguf: Path, told_bundle: Path, gated_bundle: Path) -> None:
    generators = [Generator(bundle, tried=True) for bundle in (gated_bundle, told_bundle)]
    with pytest.raises(UsageError, match="load it alone"):
        Engine(Target(tiny_gguf, n_threads=1), generators)


def test_an_older_format_has_no_instructions(told_bundle: Path, tmp_path: Path) -> None:
    copy = tiny.write_told(tmp_path / "old", told_bundle, {"sort": SORT})
    manifest = (copy / MANIFEST).read_text()
    (copy / MANIFEST).write_text(manifest.replace('"format_version": 4', '"format_version": 3'))
    with pytest.raises(BundleError, match="format_version 4"):
        Bundle(copy)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1), st.text())
def test_the_query_stands_at_the_end_of_what_is_read(instruction: str, query: str) -> None:
    assert tell(instruction, query) == f"{instruction}\n\n{query}"
    assert tell(None, query) == query
