"""What corrections teach and what they cost, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np

from atv_local.text import counted
from benchmarks.report_cells import Hits, against, difference_table

Record = dict[str, Any]
WHAT = {"input": "the corrections", "paraphrase": "paraphrases of them, which it never saw"}


def corrections(records: Sequence[Record]) -> str:
    """Before and after, the mean of the seeds."""
    if not records:
        return ""
    rows = []
    for name, marks in records[0]["before"].items():
        before = _hits(name, [marks])
        after = _hits(name, [record["after"][name] for record in records])
        by_seed = ", ".join(str(sum(map(int, record["after"][name]))) for record in records)
        what = WHAT.get(name, f"test rows of `{name}`")
        rows.append([what, str(len(marks)), str(sum(map(int, marks))), by_seed, against(after, before)])
    cores = " or ".join(map(str, sorted({record["cores"] for record in records})))
    seeds = counted(len(records), "seed")
    minutes = mean(record["seconds"] for record in records) / 60
    return f"""## Corrections

Twenty messages to a bank with four labels that the demo does not have, five of each, taught to the run of the demo
bundle by `train --from`, which took {minutes:.1f} minutes on {cores} cores beside other work. Answers of `run` that
are right word for word, with the bundle's gate, before and after, for {seeds}; the difference in points, over rows.
`python -m benchmarks.corrections --run runs/demo --output benchmarks/results/corrections.jsonl`

{difference_table(["right answers to", "rows", "before", "after, by seed", "difference"], rows)}"""


def _hits(name: str, marks: Sequence[str]) -> Hits:
    return {name: np.mean(np.array([[int(mark) for mark in seed] for seed in marks], dtype=float), axis=0)}
