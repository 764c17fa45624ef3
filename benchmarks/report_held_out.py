"""What was measured on kinds of tasks that are left out of training, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from atv_eval import difference, mean_over_tasks, table
from benchmarks.held_out import KINDS, TRAINED, UNSEEN

Record = dict[str, Any]
Hits = dict[str, np.ndarray[Any, np.dtype[np.float64]]]
WHAT = {
    "base": "the base model",
    "16-shot": "the base model after 16 rows of the task itself",
    "static": "one static vector, learned by itself",
    "nearest tasks": "the mean of the learned vectors of the three training tasks most like it",
    "generator": "the generator, trained with a static share of 0.25",
    "generator's static": "that generator's own static vector",
    "static first": "the generator adds to a static vector that is learned before",
    "no static share": "the generator without a static share",
    "told and untold": "half of the training rows without an instruction",
    "numbered choices": "half of the rows with choices ask for the number of one",
    "distilled": "half of the loss is the distance to the base model after 16 rows",
    "target's states": "the target's own states in place of the generator's backbone",
    "bare prompts": "the instruction is read by the generator alone",
    "lora": "LoRA on the target's weights, r=8",
}
"""The methods, in the order of the table."""
CURVE = ("static", "generator", "lora")
LEFT_OUT = "left out"


def held_out(records: Sequence[Record]) -> str:
    """All methods with most tasks, the kinds one by one, and the curves."""
    if not records:
        return ""
    n_tasks = max(record["tasks"] for record in records)
    main = [record for record in records if (record["tasks"], record["train_rows"]) == (n_tasks, 20)]
    methods = [method for method in WHAT if any(record["method"] == method for record in main)]
    head = ["answered by", "seeds", "left out", "over static", UNSEEN, "over static", TRAINED, "over static"]
    head += ["choices: left out", UNSEEN]
    rows = [_row(main, method) for method in methods]
    kinds = [
        [kind, *(_share(_hits(main, method, "exact", kind.__eq__)) for method in methods)] for kind in (*KINDS, UNSEEN)
    ]
    return f"""## Kinds of tasks that are left out

{n_tasks} tasks, 20 rows of each, one epoch; five whole kinds of tasks are left out, and so is `unseen_dev`. Told by
instruction and allowed answers. In PyTorch, where the right answer is given to the target and its logits say whether
greedy decoding writes it. Shares of exact answers in percent, the mean of the tasks; each row has the mean of the
seeds, which draw training rows. Choices: the most likely of the allowed answers, where a task has such.
`python -m benchmarks.held_out --data FOLDER --output benchmarks/results/held_out.jsonl`

{table(head, rows)}

By kind, in percent:

{table(["kind", *methods], kinds)}

{_curve(records)}"""


def _row(records: Sequence[Record], method: str) -> list[str]:
    seeds = {record["seed"] for record in records if record["method"] == method}
    cells = [WHAT[method], str(len(seeds))]
    groups: tuple[Callable[[str], bool], ...] = (KINDS.__contains__, UNSEEN.__eq__, TRAINED.__eq__)
    for group in groups:
        hits = _hits(records, method, "exact", group)
        cells += [mean_over_tasks(hits).percent(), "" if method == "static" else _over_static(records, method, group)]
    return [*cells, *(_share(_hits(records, method, "choice", group)) for group in groups[:2])]


def _over_static(records: Sequence[Record], method: str, group: Callable[[str], bool]) -> str:
    """On the seeds that both have."""
    of = {name: [r for r in records if r["method"] == name] for name in (method, "static")}
    both = {r["seed"] for r in of[method]} & {r["seed"] for r in of["static"]}
    ours, theirs = (_hits([r for r in found if r["seed"] in both], name, "exact", group) for name, found in of.items())
    found = difference(ours, theirs)
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}], {p}"


def _curve(records: Sequence[Record]) -> str:
    """How free text grows with tasks and rows."""
    sizes = sorted({(record["tasks"], record["train_rows"]) for record in records})
    rows = []
    for size in sizes:
        of_size = [record for record in records if (record["tasks"], record["train_rows"]) == size]
        cells = [
            _share(_hits(of_size, method, "exact", group))
            for group in (KINDS.__contains__, UNSEEN.__eq__)
            for method in CURVE
        ]
        rows.append([str(size[0]), str(size[1]), *cells])
    head = [f"{group}: {method}" for group in (LEFT_OUT, UNSEEN) for method in CURVE]
    return f"""How it grows with the number of tasks and of rows of each, in percent, the mean of the seeds:

{table(["tasks", "rows", *head], rows)}"""


def _hits(records: Iterable[Record], method: str, measure: str, of_kind: Callable[[str], bool]) -> Hits:
    """Of each task, the mean of the seeds for each row."""
    found: dict[str, list[list[int]]] = {}
    for record in records:
        if record["method"] == method and of_kind(record["kind"]) and record[measure]:
            found.setdefault(record["task"], []).append([int(hit) for hit in record[measure]])
    return {task: np.mean(np.array(seeds, dtype=float), axis=0) for task, seeds in found.items()}


def _share(hits: Hits) -> str:
    return f"{100 * mean_over_tasks(hits).value:.1f}" if hits else ""
