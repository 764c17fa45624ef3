"""Which general queries a gate may learn to close for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from atv_local.data import MIN_QUERIES
from atv_train.examples import Example
from atv_train.load_models import LoadedModels
from atv_train.outside_queries import nearness, outside_queries
from atv_train.vector_sources import load_backbone

WORDS = ("how", "play", "say")


def states(_: object, queries: Sequence[str]) -> np.ndarray:
    """One direction for each first word, and a little of another one for each query."""
    found = 0.1 * np.random.default_rng(len(queries)).normal(size=(len(queries), 16))
    for row, query in zip(found, queries, strict=True):
        row[WORDS.index(query.split()[0])] += 1
    return found.astype(np.float32)


@pytest.fixture
def models(tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedModels:
    """A backbone that tells queries apart by their first word."""
    monkeypatch.setattr("atv_train.outside_queries.query_states", states)
    backbone, tokenizer = load_backbone(tiny_backbone)
    return LoadedModels(backbone, tokenizer, 16, backbone)


def examples(*queries: str) -> list[Example]:
    return [Example(index, query, "a task", (1,), (2,)) for index, query in enumerate(queries)]


def found(
    models: LoadedModels, packaged: list[str], *rows: str, file: Path | None = None
) -> tuple[list[str], list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("atv_train.outside_queries.read_unrelated_queries", lambda _: packaged)
        chosen = outside_queries(file, examples(*rows), len(rows), models, "mean", torch.device("cpu"))
    return chosen.gate, chosen.harmless


def test_packaged_queries_like_the_rows_are_left_out(models: LoadedModels) -> None:
    packaged = [f"{word} {n} please" for n in range(20) for word in WORDS]
    gate, harmless = found(models, packaged, *[f"how {n}" for n in range(30)])
    others = [query for query in packaged if not query.startswith("how")]
    assert sum(query.startswith("how") for query in gate) < 10
    assert [query for query in gate if not query.startswith("how")] == others
    assert set(others) <= set(harmless) <= set(gate)


def test_do_no_harm_leaves_out_more_than_the_gate(models: LoadedModels) -> None:
    packaged = [f"how {n} please" for n in range(200)]
    gate, harmless = found(models, packaged, *[f"how {n}" for n in range(30)])
    assert MIN_QUERIES <= len(harmless) < len(gate) < len(packaged)


def test_some_stay_where_all_are_alike(models: LoadedModels) -> None:
    gate, harmless = found(models, [f"how {n}" for n in range(20)], *[f"how {n}" for n in range(30)])
    assert MIN_QUERIES <= len(harmless) <= len(gate) < 20


def test_all_stay_without_rows_of_text(models: LoadedModels) -> None:
    assert found(models, ["how 1", "say 2"]) == (["how 1", "say 2"], ["how 1", "say 2"])


def test_a_file_is_taken_as_it_is(models: LoadedModels) -> None:
    given = [f"how {n}" for n in range(20)]
    assert found(models, given, "how 1", "how 2", file=Path("given.txt")) == (given, given)


def test_nearness_is_the_share_of_rows_that_are_less_near(models: LoadedModels) -> None:
    rows = examples(*[f"how {n}" for n in range(30)])
    far, near = nearness(["play 1", "how 3"], rows, models, "mean", torch.device("cpu"))
    assert far == 0
    assert 0 <= near <= 1
