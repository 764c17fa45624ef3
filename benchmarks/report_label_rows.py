"""Right labels by the number of training rows under each method, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from atv_eval import mean_over_tasks
from benchmarks.paper_tasks import STUDIED
from benchmarks.report_cells import Hits, against, difference_table, picture

Record = dict[str, Any]
WHAT = {
    "classifier": "logistic regression, frozen backbone",
    "head": "logistic regression, trained generator",
    "setfit": "SetFit, the same backbone (setfit)",
    "per-task": "a learned vector for each task",
    "lora": "LoRA on the target, r=8 (peft)",
    "atv": "task vectors by query",
    "atv, by answers": "task vectors, epoch by right answers",
}
"""The methods, in the order of the table."""
_ATV = "atv"


def label_rows(records: Sequence[Record]) -> str:
    """All methods at each number of rows, and what task vectors have more."""
    sizes = sorted({record["rows"] for record in records if record["method"] == _ATV})
    if not sizes:
        return ""
    measured = [method for method in WHAT if any(record["method"] == method for record in records)]
    hits = {method: {size: found for size in sizes if (found := _hits(records, method, size))} for method in measured}
    shares = [
        [WHAT[method], *(mean_over_tasks(found[size]).percent() if size in found else "not measured" for size in sizes)]
        for method, found in hits.items()
    ]
    more = [
        [WHAT[method], *(_more(records, method, size) if size in found else "not measured" for size in sizes)]
        for method, found in hits.items()
        if method != _ATV
    ]
    head = [f"{size:,} rows" for size in sizes]
    n_tests = sum(map(len, hits[_ATV][sizes[0]].values()))
    return f"""## Learning curve

{len(STUDIED)} tasks with labels ({", ".join(STUDIED)}) in one training; all {n_tests} test rows, exact match in
percent, the mean of the tasks, with so many training rows of each task (banking77_top10 has 1,548). {_steps(records)}
Each method has the epoch that is best by the loss on 50 validation rows of each task, and LoRA the better of two
learning rates; in the last line the epoch has the most right answers to these rows, as `train` chooses where all tasks
have labels. {_seeds(records)} Classifiers learn each task by itself and write no text.{_setfit(records)}
`python -m benchmarks.label_rows --data FOLDER --output benchmarks/results/label_rows.jsonl`

{picture("learning-curve", "Right answers by the number of training rows under each method.")}

{difference_table(["", *head], shares)}

Task vectors have more than, in points on the same rows and seeds:

{difference_table(["", *head], more)}
"""


def curves(records: Sequence[Record]) -> dict[str, list[tuple[int, float]]]:
    """By method: numbers of training rows, and right answers in percent."""
    sizes = sorted({record["rows"] for record in records})
    found = {
        what: [
            (size, round(100 * mean_over_tasks(hits).value, 1))
            for size in sizes
            if (hits := _hits(records, method, size))
        ]
        for method, what in WHAT.items()
    }
    return {what: points for what, points in found.items() if points}


def _steps(records: Iterable[Record]) -> str:
    """How long the training was."""
    epochs = {record["rows"]: record["epochs"] for record in records if "epochs" in record}
    listed = ", ".join(f"{number} at {size:,} rows" for size, number in sorted(epochs.items()))
    return f"Epochs: {listed}, in batches of 8 to 32 rows."


def _more(records: Sequence[Record], method: str, size: int) -> str:
    """On the seeds that both have."""
    seeds = [_seeds_of(records, name, size) for name in (_ATV, method)]
    return against(*(_hits(records, name, size, seeds[0] & seeds[1]) for name in (_ATV, method)))


def _hits(records: Iterable[Record], method: str, size: int, seeds: set[int] | None = None) -> Hits:
    """Of each row the mean of its seeds, by task."""
    marks: dict[str, list[list[int]]] = {}
    for record in records:
        if (record["method"], record["rows"]) == (method, size) and (seeds is None or record["seed"] in seeds):
            marks.setdefault(record["task"], []).append(list(map(int, record["exact"])))
    return {task: np.mean(found, axis=0) for task, found in marks.items()}


def _seeds_of(records: Iterable[Record], method: str, size: int) -> set[int]:
    return {record["seed"] for record in records if (record["method"], record["rows"]) == (method, size)}


def _seeds(records: Iterable[Record]) -> str:
    seeds = {record["seed"] for record in records}
    return f"One seed, {seeds.pop()}." if len(seeds) == 1 else f"{len(seeds)} seeds, where all were measured."


def _setfit(records: Sequence[Record]) -> str:
    """How it learns, and what its own classifier has."""
    lines = [record for record in records if record["method"] == "setfit"]
    if not lines:
        return ""
    alone = [record | {"exact": record["own"]} for record in lines]
    shares = {size: mean_over_tasks(_hits(alone, "setfit", size)).value for size in sorted({x["rows"] for x in lines})}
    return f"""
So does SetFit (`pip install setfit`, then `--method setfit`), from all pairs of rows once, as it recommends, in at most
{max(record["steps"] for record in lines)} steps. Its figures in the table are of a logistic regression on the backbone
that it trains, as for the other classifiers; with its own classifier it has
{", ".join(f"{share:.1%} at {size:,} rows" for size, share in shares.items())}."""
