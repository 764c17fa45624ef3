"""What was measured of tasks told in words, and of new tasks from few rows, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atv_eval import difference, mean_over_tasks, table
from atv_local.text import counted
from benchmarks.held_out import KINDS
from benchmarks.told import METHODS

Record = dict[str, Any]
Hits = dict[str, np.ndarray[Any, np.dtype[np.float64]]]
_ALONE = "static_share=0.99"
WAYS = {
    "base": "the base model",
    "static": "the static vector",
    "adaptive": "the generator's vectors",
    "bundle": "as `--instruction` asks it",
}


def told(records: Sequence[Record]) -> str:
    """The last bundle that was measured."""
    if not records:
        return ""
    records = [record for record in records if record["bundle"] == records[-1]["bundle"]]
    exact = {method: _hits(records, method, "exact") for method in METHODS}
    choice = {method: _hits(records, method, "choice") for method in METHODS}
    rows = []
    for method in METHODS:
        against = "" if method == "static" else _against(exact[method], exact["static"])
        restricted = mean_over_tasks(choice[method]).percent() if choice[method] else ""
        rows.append([WAYS[method], mean_over_tasks(exact[method]).percent(), against, restricted])
    per_task = [
        [task, str(len(hits)), *(f"{100 * exact[method][task].mean():.1f}" for method in METHODS)]
        for task, hits in exact["base"].items()
    ]
    by_static = sum(record["by_static"] or 0 for record in records)
    n_rows = sum(len(hits) for hits in exact["base"].values())
    return f"""## Tasks that are told in words

{counted(len(per_task), "task")} that the bundle `{records[-1]["bundle"]}` was not trained on, {n_rows} rows, all with
the same instruction and allowed answers in the prompt. Free text is right if it is the wanted answer, in percent, the
mean of the tasks; its difference is to the static vector, on the same rows. Restricted is the most likely of the
allowed answers. Asked by `--instruction`, {by_static} rows were steered by the static vector and the others by the
generator's.
`python -m benchmarks.told --data FOLDER --bundle general --output benchmarks/results/told.jsonl`

{table(["answered by", "free text", "difference", "restricted"], rows)}

{table(["task", "rows", *(WAYS[method] for method in METHODS)], per_task)}"""


def held_out(records: Sequence[Record]) -> str:
    """By kind of the largest training set, and all kinds left out together of every one."""
    if not records:
        return ""
    sets: dict[tuple[str, int, int], list[Record]] = {}
    for record in records:
        key = ", ".join(record["train"]), record["tasks"], record["train_rows"]
        sets.setdefault(key, []).append(record)
    key = max(sets, key=lambda key: (not key[0], *key[1:]))
    kinds: dict[str, list[Record]] = {}
    for record in sets[key]:
        kinds.setdefault(record["kind"], []).append(record)
    rows = [[kind, *_told_row(of_kind)] for kind, of_kind in kinds.items()]
    every = [
        [name or "as above", str(n_tasks), str(n_rows), *_told_row([r for r in found if r["kind"] in KINDS])]
        for (name, n_tasks, n_rows), found in sorted(sets.items())
    ]
    alone = sets.get((_ALONE, *key[1:]), [])
    compared = (
        ""
        if not alone
        else f"""
With `{_ALONE}` nearly all rows train the static vector. The difference of the first row's generator to that vector,
on the same seeds and rows of the kinds left out: {_over_static_alone(sets[key], alone)}.
"""
    )
    head = ["rows", "base", "static vector", "generator", "difference", "restricted: base", "static", "generator"]
    seeds = sorted({record["seed"] for record in sets[key]})
    return f"""## Kinds of tasks that are left out

{key[1]} tasks, {key[2]} rows of each, one epoch, seeds {", ".join(map(str, seeds))}; five whole kinds of tasks are left
out, and so is `unseen_dev`. A quarter of the rows trains the static vector. Told by instruction and allowed answers.
Free text, in percent, is the mean of the tasks; the difference is that of the generator's vectors to the static vector,
on the same rows. Restricted is the most likely of the allowed answers, of the tasks that have such.
`python -m benchmarks.held_out --data FOLDER --work FOLDER --output benchmarks/results/held_out.jsonl --seed N`

{table(["kind", *head], rows)}

All kinds left out together, by what is trained:

{table(["training", "tasks", "rows of each", *head], every)}
{compared}"""


def _over_static_alone(records: Sequence[Record], alone: Sequence[Record]) -> str:
    """The generator's advantage over a static vector that was trained by itself, on kinds left out."""
    seeds = {record["seed"] for record in alone}
    ours, theirs = (
        _hits(_by_seed([r for r in found if r["kind"] in KINDS and r["seed"] in seeds]), method, "exact")
        for found, method in ((records, "adaptive"), (alone, "static"))
    )
    return _against(ours, theirs)


def _by_seed(records: Sequence[Record]) -> list[Record]:
    return [record | {"task": f"{record['task']} {record['seed']}"} for record in records]


def _told_row(records: Sequence[Record]) -> list[str]:
    """Rows, free text and its difference, restricted."""
    by_seed = _by_seed(records)
    methods = ("base", "static", "adaptive")
    exact = {method: _hits(by_seed, method, "exact") for method in methods}
    choice = {method: _hits(by_seed, method, "choice") for method in methods}
    cells = [mean_over_tasks(exact[method]).percent() for method in methods]
    restricted = [f"{100 * mean_over_tasks(hits).value:.1f}" if hits else "" for hits in choice.values()]
    n_rows = sum(map(len, exact["base"].values()))
    return [str(n_rows), *cells, _against(exact["adaptive"], exact["static"]), *restricted]


def few_rows(records: Sequence[Record]) -> str:
    """Both starts, for each number of rows."""
    parts = []
    for n_rows in sorted({record["train_rows"] for record in records}):
        of_rows = [record for record in records if record["train_rows"] == n_rows]
        starts: dict[str, Hits] = {}
        for record in of_rows:
            values = np.array(record["scores"][record["main"]])
            starts.setdefault(record["start"], {})[f"{record['task']} {record['seed']}"] = values
        both = set(starts.get("nothing", {})) & set(starts.get("general", {}))
        if not both:
            continue
        cold, warm = ({task: starts[start][task] for task in sorted(both)} for start in ("nothing", "general"))
        parts.append(
            [
                str(n_rows),
                str(len(both)),
                mean_over_tasks(cold).percent(),
                mean_over_tasks(warm).percent(),
                _against(warm, cold),
            ]
        )
    if not parts:
        return ""
    columns = ["rows", "tasks", "from nothing", "from `general`", "difference"]
    return f"""## New tasks from few rows

Tasks that `general` was not trained on, each in a bundle of its own, with the instruction of the task; the main metric
of up to 60 test rows, in percent.
`python -m benchmarks.few_rows --data FOLDER --work FOLDER --output benchmarks/results/few_rows.jsonl`

{table(columns, parts)}"""


def _hits(records: Sequence[Record], method: str, metric: str) -> Hits:
    return {r["task"]: np.array(r[metric], dtype=float) for r in records if r["method"] == method and r[metric]}


def _against(ours: Hits, theirs: Hits) -> str:
    found = difference(ours, theirs)
    p = "p < 0.001" if found.p < 0.001 else f"p = {found.p:.3f}"
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}], {p}"
