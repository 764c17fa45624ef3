"""The shipped bundle on real rows: it knows its tasks, reads the query alone and steers its own target."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

import atv_local
from atv_local import OFF, Bundle, Engine, Generator, Positions, Steering, TaskVector
from atv_local.generator import TaskScore
from atv_local.names import embedded_bundle
from tests import ROOT

ROWS = ROOT / "data" / "demo" / "test"
TASKS: dict[str, Callable[[str, str], bool]] = {
    "banking77_top10": lambda text, output: text == output,
    "pirate": lambda text, _: "matey" in text,
    "snips_json": lambda text, output: text.startswith(output[: output.index(",")]),  # the intent
}
"""Whether the beginning of an answer is right."""


@pytest.fixture(scope="module")
def pair(smollm2: Path) -> Engine:
    return atv_local.load(smollm2)


def rows(task: str, count: int) -> Iterator[tuple[str, str]]:
    with (ROWS / f"{task}.jsonl").open() as file:
        for _, line in zip(range(count), file, strict=False):
            row = json.loads(line)
            yield row["input"], row["output"]


def answer(engine: Engine, query: str, **settings: object) -> str:
    return engine.answer(query, max_tokens=16, **settings).text


def test_it_is_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in embedded_bundle().rglob("*") if path.is_file()) <= 40e6


def test_its_card_names_tasks_licences_and_figures() -> None:
    card = (embedded_bundle() / "README.md").read_text()
    assert all(task in card for task in TASKS)
    assert "CC BY" in card
    assert "CC0" in card
    assert "| mean of tasks |" in card


def test_its_training_rows_are_those_in_the_repository() -> None:
    import hashlib

    for file in Bundle(embedded_bundle()).manifest.provenance.data:
        path = ROWS.parent / "train" / file.name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


def test_a_long_query_is_read_up_to_a_character() -> None:
    generator = Generator(embedded_bundle())
    query = "naïve café 東京 🙂 " * 60
    length = generator.read(query).length
    assert 0 < length < len(query)
    np.testing.assert_array_equal(generator(query[:length]).array, generator(query).array)
    assert np.abs(generator(query[: length - 8]).array - generator(query).array).max() > 0
    assert generator.read("short  ").length == len("short  ")


@pytest.mark.parametrize("task", TASKS)
def test_it_answers_its_tasks_and_the_base_model_does_not(pair: Engine, task: str) -> None:
    sample = list(rows(task, 20))
    steered = [TASKS[task](answer(pair, query), output) for query, output in sample]
    base = [TASKS[task](answer(pair, query, steering=OFF), output) for query, output in sample]
    assert sum(steered) >= 15
    assert sum(base) <= 2


def test_off_is_llama_cpp_alone_bit_for_bit_after_steering(pair: Engine, smollm2: Path) -> None:
    query, _ = next(rows("banking77_top10", 1))
    list(pair.stream(query, max_tokens=4))
    list(pair.stream(query, max_tokens=1, steering=OFF))
    prompt = pair.target.prompts(query)
    alone = llama_cpp.Llama(str(smollm2), n_ctx=2048, flash_attn=True, logits_all=True, verbose=False)
    for batch in (prompt.tokens[: prompt.shared], prompt.tokens[prompt.shared : -1], prompt.tokens[-1:]):
        alone.eval(batch)
    assert np.array_equal(pair.target.logits(), alone.scores[alone.n_tokens - 1])


@pytest.mark.parametrize("positions", list(Positions))
def test_answers_do_not_depend_on_those_before(pair: Engine, positions: Positions) -> None:
    steering = Steering(positions=positions)
    sample = [query for task in TASKS for query, _ in rows(task, 2)]
    forward = [answer(pair, query, steering=steering) for query in sample]
    backward = [answer(pair, query, steering=steering) for query in reversed(sample)]
    pair.target.reset()
    assert forward == backward[::-1]


def test_a_system_prompt_is_evaluated_once(pair: Engine) -> None:
    system = "You are a careful assistant. " * 10
    pair.target.reset()
    counts = [list(pair.stream(query, system=system, max_tokens=2))[-1] for query, _ in rows("banking77_top10", 3)]
    assert counts[0].tokens.evaluated == counts[0].tokens.prompt
    assert all(event.tokens.evaluated < event.tokens.prompt - 60 for event in counts[1:])


def test_the_generator_is_given_the_users_words_and_nothing_else(pair: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    made = Generator.scored

    def spy(self: Generator, query: str) -> tuple[TaskVector, TaskScore | None]:
        seen.append(query)
        return made(self, query)

    monkeypatch.setattr(Generator, "scored", spy)
    list(pair.stream("is my card charged twice?", system="Be kind.", max_tokens=1))
    assert seen == ["is my card charged twice?"]
