"""The tasks of the paper, prompted and steered, for docs/explanation/results.md."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atv_eval import difference, mean_over_tasks, table
from benchmarks.prompted import best_hits

SCORES = ("free", "choice")
ADAPTIVE = "atv-decode"
Record = dict[str, Any]
Hits = dict[str, NDArray[np.float64]]


def paper(measured: Sequence[Record]) -> str:
    """The paper's tasks: prompting against vectors."""
    runs: dict[tuple[str, str], dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in measured:
        runs[record["group"], record["method"]][record["seed"]].append(record)
    if not runs:
        return ""
    rows = []
    for (group, method), seeds in sorted(runs.items()):
        lines = [line for found in seeds.values() for line in found]
        tokens = np.mean([line["tokens"] for line in lines])
        several = len({line["wording"] for line in lines}) > 1
        for how, kind in ((best_hits, ", best wording"), (mean_hits, ", mean of wordings"))[: 1 + several]:
            free, choice = (over_seeds([how(found, score) for found in seeds.values()]) for score in SCORES)
            cells = [mean_over_tasks(free).percent(), mean_over_tasks(choice).percent()]
            size = [str(len(seeds)), str(len(free)), str(sum(map(len, free.values())))]
            rows.append([f"{group}: {method}{kind if several else ''}", *cells, *size, f"{tokens:.0f}"])
    return f"""## The paper's tasks

SmolLM2-135M-Instruct Q4_1 through llama.cpp; 90 training rows a task, one generator for all 20 tasks, exported to 8-bit
ONNX. `zero`, `icl` and `bm25` prompt the base model with instruction and labels, the latter two with 16 demonstrations
in the first wording. `none` (no vector), `atv-*` and the static vectors get only the query, `-instruction` the first
wording. `target-lora` is peft LoRA (r=8) on the target's own weights, one for all tasks, one epoch on the rows that the
generator saw four times, measured in PyTorch. Where three wordings were tried, the best of each task was chosen on
these test rows, which is optimistic with so few rows. Exact match in percent, mean over tasks and seeds, with 95 %
intervals over rows.
`python -m benchmarks.prompted`, `python -m benchmarks.steered`, `python -m benchmarks.lora` (their `--help` says more).

{table(["", "free text", "among the choices", "seeds", "tasks", "rows", "prompt tokens"], rows)}
{differences(runs)}"""


def differences(runs: Mapping[tuple[str, str], Mapping[int, list[Record]]]) -> str:
    """What the adaptive vectors give over each other method, on the rows that both have answered."""
    rows = []
    for (group, method), seeds in sorted(runs.items()):
        adaptive = runs.get((group, ADAPTIVE), {})
        if method.startswith("atv-") or not adaptive:
            continue
        cells = []
        for score in SCORES:
            ours = over_seeds([mean_hits(found, score) for found in adaptive.values()])
            theirs = over_seeds([mean_hits(found, score) for found in seeds.values()])
            shared = {task: min(len(ours[task]), len(theirs[task])) for task in ours if task in theirs}
            sides = ({task: side[task][:n] for task, n in shared.items()} for side in (ours, theirs))
            cells.append(difference(*sides).percent())
        rows.append([f"{group}: {method}", *cells])
    return f"""How much better `{ADAPTIVE}` is than each other method, in points, paired by row (over the mean of the
wordings where there are three). Most of these tasks need knowledge or reasoning that a target of this size lacks,
whatever the prompt. Where an interval contains 0, there is no evidence that reading each query helps. It does help on
the text tasks below, which the target can tell apart.

{table(["over", "free text", "among the choices"], rows)}"""


def mean_hits(lines: Sequence[Record], score: str) -> Hits:
    """For each task and row the mean over its wordings."""
    tasks: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        tasks[line["task"]][line["index"]].append(line[score])
    return {
        task: np.array([np.mean(answers) for _, answers in sorted(rows.items())], dtype=np.float64)
        for task, rows in tasks.items()
    }


def over_seeds(runs: Sequence[Hits]) -> Hits:
    """For each task each row's mean over the seeds, on the tasks and rows that all have answered."""
    found: Hits = {}
    for task in sorted(set.intersection(*map(set, runs))):
        shared = min(len(run[task]) for run in runs)
        found[task] = np.mean([run[task][:shared] for run in runs], axis=0)
    return found
