"""What was measured of tasks told in words, and of new tasks from few rows, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atv_eval import mean_over_tasks, table
from atv_local.text import counted
from benchmarks.report_cells import Hits, against, difference_table
from benchmarks.told import METHODS

Record = dict[str, Any]
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
        more = "" if method == "static" else against(exact[method], exact["static"])
        restricted = mean_over_tasks(choice[method]).percent() if choice[method] else ""
        rows.append([WAYS[method], mean_over_tasks(exact[method]).percent(), more, restricted])
    per_task = [
        [task, str(len(hits)), *(f"{100 * exact[method][task].mean():.1f}" for method in METHODS)]
        for task, hits in exact["base"].items()
    ]
    by_static = sum(sum(record["by_static"]) for record in records if record["method"] == "bundle")
    n_rows = sum(len(hits) for hits in exact["base"].values())
    return f"""## Tasks that are told in words

{counted(len(per_task), "task")} that the bundle `{records[-1]["bundle"]}` was not trained on, {n_rows} rows, all with
the same instruction and allowed answers in the prompt. Free text is right if it is the wanted answer, in percent, the
mean of the tasks; its difference is to the static vector, on the same rows. Restricted is the most likely of the
allowed answers. Asked by `--instruction`, {by_static} rows were found unlike the tasks of the bundle: free text is
steered by the static vector there, and the base model chooses among the allowed answers, since on kinds that are
further away (the next table) every vector chooses worse than it. {_unlike(records)}
`python -m benchmarks.told --data FOLDER --bundle general --output benchmarks/results/told.jsonl`

{difference_table(["answered by", "free text", "difference", "restricted"], rows)}

{table(["task", "rows", *(WAYS[method] for method in METHODS)], per_task)}"""


def _unlike(records: Sequence[Record]) -> str:
    """How often each way chooses right on the rows that the gate finds unlike the bundle's tasks."""
    shares, base = [], None
    for method in METHODS[:3]:
        of_method = [r for r in records if r["method"] == method and r["choice"]]
        marks = [hit for r in of_method for hit, unlike in zip(r["choice"], r["by_static"], strict=True) if unlike]
        hits = {"": np.array(marks, dtype=float)}
        more = "" if base is None else f"\n({against(hits, base)})"
        base = base or hits
        shares.append(f"{100 * np.mean(marks):.1f} % by {WAYS[method]}{more}")
    return f"Of these rows alone are chosen right\n(and in points more than by the base model): {', '.join(shares)}."


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
                against(warm, cold),
            ]
        )
    if not parts:
        return ""
    columns = ["rows", "tasks", "from nothing", "from `general`", "difference"]
    return f"""## New tasks from few rows

Tasks that `general` was not trained on, each in a bundle of its own, with the instruction of the task; the main metric
of up to 60 test rows, in percent.
`python -m benchmarks.few_rows --data FOLDER --work FOLDER --output benchmarks/results/few_rows.jsonl`

{difference_table(columns, parts)}"""


def _hits(records: Sequence[Record], method: str, metric: str) -> Hits:
    return {r["task"]: np.array(r[metric], dtype=float) for r in records if r["method"] == method and r[metric]}
