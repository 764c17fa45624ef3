"""What was measured of the gate, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from atv_eval import table
from atv_local.text import counted
from benchmarks.report_cells import picture

Record = dict[str, Any]
KINDS = {
    "near": "near misses, out-of-scope queries of CLINC150",
    "other": "test rows of other tasks",
    "general": "packaged unrelated queries, never trained on",
    "chat": "prompts to a chat model, written for this",
}
METHODS = {
    "base": "the model alone",
    "gate": "steered, with the gate",
    "always": "steered, gate off",
    "router": "classifier, then 16 demonstrations",
    "lora": "one LoRA for all",
}


def gate(records: Sequence[Record]) -> str:
    """The demo's last record, and the last one of each seed with the tasks of the last run."""
    demo, runs = [r for r in records if "bundle" in r][-1:], [r for r in records if "seed" in r]
    parts = (
        [
            f"""The embedded demo: {recall(demo)} A dot is at its threshold.

{picture("gate-roc", "Shares of the tasks' queries and of other queries that are steered, at every threshold.")}

{outside(demo)}"""
        ]
        if demo
        else []
    )
    if runs:
        tasks = runs[-1]["tasks"]
        by_seed = {r["seed"]: r for r in runs if r["tasks"] == tasks}
        runs = list(by_seed.values())
        parts.append(f"""Bundles of {len(tasks)} broad tasks
({", ".join(f"`{task}`" for task in tasks)}),
trained for {counted(runs[-1]["epochs"], "epoch")} on 200 rows of each, seeds {", ".join(map(str, by_seed))} (ranges are
those of the seeds): {recall(runs)}

{outside(runs)}""")
    if not parts:
        return ""
    return "\n\n".join(
        [
            """## What the gate lets pass

At the thresholds of the bundles themselves.
`python -m benchmarks.gate --data FOLDER --output benchmarks/results/gate.jsonl`; the first with
`benchmarks.gate --demo`""",
            *parts,
        ]
    )


def recall(runs: Sequence[Record]) -> str:
    """A sentence on the test rows that are steered, and one on what scoring takes."""
    tasks = runs[-1]["tasks"]
    found = {task: mean(r["recall_of"][task] for r in runs) for task in tasks}
    lowest = min(found, key=lambda task: found[task])
    share = spread([100 * r["recall"] for r in runs], 1)
    return f"""{share} % of {runs[-1]["rows"]} test rows are steered, least of
`{lowest}` ({100 * found[lowest]:.1f} %). Scoring a query takes {max(r["gate_ms"] for r in runs):.2f} ms beside the
vector, with {runs[-1]["prototypes"]} prototypes."""


def outside(runs: Sequence[Record]) -> str:
    """The table of queries that belong to no task."""
    rows = []
    for kind, words in KINDS.items():
        found = [r["outside"][kind] for r in runs]
        shares = [spread([100 * f[key] for f in found], 1) for key in ("steered", "at_97")]
        rows.append([words, str(found[0]["queries"]), spread([f["auroc"] for f in found], 3), *shares])
    heads = ["queries outside the tasks", "number", "AUROC", "steered, %", "steered at 97 % recall, %"]
    return table(heads, rows, n_text=1)


def mixed(records: Sequence[Record]) -> str:
    """The last run of each method."""
    last = {r["method"]: r for r in records}
    if "gate" not in last:
        return ""
    runs = [last[method] for method in METHODS if method in last]
    names = list(last["gate"]["tasks"])
    rows = []
    for r in runs:
        tasks = [f"{100 * r['tasks'][name]['mean']:.1f}" for name in names]
        times = [f"{r[key]['median']:.0f}" if r[key] else "" for key in ("first_ms", "total_ms")]
        rows.append(
            [METHODS[r["method"]], *tasks, f"{100 * r['same_general']:.1f}", *times, str(r.get("server_mb", ""))]
        )
    heads = [f"{name}, % of {last['gate']['tasks'][name]['rows']}" for name in names]
    general = last["gate"]["general"]
    return f"""## Half tasks, half chat

{last["gate"]["queries"]} queries in random order, half of them test rows of the demo's tasks and half prompts to a chat
model, from {last["gate"]["clients"]} clients at a time; greedy answers of up to 64 tokens. The same answers to chat are
those of the {general} chat prompts that are the model's own to the last character. The classifier is a logistic
regression over the states of the demo's backbone, trained on the demo's rows and on unrelated queries. The LoRA answers
in PyTorch, and is compared with PyTorch's answers.
`python -m benchmarks.mixed_traffic --output benchmarks/results/mixed_traffic.jsonl`

{table(["", *heads, "same answers to chat, %", "first token, ms", "answer, ms", "server, MB"], rows, n_text=1)}"""


def spread(values: Sequence[float], digits: int) -> str:
    """A mean, and the range where there are several."""
    text = f"{mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"
