"""What targets, rows, tasks and conversations cost as they grow, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atv_eval import table
from atv_local.text import counted
from benchmarks.report_cells import picture

Record = dict[str, Any]


def growth(measured: Sequence[Record]) -> str:
    """What `atv-local bench` gives on random GGUFs by size."""
    latest = {(record["size"], record["model"]["quantisation"]): record for record in measured}
    if not latest:
        return ""
    names = list(dict.fromkeys((row["what"], row["size"]) for record in latest.values() for row in record["ratios"]))
    head = ["parameters", *(f"{what}{f', {size}' if size else ''}" for what, size in names), "base first token, ms"]
    rows = []
    for (size, kind), record in latest.items():
        ratios = {(row["what"], row["size"]): f"{row['median']:.2f}" for row in record["ratios"]}
        base = [row["median"] for row in record["medians"] if (row["part"], row["what"]) == ("first-token", "base")]
        rows.append([f"{size} {kind}", *(ratios.get(name, "") for name in names), f"{base[0]:.0f}" if base else ""])
    threads = next(iter(latest.values()))["machine"]["threads"]
    return f"""## As the target grows

Random GGUFs, {threads} threads: what a vector costs when the target is larger. The generator's time does not grow
with the target and is not included, because no generator fits a random target.
`python -m benchmarks.growth 0.1B 0.5B -- --quick`

{picture("growth", "Time to the first token, steered and with 16 demonstrations, by the size of the target.")}

{table(head, rows)}"""


def training_growth(measured: Sequence[Record]) -> str:
    """What training takes on random GGUFs by size: the last run of each."""
    latest = {record["size"]: record for record in measured}
    if not latest:
        return ""
    rows = [
        [
            size,
            f"{record['model_bytes'] / 1e9:.2f}",
            f"{record['peak_bytes'] / 1e9:.1f}",
            f"{record['seconds']:.0f}",
            f"{record['step_seconds']:.1f}",
        ]
        for size, record in latest.items()
    ]
    first = next(iter(latest.values()))
    return f"""## Training as the target grows

`atv-local train` on random GGUFs in Q4_0, {first["rows"]} rows of banking77_top10, one epoch in batches of 8,
{counted(first["cores"], "core")}, in bfloat16: the highest resident memory of the process, the file included, and
the whole run with reading the model, its check against llama.cpp and the prompts.
`python -m benchmarks.training_growth {" ".join(latest)} --output benchmarks/results/training_growth.jsonl`

{table(["parameters", "file, GB", "memory, GB", "whole run, s", "step, s"], rows)}"""


def row_growth(measured: Sequence[Record]) -> str:
    """What rows and tasks cost a run, and its resumption: the last measurement of each."""
    latest = {(record["model"], record["tasks"], record["rows"]): record for record in measured}
    if not latest:
        return ""
    rows = [
        [
            f"{record['rows']:,}",
            str(record["tasks"]),
            "embedded" if record["model"] == "default" else "narrow",
            str(record["cores"]),
            *(f"{record[how]['first_step']:.0f}" for how in ("train", "resume")),
            f"{record['train']['step']:.2f}",
            *(f"{record[how]['megabytes'] / 1000:.1f}" for how in ("train", "resume")),
        ]
        for _, record in sorted(latest.items())
    ]
    head = [
        "rows",
        "tasks",
        "target",
        "cores",
        "first step, s",
        "after `--resume`, s",
        "step, s",
        "memory, GB",
        "resumed, GB",
    ]
    return f"""## Training as rows and tasks grow

From the start of the process to its first step, and steps of 8 rows. `narrow` is a random GGUF of 4 layers of
width 64, whose prompts are read in no time, so that what the rows themselves cost is seen.
A resumed run finds what was evaluated of its prompts, and so does a new one over the same rows.
`python -m benchmarks.row_growth --output benchmarks/results/row_growth.jsonl`

{table(head, rows)}"""


def conversation_growth(found: Sequence[Record]) -> str:
    """First tokens, turn by turn."""
    if not found:
        return ""
    record = found[-1]
    ways = {
        "bare": "llama-cpp-python",
        "base": "base",
        "steered": "steered",
        "ahead": "steered, the answer before read ahead",
    }
    turns = [number for number in (1, 2, 4, 8, 16, 32) if number <= len(record["turns"])]
    rows = [
        [str(number), *(f"{turn[way]['ms']:.0f} ({turn[way]['tokens']})" for way in ways)]
        for number, turn in ((number, record["turns"][number - 1]) for number in turns)
    ]
    return f"""## As a conversation grows

Milliseconds to the first token of a turn, and tokens of the conversation with its answer of at most
{record["max_tokens"]}; {counted(record["cores"], "core")}, medians of {record["repeats"]} conversations.
llama-cpp-python keeps its own answers as they were written; here they are read again, which makes an answer the same
as that of a new process. `atv-local chat` does that while the user types.
`python -m benchmarks.conversation_growth --output benchmarks/results/conversation_growth.jsonl`

{table(["turn", *ways.values()], rows)}"""
