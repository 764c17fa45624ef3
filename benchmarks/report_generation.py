"""What was measured of tasks whose answers are text, for docs/explanation/results.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from atv_eval import mean_over_tasks, table
from atv_local.text import counted
from benchmarks.generation import METHODS
from benchmarks.report_cells import Hits, against, difference_table, picture

Record = dict[str, Any]
Scores = dict[str, dict[int, dict[str, list[float]]]]
"""Of each row, by method, seed and task."""
OURS = ("steered, two vectors", "steered")
"""The method that the others are compared with: the first of these that was measured."""
METRICS = {"slot_f1": "slot F1", "chrf": "chrF", "exact": "exact match", "token_f1": "token F1"}


def generation(records: Sequence[Record]) -> str:
    """All methods on the same rows; of several seeds each row has its mean."""
    scores, others = _scores(records, chosen=True), _scores(records, chosen=False)
    hits = text_hits(records)
    ours = next((method for method in OURS if method in hits), None)
    if ours is None:
        return ""
    rows = []
    for method, tasks in hits.items():
        both = [seed for seed in scores[method] if seed in scores[ours]]
        pair = (_mean_of(scores[name][seed] for seed in both) for name in (ours, method))
        more = "" if method == ours else against(*pair)
        n_seeds = str(len(scores[method]))
        name = f"**{method}**" if method == ours else method
        rows.append([name, n_seeds, mean_over_tasks(tasks).percent(), more])
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
without demonstrations; `static` has one learned vector for each task. `lora` (r=8 on all linear layers{lora}) changes
the target's own weights and answers in PyTorch, without the quantisation that it was trained through. `k-shot` and
`bm25` have 16 demonstrations after an instruction. {_agreement(scores, others)}Means over the tasks of each one's own
metric, in percent, and what {ours} has more, on the same rows and the seeds that both have.
`python -m benchmarks.generation --data FOLDER --work FOLDER --lora-epochs 2 --in-pytorch --output FILE.jsonl`

{picture("texts", "Means of 14 tasks under each method, with intervals.")}

{difference_table(["method", "seeds", "mean", "difference"], rows)}

{table(["task", "metric", *hits], per_task)}"""


def text_hits(records: Sequence[Record]) -> dict[str, Hits]:
    """By method, the mean of the seeds for each row of each task."""
    scores = _scores(records, chosen=True)
    return {method: _mean_of(scores[method].values()) for method in METHODS if method in scores}


def _scores(records: Sequence[Record], *, chosen: bool) -> Scores:
    """Of methods that PyTorch has answered too, its answers are the chosen ones: they are to more rows."""
    in_pytorch = {record["method"] for record in records if record["runtime"] == "PyTorch"}
    scores: Scores = defaultdict(lambda: defaultdict(dict))
    for record in records:
        if chosen == (record["runtime"] == "PyTorch" or record["method"] not in in_pytorch):
            scores[record["method"]][record["seed"]][record["task"]] = record["scores"][record["main"]]
    return scores


def _agreement(scores: Scores, others: Scores) -> str:
    """How near both runtimes are on the rows that both have answered."""
    means = []
    for method, seeds in others.items():
        for seed, tasks in seeds.items():
            if seed not in scores[method]:
                continue
            pairs = [(scores[method][seed][task][: len(rows)], rows) for task, rows in tasks.items()]
            ours, theirs = (100 * np.mean([np.mean(pair[side]) for pair in pairs]) for side in (0, 1))
            means.append(f"`{method}` {ours:.1f} and {theirs:.1f}")
    if not means:
        return ""
    return f"""These were answered in PyTorch on a GPU, and some rows
by llama.cpp too, where the means are {", ".join(means)}. """


def _mean_of(seeds: Iterable[dict[str, list[float]]]) -> Hits:
    """The mean of each row of each task."""
    given = list(seeds)
    return {task: np.mean(np.array([one[task] for one in given]), axis=0) for task in sorted(given[0])}
