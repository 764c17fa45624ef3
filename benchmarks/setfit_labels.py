"""SetFit on the rows of one task: the backbone learns from pairs of rows, then logistic regression reads it.

SetFit is not among the dependencies of the project: `pip install setfit`. The backbone learns with its recommended
settings: all pairs once, as many of one label as of two, 16 in a batch, 2e-5 as learning rate. So 16 rows make about
13 steps and 64 rows about 210; more rows would make thousands, and end after 500. It is read by the classifier of
`benchmarks.rival_classifiers`: from a few rows that are not balanced, SetFit's own predicts the most frequent labels.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from tempfile import TemporaryDirectory
from typing import Any

from atv_local.data import Row
from atv_train import default_backbone
from benchmarks.lora import DEVICE
from benchmarks.rival_classifiers import classified, untrained_reader
from benchmarks.rival_rows import Draw

BATCH, RATE, MAX_STEPS = 16, 2e-5, 500


def measured_setfit(draw: Draw, task: str) -> dict[str, Any]:
    """A line for one task, with the right answers of SetFit's own classifier as `own` and the seconds it all took."""
    started = time.monotonic()
    train, test = (draw.rows(task, split) for split in ("train", "test"))
    model, reader = fine_tuned(train, draw.seed), untrained_reader()
    own = model.predict([row.input for row in test], show_progress_bar=False)
    reader.generator.backbone = model.model_body[0].auto_model.to(DEVICE)
    hits = _marks(classified(draw, reader, task))
    return {
        **{"method": "setfit", "task": task, "group": draw.groups[task]},
        **{"exact": hits, "first": hits, "choice": hits},
        "own": _marks(str(label) == row.output for label, row in zip(own, test, strict=True)),
        "steps": n_steps([row.output for row in train]),
        "seconds": round(time.monotonic() - started),
    }


def fine_tuned(rows: Sequence[Row], seed: int) -> Any:
    """The backbone after SetFit, and SetFit's own classifier."""
    try:
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments
    except ModuleNotFoundError as error:
        raise SystemExit(f"SetFit needs {error.name}, which is not installed; run: pip install setfit") from error
    model, labels = SetFitModel.from_pretrained(str(default_backbone())), [row.output for row in rows]
    with TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            batch_size=BATCH,
            body_learning_rate=RATE,
            max_steps=n_steps(labels),
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            show_progress_bar=False,
        )
        data = Dataset.from_dict({"text": [row.input for row in rows], "label": labels})
        Trainer(model, settings, train_dataset=data).train()
    return model


def n_steps(labels: Sequence[str]) -> int:
    """In which all pairs are seen once, `MAX_STEPS` at most; told a maximum alone, SetFit goes on up to it."""
    n_same = sum(count * (count + 1) // 2 for count in Counter(labels).values())  # a row is a pair with itself too
    n_other = len(labels) * (len(labels) + 1) // 2 - n_same
    return min(MAX_STEPS, -(-2 * max(n_same, n_other) // BATCH))


def _marks(hits: Iterable[bool]) -> str:
    return "".join(str(int(hit)) for hit in hits)
