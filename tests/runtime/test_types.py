"""Calls as a user writes them. They run here, and `make lint` checks this file with mypy --strict."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

import atv_local
from atv_local import Generator, Positions, Steering


def test_steering_takes_words() -> None:
    words = Steering(0.5, layers="8-20", positions="all")
    assert words == Steering(strength=0.5, layers=(8, 20), positions=Positions.ALL)
    assert words.positions.prefix
    layers: tuple[int, int] | None = words.layers
    assert layers == (8, 20)


def test_steering_is_a_frozen_value() -> None:
    steering = Steering(layers="2", positions="last")
    assert replace(steering, strength=2.0) == Steering(2.0, (2, 2), Positions.LAST)
    assert pickle.loads(pickle.dumps(steering)) == copy.deepcopy(steering) == steering  # our own
    assert len({steering, Steering(layers=(2, 2), positions=Positions.LAST), Steering()}) == 2
    assert repr(steering) == "Steering(strength=1, layers=(2, 2), positions='last')"
    with pytest.raises(FrozenInstanceError):
        steering.strength = 2.0  # type: ignore[misc]  # which mypy refuses too


def test_engines_take_vectors_of_every_kind(tiny_gguf: Path, tiny_generator: Generator, tmp_path: Path) -> None:
    vector, file = tiny_generator("apple 1"), tiny_generator.control_vector(["apple 1"])
    file.save(tmp_path / "v.gguf")
    with atv_local.load(tiny_gguf, control_vectors=[vector, (file, 0.5), tmp_path / "v.gguf"], n_threads=1) as engine:
        assert np.allclose(engine.vector("dog 1"), 2.5 * vector, atol=1e-6)
        kinds = (vector, vector.array, file, str(tmp_path / "v.gguf"))
        assert len({engine.answer("dog 1", vector=kind, max_tokens=4).text for kind in kinds}) == 1
