"""The tasks of the paper under task vectors and every rival, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from atv_eval import difference, mean_over_tasks, table
from benchmarks.paper_tasks import CATEGORIES, N_CTX, PAPER, UNSEEN
from benchmarks.report_cells import Hits, against, difference_table, picture

Record = dict[str, Any]
WHAT = {
    "none": "the query alone, base model",
    "zero-shot": "instruction and labels, best of four wordings",
    "16-shot": "16 demonstrations, best of three wordings",
    "bm25": "the 16 most similar rows, best of three wordings",
    "random": "random vectors of the norms of those means",
    "static": "one learned vector",
    "averaged": "the generator's mean vector of each task",
    "per-task": "a learned vector for each task",
    "prefix": "prefix tuning, 16 tokens (peft)",
    "lora": "LoRA on the target, r=8 (peft)",
    "atv": "**task vectors by query**",
    "atv, by answers": "task vectors, epoch by right answers",
    "classifier": "logistic regression, frozen backbone",
    "head": "logistic regression, trained generator",
    "atv, told": "task vectors, told in words",
    "lora, told": "LoRA, told in words",
}
"""The methods, in the order of the table."""
_BY_ANSWERS = "atv, by answers"
_ATV, _LLAMA = "atv", {"zero-shot": 31.4, "16-shot": 42.1, "bm25": 44.9, "atv": 62.1}
"""And what the paper reports of them for Llama-3-8B: the mean of the means of its categories."""


def paper(records: Sequence[Record]) -> str:
    """All methods on all tasks, and by category."""
    if not records:
        return ""
    methods = [method for method in WHAT if any(record["method"] == method for record in records)]
    trained, unseen = _in(records, PAPER), _in(records, UNSEEN)
    head = ["answered by", "seeds", "rows", "first token", "task vectors have more", "among the choices"]
    head += ["prompt tokens", "trained"]
    unseen_head = ["answered by", "rows", "first token", "task vectors have more", "among the choices", "have more"]
    kinds = [[method, *_of_categories(trained, method), str(_LLAMA.get(method, ""))] for method in methods]
    return f"""## The paper's tasks

The 20 tasks of the paper, SmolLM2-135M-Instruct Q4_1 in PyTorch: 90 training rows of each task, all tasks in one
training. Each method that learns has the best of three epochs and the better of two learning rates (one for vectors)
by the loss on up to 30 validation rows of each task, which choose wordings of prompts too.{_by_answers(methods)}
`First token` is the paper's measure: the most likely first token of the answer is the right one. Shares in percent, the
mean of the tasks; each row has the mean of the seeds, which are the paper's and draw the training rows. Differences are
on the rows and seeds that both have; intervals and p-values are over rows. Where fewer rows were asked, they are the
first of each task. Prompts have as many of the 16 demonstrations as fit in {N_CTX:,} tokens. Classifiers learn each
task by itself. The methods were measured on several machines, which each line of the file names.{_missing(methods)}
`python -m benchmarks.rivals --data FOLDER --output benchmarks/results/rivals.jsonl`

{picture("paper-tasks", "Shares of right first tokens under each method, with intervals.")}

{difference_table(head, [_row(trained, method) for method in methods])}

{_reading(trained, methods)}

By the paper's categories, first token in percent, and the mean of these, which is the figure that the paper reports for
its Llama-3-8B:

{table(["answered by", *CATEGORIES, "mean", "Llama-3-8B in the paper"], kinds)}

Seven tasks that nothing was trained on, their test rows. Vectors for each task are the mean over the tasks here.
Demonstrations are training rows of these tasks, and wordings of prompts are chosen on their validation rows.
{_sides(unseen, methods)}
{_unseen_reading(unseen, methods)}

{difference_table(unseen_head, [_unseen_row(unseen, method) for method in methods if _seeds(unseen, method, "first")])}
"""


def paper_hits(records: Sequence[Record]) -> dict[str, Hits]:
    """By method, whether the first token is right: the mean of the seeds for each row of each of the 20 tasks."""
    found = _in(records, PAPER)
    hits = {WHAT[method]: _mean(_seeds(found, method, "first")) for method in WHAT}
    return {what: tasks for what, tasks in hits.items() if tasks}


def _reading(records: Sequence[Record], methods: Sequence[str]) -> str:
    """What the table says and what it cannot."""
    others = [method for method in methods if method not in (_ATV, "random", "none")]
    gaps = [difference(*_pair(records, _ATV, method, "first")) for method in others]
    least = [100 * gap.detectable for gap in gaps if gap.detectable is not None]
    last = [WHAT[m] for m in others if {r["epoch"] for r in records if r["method"] == m and "epoch" in r} == {3}]
    more = ", ".join(f"{WHAT[m]} {_against(records, m, 'static')}" for m in ("per-task", "lora") if m in methods)
    by_query = ";\n".join(
        f"over {WHAT[m]}: {_against(records, _ATV, m)}" for m in ("averaged", "per-task") if m in methods
    )
    span = f"{min(least):.1f} to {max(least):.1f}"
    return f"""{_sides(records, methods)}
In points over one learned vector: {more}.
In points, task vectors by query {by_query}.
The target is {8000 / 135:.0f} times smaller than the paper's. Differences to task vectors that would be found in four
of five tries are {span} points. The best epoch was the last one in every run of {"; ".join(last)}: more epochs might
give them more."""


def _sides(records: Sequence[Record], methods: Sequence[str]) -> str:
    """Which methods are clearly ahead of task vectors, and which behind."""
    gaps = {
        method: difference(*_pair(records, _ATV, method, "first"))
        for method in methods
        if method != _ATV and _seeds(records, method, "first")
    }
    ahead = [WHAT[method] for method, gap in gaps.items() if gap.clear and gap.value < 0]
    behind = [WHAT[method] for method, gap in gaps.items() if gap.clear and gap.value > 0]
    return f"""Clearly ahead of task vectors by query, in right first tokens, are {"; ".join(ahead) or "none"}.
Clearly behind are {"; ".join(behind) or "none"}."""


def _unseen_reading(records: Sequence[Record], methods: Sequence[str]) -> str:
    """Whether training on other tasks harms the choices."""
    untrained = ("none", "zero-shot", "16-shot", "bm25", "random")
    shares = {method: _mean(_seeds(records, method, "choice")) for method in methods if method not in untrained}
    trained = {method: 100 * mean_over_tasks(hits).value for method, hits in shares.items() if hits}
    base = 100 * mean_over_tasks(_mean(_seeds(records, "none", "choice"))).value
    best = max(trained, key=lambda method: trained[method])
    if trained[best] >= base:
        return ""
    return f"""Among the choices nothing that was trained on other tasks is above the base model alone, with
{base:.1f} %: at best {WHAT[best]} with {trained[best]:.1f} %, in points {_against(records, best, "none", "choice")}."""


def _by_answers(methods: Sequence[str]) -> str:
    """The rule of `train`."""
    rule = "`train` takes the epoch with the most right answers where all tasks have labels"
    if _BY_ANSWERS in methods:
        return f"\n{rule}; so does `{WHAT[_BY_ANSWERS]}`."
    return f"\n{rule}; that was not measured here."


def _missing(methods: Sequence[str]) -> str:
    """Which rivals of the table were not measured."""
    names = [WHAT[method].split(",")[0] for method in WHAT if method not in (*methods, _BY_ANSWERS)]
    return f" Not measured: {', '.join(names)}." if names else ""


def _row(records: Sequence[Record], method: str) -> list[str]:
    seeds = _seeds(records, method, "first")
    hits = _mean(seeds)
    mine = [record for record in records if record["method"] == method]
    tokens = [record["prompt_tokens"] for record in mine if "prompt_tokens" in record]
    trainable = mine[0].get("trainable")
    return [
        WHAT[method],
        str(len(seeds)),
        f"{sum(map(len, hits.values())):,}",
        mean_over_tasks(hits).percent(),
        _more(records, method, "first"),
        _share(records, method, "choice"),
        f"{fmean(tokens):.0f}" if tokens else "",
        f"{trainable / 1e6:.2f}M" if trainable else "",
    ]


def _unseen_row(records: Sequence[Record], method: str) -> list[str]:
    hits = _mean(_seeds(records, method, "first"))
    cells = [WHAT[method], f"{sum(map(len, hits.values())):,}", mean_over_tasks(hits).percent()]
    return [
        *cells,
        _more(records, method, "first"),
        _share(records, method, "choice"),
        _more(records, method, "choice"),
    ]


def _more(records: Sequence[Record], method: str, measure: str) -> str:
    return "" if method == _ATV else against(*_pair(records, _ATV, method, measure))


def _against(records: Sequence[Record], method: str, other: str, measure: str = "first") -> str:
    return against(*_pair(records, method, other, measure))


def _of_categories(records: Sequence[Record], method: str) -> list[str]:
    """The mean of each, and of these."""
    hits = _mean(_seeds(records, method, "first"))
    means = [mean_over_tasks({task: hits[task] for task in tasks}).value for tasks in CATEGORIES.values()]
    return [f"{100 * mean:.1f}" for mean in (*means, fmean(means))]


def _in(records: Iterable[Record], group: str) -> list[Record]:
    return [record for record in records if record["group"] == group]


def _seeds(records: Iterable[Record], method: str, measure: str) -> dict[int, dict[str, str]]:
    """A digit for each row, by seed and task; of runs with other numbers of rows the one with most."""
    found: dict[int, dict[str, str]] = {}
    for record in records:
        if record["method"] == method and record[measure]:
            tasks = found.setdefault(record["seed"], {})
            tasks[record["task"]] = max(tasks.get(record["task"], ""), record[measure], key=len)
    return found


def _mean(seeds: Mapping[int, Mapping[str, str]]) -> Hits:
    """Of each row that all seeds have."""
    found: Hits = {}
    for task in next(iter(seeds.values()), {}):
        marks = [tasks[task] for tasks in seeds.values()]
        size = min(map(len, marks))
        found[task] = np.mean([[int(mark) for mark in one[:size]] for one in marks], axis=0)
    return found


def _pair(records: Sequence[Record], ours: str, theirs: str, measure: str) -> tuple[Hits, Hits]:
    """Both methods on the seeds, tasks and rows that both have; one that draws nothing has one seed for all."""
    first, second = (_seeds(records, method, measure) for method in (ours, theirs))
    both = set(first) & set(second)
    if theirs not in ("none", "zero-shot"):
        first, second = ({seed: side[seed] for seed in side if seed in both} for side in (first, second))
    left, right = _mean(first), _mean(second)
    sizes = {task: min(len(left[task]), len(right[task])) for task in left if task in right}
    one, other = ({task: side[task][:size] for task, size in sizes.items()} for side in (left, right))
    return one, other


def _share(records: Sequence[Record], method: str, measure: str) -> str:
    hits = _mean(_seeds(records, method, measure))
    return f"{100 * mean_over_tasks(hits).value:.1f}" if hits else ""
