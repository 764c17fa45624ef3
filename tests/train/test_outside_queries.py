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
from atv_train.outside_queries import unlike_tasks
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


def test_general_queries_like_the_rows_are_left_out(models: LoadedModels) -> None:
    rows = examples(*[f"how {n}" for n in range(30)])
    queries = [f"{word} {n} please" for n in range(20) for word in WORDS]
    found = unlike_tasks(queries, rows, models, "mean", torch.device("cpu"))
    assert sum(query.startswith("how") for query in found) < 10
    assert [query for query in queries if not query.startswith("how")] == [q for q in found if not q.startswith("how")]


def test_some_stay_where_all_are_alike(models: LoadedModels) -> None:
    rows = examples(*[f"how {n}" for n in range(30)])
    found = unlike_tasks([f"how {n} else" for n in range(20)], rows, models, "mean", torch.device("cpu"))
    assert MIN_QUERIES <= len(found) < 20


def test_all_stay_without_rows_of_text(models: LoadedModels) -> None:
    assert unlike_tasks(["how 1", "say 2"], [], models, "mean", torch.device("cpu")) == ["how 1", "say 2"]
