"""The tasks of the paper under task vectors and every rival, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from atv_eval import difference, mean_over_tasks, table
from benchmarks.paper_tasks import CATEGORIES, PAPER, UNSEEN
from benchmarks.report_cells import Hits, against, picture

Record = dict[str, Any]
WHAT = {
    "none": "the query alone, base model",
    "zero-shot": "instruction and labels, best of four wordings",
    "16-shot": "16 demonstrations, best of three wordings",
    "bm25": "the 16 most similar rows, best of three wordings",
    "random": "random vectors of the same norms",
    "static": "one learned vector",
    "averaged": "the generator's mean vector of each task",
    "per-task": "a learned vector for each task",
    "prefix": "prefix tuning, 16 tokens (peft)",
    "lora": "LoRA on the target, r=8 (peft)",
    "atv": "**task vectors by query**",
    "classifier": "logistic regression, frozen backbone",
    "head": "logistic regression, trained generator",
    "atv, told": "task vectors, told in words",
    "lora, told": "LoRA, told in words",
}
"""The methods, in the order of the table."""
_ATV, _LLAMA = "atv", {"zero-shot": 31.4, "16-shot": 42.1, "bm25": 44.9, "atv": 62.1}
"""And what the paper reports of them for Llama-3-8B: the mean of the means of its categories."""


def paper(records: Sequence[Record]) -> str:
    """All methods on all tasks, and by category."""
    found = [record for record in records if record["part"] == "paper"]
    if not found:
        return ""
    methods = [method for method in WHAT if any(record["method"] == method for record in found)]
    atv20, unseen = _in(found, PAPER), _in(found, UNSEEN)
    rows = [_row(atv20, unseen, method) for method in methods]
    head = ["answered by", "seeds", "rows", "first token", "task vectors have more", "among the choices"]
    head += ["unseen: rows", "first token", "among the choices", "prompt tokens", "trained"]
    kinds = [
        [
            method,
            *(_share(_hits(_of(atv20, names), method, "first")) for names in CATEGORIES.values()),
            *_mean(atv20, method),
        ]
        for method in methods
    ]
    missed = _unseen_difference(atv20, methods)
    return f"""## The paper's tasks

The 20 tasks of the paper and 7 that nothing was trained on, all test rows, SmolLM2-135M-Instruct Q4_1 in PyTorch: 90
training rows of each task, all tasks in one training, three epochs at most. Each method that learns has its best epoch
and the better of two learning rates (one for vectors) by the loss on 30 validation rows of each task, which choose
wordings of prompts too. `First token` is the paper's measure: the most likely first token of the answer is the right
one; it is the share in percent, the mean of the tasks, over the seeds of the paper, which draw the training rows. Each
row has the mean of the seeds. Classifiers learn each task by itself and know no unseen ones. Of the methods with fewer
rows only the first test rows of each task were asked.
`python -m benchmarks.rivals --part paper --data FOLDER --output benchmarks/results/rivals.jsonl`

{picture("paper-tasks", "Shares of right first tokens under each method, with intervals.")}

{table(head, rows)}

By the paper's categories, first token in percent, and the mean of these, which is the figure that the paper reports for
its Llama-3-8B:

{table(["answered by", *CATEGORIES, "mean", "Llama-3-8B in the paper"], kinds)}

The target is {8000 / 135:.0f} times smaller than the paper's. It answers most of these tasks as well as it ever does
once it knows which letters or words to write, and one vector says that: methods that read the query, LoRA on the
target's own weights and classifiers that see no target are all within a few points of it. A difference of less than
{missed:.1f} points over all 20 tasks would have been missed. So these tasks cannot show, at this size, what reading a
query adds; those of [texts](#texts-json-queries-commands-sentences) and [labels](#learning-curve) do.
"""


def paper_hits(records: Sequence[Record]) -> dict[str, Hits]:
    """By method, whether the first token is right: the mean of the seeds for each row of each of the 20 tasks."""
    found = _in((record for record in records if record["part"] == "paper"), PAPER)
    hits = {WHAT[method]: _hits(found, method, "first") for method in WHAT}
    return {what: tasks for what, tasks in hits.items() if tasks}


def _in(records: Iterable[Record], group: str) -> list[Record]:
    return [record for record in records if record["group"] == group]


def _of(records: Iterable[Record], tasks: Sequence[str]) -> list[Record]:
    return [record for record in records if record["task"] in tasks]


def _row(trained: Sequence[Record], unseen: Sequence[Record], method: str) -> list[str]:
    ours, theirs = (_hits(trained, name, "first") for name in (_ATV, method))
    others = _hits(unseen, method, "first")
    mine = [record for record in trained if record["method"] == method]
    tokens = [record["prompt_tokens"] for record in mine if "prompt_tokens" in record]
    trainable = mine[0].get("trainable")
    return [
        WHAT[method],
        str(len({record["seed"] for record in mine})),
        _n_rows(theirs),
        mean_over_tasks(theirs).percent(),
        "" if method == _ATV else against(*_common(ours, theirs)),
        _share(_hits(trained, method, "choice")),
        _n_rows(others),
        mean_over_tasks(others).percent() if others else "",
        _share(_hits(unseen, method, "choice")),
        f"{fmean(tokens):.0f}" if tokens else "",
        f"{trainable / 1e6:.2f}M" if trainable else "",
    ]


def _hits(records: Iterable[Record], method: str, measure: str) -> Hits:
    """Of each task, the mean of the seeds for each row."""
    found: dict[str, list[list[int]]] = {}
    for record in records:
        if record["method"] == method and record[measure]:
            found.setdefault(record["task"], []).append([int(hit) for hit in record[measure]])
    return {task: np.mean(np.array(seeds, dtype=float), axis=0) for task, seeds in found.items()}


def _common(ours: Hits, theirs: Hits) -> tuple[Hits, Hits]:
    """Both on the rows that both have."""
    sizes = {task: min(len(ours[task]), len(theirs[task])) for task in ours if task in theirs}
    first, second = ({task: side[task][:size] for task, size in sizes.items()} for side in (ours, theirs))
    return first, second


def _n_rows(hits: Hits) -> str:
    return f"{sum(map(len, hits.values())):,}" if hits else ""


def _unseen_difference(records: Sequence[Record], methods: Sequence[str]) -> float:
    """The largest difference that is not found once in five tries, of methods that do not differ clearly."""
    pairs = [
        _common(_hits(records, _ATV, "first"), _hits(records, method, "first")) for method in methods if method != _ATV
    ]
    found = [difference(*pair) for pair in pairs]
    return max(100 * (1.96 + 0.84) * (one.high - one.low) / (2 * 1.96) for one in found)


def _share(hits: Hits) -> str:
    return f"{100 * mean_over_tasks(hits).value:.1f}" if hits else ""


def _mean(records: Sequence[Record], method: str) -> list[str]:
    """Of the means of the categories; here and in the paper."""
    means = [mean_over_tasks(_hits(_of(records, names), method, "first")).value for names in CATEGORIES.values()]
    return [f"{100 * fmean(means):.1f}", str(_LLAMA.get(method, ""))]
