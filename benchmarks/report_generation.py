"""What was measured of tasks whose answers are text, for docs/explanation/results.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from atv_eval import difference, mean_over_tasks, table
from atv_local.text import counted
from benchmarks.generation import METHODS

Record = dict[str, Any]
OURS = ("steered, two vectors", "steered")
"""The method that the others are compared with: the first of these that was measured."""
METRICS = {"slot_f1": "slot F1", "chrf": "chrF", "exact": "exact match", "token_f1": "token F1"}


def generation(records: Sequence[Record]) -> str:
    """All methods on the same rows; of several seeds each row has its mean."""
    scores: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        scores[record["method"]][record["task"]].append(record["scores"][record["main"]])
    hits = {
        method: {task: np.mean(np.array(seeds), axis=0) for task, seeds in sorted(scores[method].items())}
        for method in METHODS
        if method in scores
    }
    ours = next((method for method in OURS if method in hits), None)
    if ours is None:
        return ""
    rows = []
    for method, tasks in hits.items():
        against = "" if method == ours else _difference(hits[ours], tasks)
        n_seeds = str(len(next(iter(scores[method].values()))))
        name = f"**{method}**" if method == ours else method
        rows.append([name, n_seeds, mean_over_tasks(tasks).percent(), against])
    main = {record["task"]: record["main"] for record in records}
    per_task = [
        [task, METRICS.get(main[task], main[task]), *(f"{100 * hits[method][task].mean():.1f}" for method in hits)]
        for task in hits[ours]
    ]
    epochs = {record["epochs"] for record in records if "epochs" in record}
    lora = f", {counted(epochs.pop(), 'epoch')}" if epochs else ""
    n_rows, n_train = sum(len(task) for task in hits[ours].values()), records[-1]["train_rows"]
    return f"""## Texts: JSON, queries, commands, sentences

{counted(len(hits[ours]), "task")} together in one generator, {n_train} training rows of each, {n_rows} test rows; of
several seeds, which draw the training rows, each test row has its mean. Steered and static answers come from llama.cpp
without demonstrations; `static` has one learned vector for each task, `lora` (r=8 on all linear layers{lora}) changes
the target's own weights and answers in PyTorch, without the quantisation that it was trained through. `k-shot` and
`bm25` have 16 demonstrations after an instruction. Means over the tasks of each one's own metric, in percent, and what
{ours} has more, on the same rows.
`python -m benchmarks.generation --data FOLDER --work FOLDER --tests 30 --lora-epochs 2 --output FILE.jsonl`

{table(["method", "seeds", "mean", "difference"], rows)}

{table(["task", "metric", *hits], per_task)}"""


def _difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    found = difference(ours, theirs)
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}], {p}"
