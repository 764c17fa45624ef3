"""The gate of a bundle: its scores, and that a query outside the tasks gets the base model's answer."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from atv_local.answer import Conversation, Engine
from atv_local.batch import Batch
from atv_local.errors import BundleError, UsageError
from atv_local.generator import GATE, MANIFEST, Bundle, Gate, GateSpec, GateTask, Generator, nearest_mean
from atv_local.target import Target
from atv_local.vectors import OFF, ControlVector, GateDecision, Positions, Steering, parse_gate
from tests import tiny

INSIDE, OUTSIDE = "pear 7", "something else"


@pytest.fixture
def gated(tiny_gguf: Path, gated_bundle: Path) -> Iterator[Engine]:
    with Engine(Target(tiny_gguf, n_threads=1), Generator(gated_bundle, tried=True)) as engine:
        yield engine


@pytest.mark.parametrize("positions", list(Positions))
def test_a_query_outside_gets_the_answer_of_the_base_model(gated: Engine, positions: Positions) -> None:
    how = Steering(positions=positions)
    base, answer = gated.answer(OUTSIDE, steering=OFF, max_tokens=8), gated.answer(OUTSIDE, steering=how, max_tokens=8)
    assert answer.text == base.text
    assert answer.steering.off
    assert answer.gate is not None
    assert not answer.gate.steered
    assert answer.gate.task == "kinds"
    forced = gated.answer(OUTSIDE, steering=replace(how, gate=0.0), max_tokens=8)
    assert forced.text != base.text
    assert not forced.steering.off


def test_a_query_of_the_task_is_steered_as_without_a_gate(gated: Engine) -> None:
    answer = gated.answer(INSIDE, max_tokens=4)
    assert answer.text == gated.answer(INSIDE, steering=Steering(gate="off"), max_tokens=4).text
    record = answer.as_dict()["gate"]
    assert record["steered"]
    assert record["task"] == "kinds"
    assert record["threshold"] == 0.5 < record["score"] <= 1
    assert json.loads(json.dumps(record)) == record


def test_the_first_event_has_the_decision(gated: Engine) -> None:
    first, *others = gated.stream(OUTSIDE, max_tokens=3)
    assert first.gate is not None
    assert not first.gate.steered
    assert all(event.gate == first.gate for event in others)


def test_a_stricter_gate_steers_less(gated: Engine) -> None:
    score = gated.answer(INSIDE, max_tokens=1).gate
    assert score is not None
    assert gated.gated_vector(INSIDE, steering=Steering(gate=score.score)).vector is not None
    assert gated.gated_vector(INSIDE, steering=Steering(gate=min(1, score.score + 1e-3))).vector is None


def test_control_vectors_stay_where_the_gate_is_closed(gated: Engine) -> None:
    added = ControlVector.of(gated.vector(INSIDE))
    how = gated.with_control_vectors([added])
    answer = gated.answer(OUTSIDE, steering=how, max_tokens=6)
    assert answer.gate is not None
    assert not answer.gate.steered
    assert not answer.steering.off
    assert answer.text == gated.answer(OUTSIDE, vector=added, steering=Steering(), max_tokens=6).text


def test_a_batch_mixes_steered_and_unsteered_queries(gated: Engine) -> None:
    queries = [OUTSIDE, INSIDE, "nothing of the kind", "hen 1"]
    alone = [gated.answer(query, max_tokens=5) for query in queries]
    with Batch(gated) as batch:
        together = list(batch.answer(queries, max_tokens=5))
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert [answer.gate for answer in together] == [answer.gate for answer in alone]
    assert [answer.steering.off for answer in together] == [True, False, True, False]


def test_each_turn_of_a_conversation_is_gated_alone(gated: Engine) -> None:
    chat, base = Conversation(gated, max_tokens=4), Conversation(gated, steering=OFF, max_tokens=4)
    for query in (OUTSIDE, INSIDE, "nothing of the kind"):
        answer = chat.answer(query)
        assert answer.gate is not None
        if not answer.gate.steered:
            base.restore(None, chat.turns[:-1])
            assert answer.text == base.answer(query).text
    assert [turn.record["gate"]["steered"] for turn in chat.turns] == [False, True, False]


def test_a_bundle_without_a_gate_steers_every_query(engine: Engine) -> None:
    answer = engine.answer(OUTSIDE, steering=Steering(gate=1.0), max_tokens=2)
    assert answer.gate is None
    assert not answer.steering.off
    assert "gate" not in answer.as_dict()


def changed(source: Path, folder: Path, data: bytes | None, gate: dict[str, object] | None = None) -> Bundle:
    """A bundle as another, with this gate.f16 in place of its own, None for no such file."""
    copytree(source, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["gate"] |= gate or {}
    if data is None:
        del manifest["files"][GATE]
    else:
        (folder / GATE).write_bytes(data)
        manifest["files"][GATE] = tiny.entry(folder / GATE).model_dump()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return Bundle(folder)


@pytest.mark.parametrize("damage", ["missing", "short", "odd", "not finite", "empty", "narrow"])
def test_a_damaged_gate_is_refused(gated_bundle: Path, tmp_path: Path, damage: str) -> None:
    data = (gated_bundle / GATE).read_bytes()
    other = {
        "missing": None,
        "short": data[:-32],
        "odd": data[:-1],
        "not finite": b"\xff" * len(data),
        "empty": b"",
        "narrow": data[: len(data) // 2],
    }
    with pytest.raises(BundleError, match=GATE.replace(".", r"\.")):
        Generator(changed(gated_bundle, tmp_path / "damaged", other[damage]), tried=True)


def test_prototypes_are_bounded_before_they_are_read(gated_bundle: Path, tmp_path: Path) -> None:
    n_bytes = (64 << 20) + 32
    bundle = changed(gated_bundle, tmp_path / "large", bytes(n_bytes))
    tracemalloc.start()
    with pytest.raises(BundleError, match=str(n_bytes)):
        Generator(bundle, tried=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n_bytes


def test_a_graph_without_states_has_no_gate(gated_bundle: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stateless"
    copytree(gated_bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in set(manifest["files"]) & {path.relative_to(tiny_bundle).as_posix() for path in tiny_bundle.rglob("*")}:
        (folder / name).write_bytes((tiny_bundle / name).read_bytes())
        manifest["files"][name] = tiny.entry(folder / name).model_dump()
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="no pooled state"):
        Generator(Bundle(folder), tried=True)


def test_prototypes_that_are_zero_resemble_nothing(gated_bundle: Path, tmp_path: Path) -> None:
    data = (gated_bundle / GATE).read_bytes()
    _, score = Generator(changed(gated_bundle, tmp_path / "zero", bytes(len(data))), tried=True).scored(INSIDE)
    assert score is not None
    assert score.score < 0.5


@pytest.mark.parametrize("threshold", [1e308, -1e308])
def test_thresholds_out_of_reach_give_scores(gated_bundle: Path, tmp_path: Path, threshold: float) -> None:
    task = {"name": "x", "prototypes": 1, "threshold": threshold, "scale": 5e-324}
    data = np.eye(1, 16, dtype="<f2").tobytes()
    _, score = Generator(changed(gated_bundle, tmp_path / "far", data, gate={"tasks": [task]}), tried=True).scored("x")
    assert score is not None
    assert score.score == pytest.approx(float(threshold < 0))


def test_tasks_of_a_gate_have_different_names() -> None:
    task = GateTask(name="x", prototypes=1, threshold=0, scale=1)
    with pytest.raises(ValidationError, match="2 tasks named 'x'"):
        GateSpec(tasks=[task, task])


def test_an_unsteered_turn_uses_the_cache_though_the_bundle_steers_all_tokens(gated: Engine) -> None:
    chat = Conversation(gated, steering=Steering(positions="all"), max_tokens=4)
    first, second = chat.answer(OUTSIDE), chat.answer("nothing of the kind")
    assert second.tokens.evaluated < second.tokens.prompt - first.tokens.prompt + 8 < second.tokens.prompt
    steered = chat.answer(INSIDE)
    assert steered.tokens.evaluated == steered.tokens.prompt


@pytest.mark.parametrize("version", [1, 2])
def test_an_earlier_format_has_no_gate(gated_bundle: Path, tmp_path: Path, version: int) -> None:
    folder = tmp_path / "earlier"
    copytree(gated_bundle, folder)
    manifest = json.loads((folder / MANIFEST).read_text()) | {"format_version": version}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="format_version 3"):
        Bundle(folder)


@pytest.mark.parametrize(("text", "score"), [("auto", 0.5), ("off", 0), ("0.75", 0.75), ("1", 1)])
def test_gates_as_texts(text: str, score: float) -> None:
    assert parse_gate(text) == score


@pytest.mark.parametrize("wrong", ["on", "", "1.5", "-0.1", "nan"])
def test_other_gates_are_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="gate"):
        parse_gate(wrong)


def of_two_tasks(outside: int = 0) -> Gate:
    """Prototypes along the axes: two for each task, then those outside."""
    tasks = [GateTask(name=name, prototypes=2, threshold=0.5, scale=0.1) for name in ("one", "two")]
    spec = GateSpec(tasks=tasks, outside=outside)
    return Gate(spec, np.eye(4 + outside, 8, dtype=np.float16))


STATES = st.lists(st.floats(-4, 4, width=32), min_size=8, max_size=8).map(lambda values: np.array(values, np.float32))


@given(state=STATES, factor=st.floats(0.01, 100))
def test_a_score_is_from_0_to_1_and_does_not_depend_on_the_length_of_the_state(
    state: np.ndarray, factor: float
) -> None:
    gate = of_two_tasks(outside=2)
    score, longer = gate(state), gate(state * np.float32(factor))
    assert 0 <= score.score <= 1
    assert longer.score == pytest.approx(score.score, abs=1e-3)


def test_the_nearest_task_is_found_and_what_is_nearer_to_the_outside_scores_less() -> None:
    state = np.array([0, 0, 1, 1, 0.5, 0.5, 0, 0], np.float32)
    inside, less = of_two_tasks()(state), of_two_tasks(outside=2)(state)
    assert inside.task == less.task == "two"
    assert inside.score > less.score


def test_a_decision_depends_on_the_threshold() -> None:
    assert GateDecision("x", 0.5, 0.5).steered
    assert not GateDecision("x", 0.5, 0.51).steered


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5), outside=st.integers(0, 5), seed=st.integers(0, 99))
def test_similarities_are_those_to_the_nearest_prototypes_of_each_task(
    sizes: list[int], outside: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    prototypes = rng.normal(size=(sum(sizes) + outside, 8))
    prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
    tasks = [GateTask(name=f"t{n}", prototypes=size, threshold=0, scale=1) for n, size in enumerate(sizes)]
    gate = Gate(GateSpec(tasks=tasks, outside=outside), prototypes)
    state = rng.normal(size=8).astype(np.float32)
    cosines = prototypes @ state / np.linalg.norm(state)
    groups = np.split(cosines, np.cumsum(sizes))
    wanted = [nearest_mean(group) if len(group) else -1 for group in groups]
    np.testing.assert_allclose(gate.nearest(state), wanted, atol=1e-6)
