"""The static vector of a bundle: it steers tasks told in words that are unlike those of the bundle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from atv_local.answer import Conversation, Engine
from atv_local.batch import Batch
from atv_local.data import tell
from atv_local.errors import BundleError, UsageError
from atv_local.generator import MANIFEST, STATIC, Bundle, Generator
from atv_local.target import Target
from atv_local.vectors import OFF, ControlVector
from tests import tiny

SORT, LIKE, UNLIKE = "Sort the word.", "Say what a pear is.", "Do something else."
QUERY = "thing 7"


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return np.random.default_rng(5).normal(0, 3, (3, 64)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, gated_bundle: Path, values: np.ndarray) -> Path:
    tasks = {"sort": SORT, "name": "Name the kind."}
    return tiny.write_told(tmp_path_factory.mktemp("static") / "bundle", gated_bundle, tasks, values)


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path, folder: Path) -> Iterator[Engine]:
    with Engine(Target(tiny_gguf, n_threads=1), Generator(folder, tried=True)) as engine:
        yield engine


def test_words_unlike_the_tasks_are_steered_by_it(engine: Engine, values: np.ndarray) -> None:
    answer = engine.answer(QUERY, instruction=UNLIKE, max_tokens=6)
    given = engine.answer(tell(UNLIKE, QUERY), vector=values, steering=engine.steering, max_tokens=6)
    assert answer.text == given.text != engine.answer(tell(UNLIKE, QUERY), steering=OFF, max_tokens=6).text
    assert (answer.static, answer.gate, answer.instruction) == (True, None, UNLIKE)
    assert answer.as_dict()["static"] is True
    assert not answer.steering.off


def test_words_like_the_tasks_are_steered_by_their_own_vector(engine: Engine, folder: Path) -> None:
    answer = engine.answer(QUERY, instruction=LIKE, max_tokens=6)
    vector = Generator(folder, tried=True)(tell(LIKE, QUERY))
    assert answer.text == engine.answer(tell(LIKE, QUERY), vector=vector, steering=engine.steering, max_tokens=6).text
    assert not answer.static
    assert answer.gate is not None
    assert "static" not in answer.as_dict()


def test_a_named_task_is_never_unlike_itself(engine: Engine) -> None:
    assert not engine.answer(QUERY, task="sort", max_tokens=2).static
    assert not engine.answer(QUERY, max_tokens=2).static
    assert not engine.answer(QUERY, instruction=UNLIKE, steering=OFF, max_tokens=2).static


def test_all_ways_to_ask_are_steered_alike(engine: Engine) -> None:
    alone = engine.answer(QUERY, instruction=UNLIKE, max_tokens=6)
    (many,) = engine.answer_many([QUERY], instruction=UNLIKE, max_tokens=6)
    turn = Conversation(engine, instruction=UNLIKE, max_tokens=6).answer(QUERY)
    with Batch(engine) as batch:
        (reply,) = batch.ask([batch.question(QUERY, instruction=UNLIKE, max_tokens=6)])
    assert {many.text, turn.text, reply.outcomes[0].text} == {alone.text}
    assert many.static
    assert turn.static


def test_among_allowed_answers_the_base_model_chooses_for_tasks_unlike_the_bundles(engine: Engine) -> None:
    choices = ["red", "green", "blue"]
    answer = engine.answer(QUERY, instruction=UNLIKE, choices=choices)
    base = engine.answer(QUERY, instruction=UNLIKE, choices=choices, steering=OFF)
    assert answer.probabilities == base.probabilities
    assert not answer.static
    assert answer.gate is not None
    assert not answer.gate.steered
    like = engine.answer(QUERY, instruction=LIKE, choices=choices)
    assert like.probabilities != engine.answer(QUERY, instruction=LIKE, choices=choices, steering=OFF).probabilities
    assert engine.asked(QUERY, instruction=UNLIKE, listed=choices).static
    with Batch(engine) as batch:
        constraint = engine.constraint(choices)
        (reply,) = batch.ask([batch.question(QUERY, instruction=UNLIKE, constraint=constraint)])
    assert reply.outcomes[0].text == answer.text


def test_it_is_a_control_vector_for_any_program(engine: Engine, values: np.ndarray, tmp_path: Path) -> None:
    generator = engine.generators[0]
    assert generator.static is not None
    generator.static_vector().save(tmp_path / "static.gguf")
    saved = ControlVector.load(tmp_path / "static.gguf")
    assert saved.vector().array == pytest.approx(values, abs=1e-6)
    assert saved.provenance["kind"] == "static"


def test_a_bundle_without_one_says_so(gated_bundle: Path) -> None:
    generator = Generator(gated_bundle, tried=True)
    assert generator.static is None
    with pytest.raises(UsageError, match="has no static vector"):
        generator.static_vector()


@pytest.mark.parametrize("damage", ["short", "missing", "not finite", "old"])
def test_a_damaged_one_is_refused(gated_bundle: Path, values: np.ndarray, tmp_path: Path, damage: str) -> None:
    wrong = {"short": values[:2], "not finite": np.full_like(values, np.nan)}.get(damage, values)
    bundle = tiny.write_told(tmp_path / "bundle", gated_bundle, {"sort": SORT}, wrong)
    manifest = json.loads((bundle / MANIFEST).read_text())
    if damage == "missing":
        del manifest["files"][STATIC]
    if damage == "old":
        manifest |= {"format_version": 3, "tasks": []}
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"static\.f32|format_version"):
        Generator(Bundle(bundle), tried=True)
