"""The shipped bundle of many tasks: told in words it answers in the form that is asked for, and starts other runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from atv_local import OFF, Engine, load
from atv_local.generator import Bundle
from atv_local.names import embedded_bundle

FIRST_LETTERS = {"apple": "a", "house": "h", "tree": "t"}


@pytest.fixture(scope="module")
def engine(smollm2: Path) -> Iterator[Engine]:
    with load(smollm2, embedded_bundle("general")) as engine:
        yield engine


def test_a_task_by_its_name(engine: Engine) -> None:
    answers = {word: engine.answer(word, task="ii_first_word_letter", max_tokens=4).text for word in FIRST_LETTERS}
    assert answers == FIRST_LETTERS
    base = [engine.answer(w, task="ii_first_word_letter", steering=OFF, max_tokens=4).text for w in FIRST_LETTERS]
    assert not set(base) & set(FIRST_LETTERS.values())


def test_words_like_a_task_are_steered_by_the_generator(engine: Engine) -> None:
    answer = engine.answer("table, horse, lamp", instruction="Which of these words names an animal?", max_tokens=4)
    assert not answer.static
    assert answer.text in ("table", "horse", "lamp")


def test_words_unlike_all_tasks_are_steered_by_the_static_vector(engine: Engine) -> None:
    answer = engine.answer("We saw Mars last night.", instruction="Say which planet is named.", max_tokens=8)
    base = engine.answer(
        "We saw Mars last night.", instruction="Say which planet is named.", steering=OFF, max_tokens=8
    )
    assert answer.static
    assert answer.text != base.text


def test_choices_are_read_and_kept_to(engine: Engine) -> None:
    answer = engine.answer("I would buy it again", instruction="Is the review good?", choices=["yes", "no"])
    assert answer.text in ("yes", "no")
    assert answer.instruction == "Is the review good?\nAnswer with one of these, and nothing else: yes, no."


def test_its_tasks_have_clear_licences() -> None:
    tasks = Bundle(embedded_bundle("general")).manifest.tasks
    table = (Path(__file__).parents[2] / "data" / "general" / "LICENCES.md").read_text().splitlines()[2:]
    assert [task.name for task in tasks] == sorted(line.split("|")[1].strip() for line in table)
    assert all(task.instruction for task in tasks)
    assert json.loads(Bundle(embedded_bundle("general")).manifest.model_dump_json())["static"]
