"""What was measured on kinds of tasks that are left out of training, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from atv_eval import mean_over_tasks, table
from benchmarks.kinds import KINDS, RELATED, TRAINED, UNSEEN
from benchmarks.report_cells import Hits, against, difference_table

Record = dict[str, Any]
WHAT = {
    "base": "the base model",
    "16-shot": "the base model after 16 rows of the task itself",
    "static": "one static vector, learned by itself",
    "nearest tasks": "the mean of the learned vectors of the three training tasks most like it",
    "generator": "the generator, with a static share of 0.25",
    "generator's static": "that generator's own static vector",
    "static first": "the generator adds to a static vector that was learned before, on the same rows",
    "no static share": "the generator without a static share",
    "told and untold": "half of the training rows without an instruction",
    "numbered choices": "half of the rows with choices ask for the number of one",
    "distilled": "half of the loss is the distance to the base model after 16 rows",
    "target's states": "the target's own states in place of a backbone, a full map, a quarter of the rate",
    "bare prompts": "the instruction is read by the generator alone",
    "lora": "LoRA on the target's weights, r=8",
}
"""The methods, in the order of the table."""
CURVE = ("static", "generator", "lora")
GROUPS: dict[str, Callable[[Record], bool]] = {
    "left out": lambda record: record["kind"] in KINDS,
    "without relatives": lambda record: record["kind"] in KINDS and not record["task"].startswith(RELATED),
    UNSEEN: lambda record: record["kind"] == UNSEEN,
    TRAINED: lambda record: record["kind"] == TRAINED,
}


_KINDS = (*KINDS, UNSEEN)


def held_out(records: Sequence[Record]) -> str:
    """All methods with most tasks, the kinds one by one, and the curves."""
    if not records:
        return ""
    n_tasks = max(record["tasks"] for record in records if record["train_rows"] == 20)
    main = [record for record in records if (record["tasks"], record["train_rows"]) == (n_tasks, 20)]
    seeds = {record["seed"] for record in main if record["method"] == "static"}
    methods = [method for method in WHAT if _seeds(main, method) == seeds]  # no means of other draws beside theirs
    free = [_row(main, method) for method in methods]
    choices = [
        [WHAT[method], *(_share(_hits(main, method, "choice", group)) for group in GROUPS.values())]
        for method in methods
    ]
    kinds = [[kind, *(_share(_hits(main, method, "exact", _of_kind(kind))) for method in methods)] for kind in _KINDS]
    head = ["answered by", *(name for group in GROUPS for name in (group, "over static"))]
    return f"""## Kinds of tasks that are left out

{n_tasks} tasks, 20 rows of each, one epoch; five whole kinds of tasks are left out, and so is `unseen_dev`. Some that
are left out have relatives among the training tasks: words are picked from lists there too, and letters of words are
written in capitals; `arc_easy` of `unseen_dev` has the instruction of `arc_challenge`. Told by instruction and allowed
answers. In PyTorch, where the right answer is given to the target and its logits say whether greedy decoding writes it.
Shares of exact answers in percent, the mean of the tasks; each row has the mean of {len(seeds)} seeds, which draw
training rows. Intervals and p-values are over rows, for these tasks and seeds.
`python -m benchmarks.held_out --data FOLDER --output benchmarks/results/held_out.jsonl`

{difference_table(head, free)}

By kind, in percent:

{table(["kind", *methods], kinds)}

The most likely of the allowed answers, of the tasks that have such, in percent:

{table(["answered by", *GROUPS], choices)}

{_curve(records)}"""


def _of_kind(kind: str) -> Callable[[Record], bool]:
    return lambda record: bool(record["kind"] == kind)


def _seeds(records: Iterable[Record], method: str) -> set[int]:
    return {record["seed"] for record in records if record["method"] == method}


def _row(records: Sequence[Record], method: str) -> list[str]:
    cells = [WHAT[method]]
    for group in GROUPS.values():
        ours, static = (_hits(records, name, "exact", group) for name in (method, "static"))
        cells += [mean_over_tasks(ours).percent(), "" if method == "static" else against(ours, static)]
    return cells


def _curve(records: Sequence[Record]) -> str:
    """How free text grows with tasks and rows, of methods on the same seeds."""
    sizes = sorted({(record["tasks"], record["train_rows"]) for record in records})
    rows = []
    for size in sizes:
        of_size = [record for record in records if (record["tasks"], record["train_rows"]) == size]
        seeds = _seeds(of_size, "static")
        methods = [method for method in CURVE if seeds and _seeds(of_size, method) == seeds]
        cells = [
            _share(_hits(of_size, method, "exact", GROUPS[group])) if method in methods else ""
            for group in ("left out", UNSEEN)
            for method in CURVE
        ]
        rows.append([*map(str, size), str(len(seeds)), *cells])
    head = [f"{group}: {method}" for group in ("left out", UNSEEN) for method in CURVE]
    return f"""How it grows with the number of tasks and of rows of each, in percent:

{table(["tasks", "rows", "seeds", *head], rows)}"""


def _hits(records: Iterable[Record], method: str, measure: str, group: Callable[[Record], bool]) -> Hits:
    """Of each task, the mean of the seeds for each row."""
    found: dict[str, list[list[int]]] = {}
    for record in records:
        if record["method"] == method and group(record) and record[measure]:
            found.setdefault(record["task"], []).append([int(hit) for hit in record[measure]])
    return {task: np.mean(np.array(seeds, dtype=float), axis=0) for task, seeds in found.items()}


def _share(hits: Hits) -> str:
    return f"{100 * mean_over_tasks(hits).value:.1f}" if hits else ""
