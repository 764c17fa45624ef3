"""Labels without the target: logistic regression over a backbone's pooled states, of one that is not trained or of a
generator that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from atv_local.data import Row
from atv_train import default_backbone
from atv_train.vector_sources import AdaptiveVectors, GeneratorModule, load_backbone
from benchmarks.lora import DEVICE
from benchmarks.rival_methods import QUERY_TOKENS
from benchmarks.rival_rows import Draw

PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Values of C, of which the best on validation rows is taken."""
_BATCH = 64


def classified(draw: Draw, reader: AdaptiveVectors, task: str) -> list[bool]:
    """Which test rows of a task are right."""
    train, valid, test = (draw.rows(task, split) for split in ("train", "valid", "test"))
    features, validation, tests = (_states(reader, rows) for rows in (train, valid, test))
    labels = [row.output for row in train]
    if len(set(labels)) == 1:
        return [row.output == labels[0] for row in test]

    def fitted(penalty: float) -> Any:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000))
        return model.fit(features, labels)

    models = [fitted(penalty) for penalty in PENALTIES]
    best = max(models, key=lambda model: float(model.score(validation, [row.output for row in valid])))
    return [bool(found == row.output) for found, row in zip(best.predict(tests), test, strict=True)]


def untrained_reader() -> AdaptiveVectors:
    """The backbone as it comes."""
    backbone, tokenizer = load_backbone(default_backbone())
    return AdaptiveVectors(GeneratorModule(backbone, 1, 1), tokenizer, QUERY_TOKENS).to(DEVICE)


@torch.no_grad()
def _states(reader: AdaptiveVectors, rows: Sequence[Row]) -> np.ndarray[Any, Any]:
    """float32 [rows, d_s]."""
    reader.eval()
    parts = [
        reader.pooled([row.input for row in rows[start : start + _BATCH]]).float().cpu()
        for start in range(0, len(rows), _BATCH)
    ]
    return np.asarray(torch.cat(parts))
