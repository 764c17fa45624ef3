"""What each design choice changes, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from atv_eval import table
from benchmarks.paper_tasks import N_POOL, STUDIED, STUDIED_TEXTS
from benchmarks.report_cells import against, difference_table, picture
from benchmarks.report_text import percent

Record = dict[str, Any]


def study(measured: Sequence[Record]) -> str:
    """The design choices, one row each."""
    found = [record for record in measured if "what" in record and record["rows"] == N_POOL]
    if not found:
        return ""
    first = found[0]
    found = [record for record in found if all(record[key] == first[key] for key in ("epochs", "tests", "seed"))]
    order = {record["name"]: record for record in found}
    names = [*(["default"] if "default" in order else []), *(name for name in order if name != "default")]
    rows = []
    for record in (order[name] for name in names):
        rows.append(
            [
                record["what"],
                percent(record["accuracy"]),
                f"{record['unrelated_kl']:.2f}",
                percent(record["unrelated_agreement"]),
                f"{record['trainable'] / 1e6:.1f}M",
            ]
        )
    size = first["tests"] * len(STUDIED)
    error = 100 * np.sqrt(2 * 0.25 / size)
    return f"""## Design choices, one at a time

One generator for four text tasks ({", ".join(STUDIED)}), {first["rows"]} training rows each, {first["epochs"]} epochs,
seed {first["seed"]}. Accuracy is the mean of the tasks' exact match on {size} test rows, so a difference below
{1.96 * error:.0f} points may be noise of the rows alone, and one of {(1.96 + 0.84) * error:.0f} would be found in four
of five tries. KL(base || steered), in nats per token, and the share of tokens whose
most likely successor stays the same are measured on 40 unrelated queries. The default learning rate was chosen among
four on these test rows (and three with another seed), and that of the target's own states is the better of two, so
both rows are optimistic.
`python -m benchmarks.study --data FOLDER --epochs {first["epochs"]} --output benchmarks/results/study.jsonl`

{table(["", "accuracy", "KL, unrelated", "agreement, unrelated", "trained"], rows)}"""


def study_texts(measured: Sequence[Record]) -> str:
    """The design choices on tasks with texts, by how likely the wanted answers become."""
    found = {record["name"]: record for record in measured if "losses" in record}
    if "default" not in found:
        return ""
    first = found["default"]
    scores = {
        name: {task: np.exp(-np.array(losses)) for task, losses in record["losses"].items()}
        for name, record in found.items()
    }
    likelihood = {name: float(np.mean([task.mean() for task in tasks.values()])) for name, tasks in scores.items()}
    rows = []
    for name in sorted(found, key=lambda name: -likelihood[name]):
        rows.append(
            [
                found[name]["what"],
                percent(likelihood[name]),
                "" if name == "default" else against(scores[name], scores["default"]),
                percent(found[name]["accuracy"]),
                f"{found[name]['unrelated_kl']:.2f}",
                f"{found[name]['trainable'] / 1e6:.1f}M",
            ]
        )
    n_rows = sum(map(len, first["losses"].values()))
    options = " ".join(f"--{name} {first[name]}" for name in ("rows", "tests", "epochs"))
    head = ["", "likelihood", "difference to the default", "exact", "KL, unrelated", "trained"]
    return f"""## Design choices on texts

One generator for {", ".join(STUDIED_TEXTS)}:
{first["rows"]} training rows each, {first["epochs"]} epochs, seed {first["seed"]}. Likelihood is the probability of the
wanted answer per token, its geometric mean, in percent: the mean over the tasks of {n_rows} test rows, with the
difference on the same rows. Exact is the share of greedy answers, in percent, KL as above. Two vectors, of
`train --prompt-vector`, take longer to train, since prompts are evaluated anew in every step, and change unrelated
queries more; so one is the default.
`python -m benchmarks.study --texts {options} --data FOLDER --output benchmarks/results/study_texts.jsonl`

{difference_table(head, rows)}"""


def sweeps(measured: Sequence[Record]) -> str:
    """Accuracy and harm by strength."""
    swept = [r for r in measured if "sweep" in r and r["rows"] == N_POOL]
    found = {r["name"].removeprefix("sweep-"): r["sweep"] for r in swept}
    if not found:
        return ""
    rows = [
        [f"{points[0]['strength']:g}", *(f"{percent(p['accuracy'])}, {p['unrelated_kl']:.2f}" for p in points)]
        for points in zip(*found.values(), strict=True)
    ]
    return f"""## Strength

The same generators with other strengths: accuracy, and KL on unrelated queries. `strengths` was trained with factors
drawn from 0.5 to 2, `harmless` with the `--harmless` term, `both` with both.

{picture("strength", "Right answers, and change of unrelated answers, by strength.")}

{table(["strength", *found], rows)}"""
