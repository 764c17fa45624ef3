"""Several bundles on one target: each query goes to the one whose gate accepts it best, and is answered as by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atv_local.answer import Answer, Conversation, Engine, load
from atv_local.batch import Batch
from atv_local.errors import UsageError
from atv_local.generator import Generator
from atv_local.target import Target
from atv_local.vectors import OFF, ControlVector, Positions, Steering
from tests import tiny

FRUIT, BEAST, OUTSIDE = "pear 7", "a cow", "something else"
MIXED = [OUTSIDE, FRUIT, BEAST, "nothing of the kind", "hen 1", "fig", OUTSIDE]

Makes = Callable[..., Engine]


@pytest.fixture(scope="module")
def fruits(fruits_bundle: Path) -> Path:
    return fruits_bundle


@pytest.fixture(scope="module", params=[("decode", (1, 2)), ("all", None)], ids=str)
def beasts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, gated_bundle: Path) -> Path:
    """A bundle that recommends another steering than `fruits`."""
    positions, layers = request.param
    folder = tmp_path_factory.mktemp("router") / "beasts"
    injection = {"positions": Positions(positions), "layers": layers}
    return tiny.write_variant(folder, gated_bundle, tiny.BEASTS, "beasts", **injection)


@pytest.fixture
def engine_of(tiny_gguf: Path) -> Iterator[Makes]:
    engines: list[Engine] = []

    def engine(*bundles: Path, **arguments: object) -> Engine:
        generators = [Generator(bundle, tried=True) for bundle in bundles]
        engines.append(Engine(Target(tiny_gguf, n_threads=1), generators, **arguments))
        return engines[-1]

    yield engine
    for one in engines:
        one.close()


def same(answer: Answer, other: Answer) -> bool:
    """Whether two answers are alike, in text, bundle and steering."""
    return (answer.text, answer.bundle, answer.steering) == (other.text, other.bundle, other.steering)


@pytest.mark.parametrize("turned", [False, True])
def test_each_query_is_answered_as_by_its_bundle_alone(
    engine_of: Makes, fruits: Path, beasts: Path, turned: bool
) -> None:
    both = engine_of(*((beasts, fruits) if turned else (fruits, beasts)))
    alone = {FRUIT: engine_of(fruits), BEAST: engine_of(beasts)}
    for query in (FRUIT, BEAST, FRUIT):
        answer, expected = both.answer(query, max_tokens=8), alone[query].answer(query, max_tokens=8)
        assert same(answer, expected)
        assert answer.reading == expected.reading
        assert answer.gate is not None
        assert answer.gate.steered
        assert answer.gate.bundle == answer.bundle
    assert both.answer(BEAST, max_tokens=8).steering.positions == alone[BEAST].steering.positions


def test_scores_of_choices_are_those_of_the_bundle_alone(engine_of: Makes, fruits: Path, beasts: Path) -> None:
    both, alone = engine_of(fruits, beasts), {FRUIT: engine_of(fruits), BEAST: engine_of(beasts)}
    for query, engine in alone.items():
        expected = engine.answer(query, choices=["a", "b"]).probabilities
        assert both.answer(query, choices=["a", "b"]).probabilities == expected
        assert list(both.stream(query, choices=["a", "b"]))[-1].probabilities == expected


def test_a_query_that_no_gate_accepts_gets_the_base_model(engine_of: Makes, fruits: Path, beasts: Path) -> None:
    both = engine_of(fruits, beasts)
    base, answer = both.answer(OUTSIDE, steering=OFF, choices=["a", "b"]), both.answer(OUTSIDE, choices=["a", "b"])
    assert answer.probabilities == base.probabilities
    assert both.answer(OUTSIDE, max_tokens=8).text == both.answer(OUTSIDE, steering=OFF, max_tokens=8).text
    assert answer.steering.off
    assert answer.bundle is None
    assert answer.gate is not None
    assert not answer.gate.steered
    assert answer.as_dict()["gate"]["bundle"] in {generator.bundle.id for generator in both.generators}


def test_a_batch_mixes_bundles_and_the_base_model(engine_of: Makes, fruits: Path, beasts: Path) -> None:
    both = engine_of(fruits, beasts)
    expected = [both.answer(query, max_tokens=5) for query in MIXED]
    with Batch(both) as batch:
        together = list(batch.answer(MIXED, max_tokens=5))
        assert all(same(one, other) for one, other in zip(together, expected, strict=True))
        assert [answer.gate for answer in together] == [answer.gate for answer in expected]
        scores = list(batch.score(MIXED, ["a", "b"]))
    with Batch(engine_of(beasts)) as alone:
        assert next(alone.score([BEAST], ["a", "b"])) == scores[MIXED.index(BEAST)]
    assert len({answer.bundle for answer in together}) == 3


def test_each_turn_of_a_conversation_goes_to_its_bundle(engine_of: Makes, fruits: Path, beasts: Path) -> None:
    chat = Conversation(engine_of(fruits, beasts), max_tokens=4)
    alone = {FRUIT: engine_of(fruits), BEAST: engine_of(beasts), OUTSIDE: engine_of()}
    for query in (OUTSIDE, FRUIT, BEAST, OUTSIDE, FRUIT):
        before = chat.turns
        expected = Conversation(alone[query], max_tokens=4)
        expected.restore(None, before)
        assert chat.answer(query).text == expected.answer(query).text
    assert [turn.record["gate"]["steered"] for turn in chat.turns] == [False, True, True, False, True]
    assert len({turn.record["bundle"] for turn in chat.turns}) == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(queries=st.lists(st.sampled_from([FRUIT, BEAST, OUTSIDE]), min_size=2, max_size=5))
def test_an_answer_does_not_depend_on_those_before(
    engine_of: Makes, fruits: Path, beasts: Path, queries: list[str]
) -> None:
    both = engine_of(fruits, beasts)
    *before, query = queries
    for one in before:
        both.answer(one, max_tokens=3)
    later = both.answer(query, choices=["a", "b"]).probabilities
    both.target.reset()
    assert both.answer(query, choices=["a", "b"]).probabilities == later


def test_a_tie_goes_to_the_first(engine_of: Makes, fruits: Path, gated_bundle: Path) -> None:
    for first, second in ((fruits, gated_bundle), (gated_bundle, fruits)):
        engine = engine_of(first, second)
        one, other = engine.gate_decisions(FRUIT)
        assert one.score == other.score
        assert engine.answer(FRUIT, max_tokens=1).bundle == engine.generators[0].bundle.id
    assert engine_of(fruits, gated_bundle).answer(BEAST, max_tokens=1).gate.task == "kinds"  # type: ignore[union-attr]


def test_a_bundle_without_a_gate_takes_what_no_gate_accepts(engine_of: Makes, fruits: Path, tiny_bundle: Path) -> None:
    for bundles in ((fruits, tiny_bundle), (tiny_bundle, fruits)):
        both = engine_of(*bundles)
        answer = both.answer(OUTSIDE, max_tokens=6)
        assert same(answer, engine_of(tiny_bundle).answer(OUTSIDE, max_tokens=6))
        assert answer.gate is None
        assert same(both.answer(FRUIT, max_tokens=6), engine_of(fruits).answer(FRUIT, max_tokens=6))


def test_two_bundles_without_a_gate_and_the_same_one_twice_are_refused(
    engine_of: Makes, fruits: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="twice"):
        engine_of(fruits, fruits)
    other = tmp_path / "other"
    for file in sorted(tiny_bundle.rglob("*.*")):
        copy = other / file.relative_to(tiny_bundle)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes() + b"\n" * (file.name == "atv.json"))
    with pytest.raises(UsageError, match="at most one can be without a gate"):
        engine_of(tiny_bundle, fruits, other)


def test_what_is_asked_for_holds_for_all_bundles(engine_of: Makes, fruits: Path, beasts: Path) -> None:
    both, alone = engine_of(fruits, beasts), engine_of(beasts)
    for changes in ({"strength": 0.5}, {"layers": (2, 3)}, {"positions": "last"}):
        wanted = replace(both.steering, **changes)
        answer = both.answer(BEAST, steering=wanted, max_tokens=6)
        own = {name: getattr(alone.steering, name) for name in ("strength", "layers", "positions")}
        assert same(answer, alone.answer(BEAST, steering=Steering(**own | changes), max_tokens=6))


def test_a_closed_gate_that_is_off_steers_by_the_nearest(engine_of: Makes, fruits: Path, beasts: Path) -> None:
    both = engine_of(fruits, beasts)
    answer = both.answer(OUTSIDE, steering=Steering(gate="off"), max_tokens=6)
    assert answer.gate is not None
    nearest = next(one for one in both.generators if one.bundle.id == answer.gate.bundle)
    assert answer.bundle == nearest.bundle.id
    assert answer.gate.score == max(gate.score for gate in both.gate_decisions(OUTSIDE))
    assert (both.vector(OUTSIDE).array == nearest(OUTSIDE).array).all()


def test_control_vectors_are_added_to_every_bundle(engine_of: Makes, fruits: Path, beasts: Path) -> None:
    both, alone = engine_of(fruits, beasts), engine_of(beasts)
    added = ControlVector.of(0.5 * alone.vector("dog"))
    answer = both.answer(BEAST, steering=both.with_control_vectors([added]), max_tokens=6)
    assert same(answer, alone.answer(BEAST, steering=alone.with_control_vectors([added]), max_tokens=6))
    rejected = both.answer(OUTSIDE, steering=both.with_control_vectors([added]), max_tokens=6)
    assert rejected.bundle is None
    assert not rejected.steering.off


def test_auto_is_the_labels_of_all(engine_of: Makes, fruits: Path, beasts: Path) -> None:
    constraint = engine_of(fruits, beasts).constraint("auto")
    assert constraint is not None
    assert constraint.choices == ("a", "b")
    assert engine_of(fruits, beasts).constraint("auto:beasts").choices == ("b",)  # type: ignore[union-attr]


def test_auto_of_a_task_that_two_bundles_have_otherwise_is_refused(
    engine_of: Makes, fruits: Path, gated_bundle: Path, tmp_path: Path
) -> None:
    namesake = tiny.write_variant(tmp_path / "namesake", gated_bundle, tiny.BEASTS, "fruits")
    both = engine_of(fruits, namesake)
    with pytest.raises(UsageError, match="different labels"):
        both.constraint("auto:fruits")


def test_bundles_trained_with_other_template_variables_are_refused(
    engine_of: Makes, fruits: Path, beasts: Path
) -> None:
    generator = Generator(fruits, tried=True)
    object.__setattr__(generator.bundle.manifest, "template_variables", {"mood": "calm"})
    target = engine_of(beasts).target
    with pytest.raises(UsageError, match="mood"):
        Engine(target, [generator, Generator(beasts, tried=True)])


def test_load_takes_a_list_of_bundles(tiny_gguf: Path, fruits: Path, beasts: Path) -> None:
    with load(tiny_gguf, [fruits, beasts], n_threads=1) as engine:
        assert [generator.bundle.path for generator in engine.generators] == [fruits, beasts]
        assert engine.answer(BEAST, max_tokens=1).bundle == engine.generators[1].bundle.id
    with pytest.raises(UsageError, match="bundle"):
        load(tiny_gguf, 7)  # type: ignore[arg-type]
