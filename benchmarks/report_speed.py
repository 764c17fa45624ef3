"""How fast training and answers are, and what the graph's precision keeps, for docs/explanation/results.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atv_eval import table
from atv_local.text import counted
from benchmarks.report_text import percent

Record = dict[str, Any]


def throughput(r: Record) -> str:
    """Queries per second against a plain loop."""
    ways = {
        "loop": "loop over `Llama.create_completion`, all cores",
        "loop, default threads": "the same with the library's number of threads",
        "whole": "base model, complete answers",
        "evaluation": "base model, as `eval` reads answers",
        "steered": "steered, as `eval` reads answers",
    }
    rows = [
        [ways[name], f"{per_second:.2f}", "{median:.2f} ({low:.2f} to {high:.2f})".format(**r["times_the_loop"][name])]
        for name, per_second in r["per_second"].items()
    ]
    same = percent(r["same_text_as_the_loop"])
    return f"""## Queries per second

{r["queries"]} short queries of {r["prompt_tokens"]:.0f} tokens on average, template included; greedy, up to
{r["max_tokens"]} tokens; the same prompts in turn in blocks of 100, {r["threads"]} threads. {same} % of the
complete answers equal the loop's word for word. Medians of the blocks, with quartiles.
`python -m benchmarks.throughput --output benchmarks/results/throughput.jsonl`

{table(["", "queries a second", "times the loop"], rows)}"""


def startup(r: Record) -> str:
    """One answer in a process of its own."""
    ways = {"bare": "llama-cpp-python alone", "off": "`atv-local run --off`", "steered": "`atv-local run`"}
    rows = [[ways[name], f"{r['seconds'][name]:.2f}", f"{r['megabytes'][name]:.0f}"] for name in ways]
    return f"""## One answer, from start to end

One token in a process of its own, with the imports, the model and the generator: medians of {r["rounds"]} of each
way in turn, {counted(r["cores"], "core")}. Memory is the highest resident.
`python -m benchmarks.startup --output benchmarks/results/startup.jsonl`

{table(["", "seconds", "MB"], rows)}"""


def speed(found: Sequence[Record]) -> str:
    """Against LoRA and `all`."""
    if not found:
        return ""
    latest = {record["task"]: record for record in found}
    return "## Speed of training\n\n" + "\n".join(map(speed_of, reversed(latest.values())))


def speed_of(r: Record) -> str:
    """One task's run."""
    rows = [
        ["steps", f"{r['steps']}", f"{r['lora_steps']}"],
        ["tokens of a row in a step", f"{r['answer_tokens']:.0f}", f"{r['prompt_tokens'] + r['answer_tokens']:.0f}"],
        ["median step, s", f"{r['step_seconds']:.2f}", f"{r['lora_step_seconds']:.2f}"],
        ["prefixes, s", f"{r['prefix_seconds']:.0f}", ""],
        ["in all, s", f"{r['seconds']:.0f}", f"{r['lora_seconds']:.0f}"],
    ]
    if "loss" in r:
        goal = "loss per token"
        rows.append(["validation loss per token reached", f"{r['loss']:.3f}", f"{r['lora_loss']:.3f}"])
    else:
        goal = "accuracy"
        rows.append(["validation accuracy reached", percent(r["accuracy"]), percent(r["lora_accuracy"])])
    when = f", {r['note']}" if "note" in r else ""
    option = f" --loss {r['goal']:g}" if "loss" in r else ""
    limit = r["lora_seconds"] / r["prefix_seconds"]
    return f"""In one run on two cores{when}: {r["rows"]} rows of {r["task"]}, batches of
{r["batch_size"]}, until the same validation {goal}.
`python -m benchmarks.training_speed --task {r["task"]}{option} --output benchmarks/results/training_speed.jsonl`

{table(["", "atv-local", "peft LoRA, r=8"], rows)}
LoRA took **{r["lora_over_ours"]:.1f} times** as long. The prompts of all rows are read once before the first step;
if no step took any time after that, it would be {limit:.1f} times. A step with `all` positions took
**{r["all_over_decode_step"]:.1f} times** as long as one with `decode` and cached prefixes (median of eight pairs);
counting the evaluation of prefixes, which happens once, a first epoch {r["all_over_decode_first_epoch"]:.1f} times.
"""


def precision(found: Sequence[Record]) -> str:
    """What each graph costs and keeps."""
    if not found:
        return ""
    rows = [
        [
            r["precision"],
            f"{r['bytes'] / 1e6:.0f}",
            f"{r['ms']:.1f}",
            f"{r['times_fp32']:.2f}",
            f"{r['cosine']:.4f}",
            f"{100 * r['error']:.1f}, {100 * r['largest_error']:.1f}",
            *(percent(value) for value in r["scores"].values()),
        ]
        for r in found
    ]
    head = [
        "graph",
        "MB",
        "ms",
        "times as fast as fp32",
        "smallest cosine",
        "error: median, largest, %",
        "messages to a bank, exact",
        "requests as JSON, slot F1",
    ]
    return f"""## Precision of the graph

The demo's generator in each precision: the time for a query of 64 tokens on one thread, all graphs in turn in one run;
the smallest cosine of any layer and the error of a vector against float32, as in a manifest's `fidelity`, on
{found[0]["queries"]} test queries; and scores of the answers to those in percent. The 8-bit graph is the one for any
processor.
`python -m benchmarks.precision --run runs/demo --output benchmarks/results/precision.jsonl`

{table(head, rows)}"""


def latency(r: Record) -> str:
    """Real queries, against llama-cpp-python and 16 demonstrations."""

    def rows(spreads: dict[str, dict[str, float]], digits: int) -> list[list[str]]:
        parts = ("median", "low", "high")
        return [[name, *(f"{found[part]:.{digits}f}" for part in parts)] for name, found in spreads.items()]

    head = ["", "median", "lower quartile", "upper quartile"]
    return f"""## The first token of real queries

{r["queries"]} messages to a bank, each in all ways in turn from an empty cache, {r["threads"]} threads: ratios of the
times to the first token with their quartiles, and the last one of the tokens per second over {r["decoded"]} tokens. The
16-shot prompts have instruction, labels and 16 rows. `warm` has the chat template's prefix evaluated.
`python -m benchmarks.latency --output benchmarks/results/latency.jsonl`

{table(head, rows(r["first_token"] | r["decoding"], 2))}
In milliseconds:

{table(head, rows(r["first_token_ms"], 0))}"""
