"""docs/explanation/results.md from the measurements in benchmarks/results.

python -m benchmarks.report

Each table says how its file was made. Nothing in it is typed by hand: to change a figure, measure again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atv_eval import difference, mean_over_tasks, table
from benchmarks.paper_tasks import N_POOL, STUDIED
from benchmarks.prompted import best_hits
from benchmarks.report_gate import gate, mixed
from benchmarks.report_serving import serving
from benchmarks.report_text import structured, style

SCORES = ("free", "choice")
ADAPTIVE = "atv-decode"
CURVE = ("default", "averaged", "per-task")
RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "results.md"
Record = dict[str, Any]

EVALUATE = "atv-local eval {} --shots-from data/demo/train --instructions data/demo/instructions.json --timed 0"
COMMANDS = (
    (
        "eval",
        "The demo bundle",
        "All test rows of two of its three tasks, with SmolLM2-135M-Instruct Q4_1; styles are measured below. The\n"
        "prompt of `zero-shot` has an instruction and the labels or keys of an answer, `nearest` is the output of the\n"
        "most similar training row, `classifier` a logistic regression. Brackets contain 95 % intervals.",
        f"{EVALUATE.format('data/demo/test/banking77_top10.jsonl data/demo/test/snips_json.jsonl')} "
        "--method base --method steered --method zero-shot --method nearest --method classifier",
    ),
    (
        "eval-bm25",
        "Against demonstrations",
        "The messages to a bank again. The prompts of `k-shot` and `bm25` have 16 demonstrations after instruction\n"
        "and labels: the same rows for every query, or the training rows that are most similar to it.",
        EVALUATE.format("data/demo/test/banking77_top10.jsonl --no-harm"),
    ),
    (
        "calibrate",
        "Strength and layers",
        "The first demo bundle, which had three tasks with labels: 30 validation rows of each, and the 40 unrelated\n"
        "queries of `eval`.",
        "atv-local calibrate data/demo/valid -g atv_local/demo_bundle --rows 30 --dry-run",
    ),
    (
        "bench",
        "What steering costs",
        "Ratios first, then medians; compared times are measured alternately, in one run.",
        "atv-local bench",
    ),
)
Hits = dict[str, NDArray[np.float64]]


def records(name: str) -> list[Record]:
    """All lines of a results file, none if it is not there."""
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def percent(value: float) -> str:
    """One decimal."""
    return f"{100 * value:.1f}"


def outputs() -> Iterator[str]:
    """What commands printed, as they printed it; `make results` runs them again."""
    for name, title, text, command in COMMANDS:
        path = RESULTS / f"{name}.md"
        if path.exists():
            printed = path.read_text().removeprefix("# Cost of steering\n\n")
            yield f"## {title}\n\n{text}\n`{command}`\n\n{printed}"
    found = records("throughput.jsonl")
    if found:
        yield throughput(found[-1])


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


def growth() -> str:
    """What `atv-local bench` gives on random GGUFs by size."""
    latest = {(record["size"], record["model"]["quantisation"]): record for record in records("growth.jsonl")}
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

{table(head, rows)}"""


def study() -> str:
    """The design choices, one row each."""
    found = [record for record in records("study.jsonl") if "what" in record and record["rows"] == N_POOL]
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
    noise = 100 * 1.96 * np.sqrt(2 * 0.25 / size)
    return f"""## Design choices, one at a time

One generator for four text tasks ({", ".join(STUDIED)}), {first["rows"]} training rows each, {first["epochs"]} epochs,
seed {first["seed"]}. Accuracy is the mean of the tasks' exact match on {size} test rows, so a difference below
{noise:.0f} points may be noise of the rows alone. KL(base || steered), in nats per token, and the share of tokens whose
most likely successor stays the same are measured on 40 unrelated queries. The default learning rate was chosen among
four on these test rows (and three with another seed), and that of the target's own states is the better of two, so
both rows are optimistic.
`python -m benchmarks.study --data FOLDER --epochs {first["epochs"]} --output benchmarks/results/study.jsonl`

{table(["", "accuracy", "KL, unrelated", "agreement, unrelated", "trained"], rows)}"""


def curve() -> str:
    """Accuracy by the number of training rows."""
    sizes: dict[int, dict[str, Record]] = defaultdict(dict)
    for record in records("study.jsonl"):
        if "what" in record:
            sizes[record["rows"]][record["name"]] = record
    if len(sizes) < 2:
        return ""
    rows = [
        [
            str(size),
            str(found["default"]["epochs"]),
            *(percent(found[name]["accuracy"]) if name in found else "" for name in CURVE),
        ]
        for size, found in sorted(sizes.items())
        if "default" in found
    ]
    return f"""## Learning curve

The same four tasks, test rows and seed, with other numbers of training rows per task:
`python -m benchmarks.study default per-task --rows N --epochs E --data FOLDER --output FILE`

{table(["rows per task", "epochs", "adaptive", "its mean for each task", "one learned for each task"], rows)}"""


def sweeps() -> str:
    """Accuracy and harm by strength."""
    swept = [r for r in records("study.jsonl") if "sweep" in r and r["rows"] == N_POOL]
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

{table(["strength", *found], rows)}"""


def speed() -> str:
    """Against LoRA and `all`."""
    found = records("training_speed.jsonl")
    if not found:
        return ""
    latest = {record["task"]: record for record in found}
    return "## Speed of training\n\n" + "\n".join(map(speed_of, reversed(latest.values())))


def speed_of(r: Record) -> str:
    """One task's run."""
    rows = [
        ["steps", f"{r['steps']}", f"{r['lora_steps']}"],
        ["median step, s", f"{r['step_seconds']:.2f}", f"{r['lora_step_seconds']:.2f}"],
        ["prefixes, s", f"{r['prefix_seconds']:.0f}", ""],
        ["in all, s", f"{r['seconds']:.0f}", f"{r['lora_seconds']:.0f}"],
        ["accuracy reached", percent(r["accuracy"]), percent(r["lora_accuracy"])],
    ]
    when = f", {r['note']}" if "note" in r else ""
    return f"""In one run on two cores{when}: {r["rows"]} rows of {r["task"]}, batches of
{r["batch_size"]}, until the same validation accuracy.
`python -m benchmarks.training_speed --task {r["task"]} --output benchmarks/results/training_speed.jsonl`

{table(["", "atv-local", "peft LoRA, r=8"], rows)}
LoRA took **{r["lora_over_ours"]:.1f} times** as long. A step with `all` positions took
**{r["all_over_decode_step"]:.1f} times** as long as one with `decode` and cached prefixes (median of eight pairs);
counting the evaluation of prefixes, which happens once, a first epoch {r["all_over_decode_first_epoch"]:.1f} times.
"""


def paper() -> str:
    """The paper's tasks: prompting against vectors."""
    runs: dict[tuple[str, str], dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for name in ("prompted.jsonl", "steered.jsonl"):
        for record in records(name):
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


def precision() -> str:
    """What each graph costs and keeps."""
    found = records("precision.jsonl")
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
            *(percent(value) for value in r["accuracy"].values()),
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
        *found[0]["accuracy"],
    ]
    return f"""## Precision of the graph

The first demo's generator in each precision: the time for a query of 64 tokens on one thread, all graphs in turn in
one run; the smallest cosine of any layer and the error of a vector against float32, as in a manifest's `fidelity`, on
{found[0]["queries"]} test queries; and accuracy in percent on those, as by `atv-local run`. The 8-bit graph is the one
for any processor.
`python -m benchmarks.precision --run runs/demo --output benchmarks/results/precision.jsonl`

{table(head, rows)}"""


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


def main() -> None:
    """Write the page."""
    parts = ["# Results\n\nWritten by `python -m benchmarks.report` from `benchmarks/results/`.\n"]
    served = serving(records("serving.jsonl"), records("load.jsonl"))
    texts = [style(records("style.jsonl")), structured(records("structured.jsonl"))]
    texts += [gate(records("gate.jsonl")), mixed(records("mixed_traffic.jsonl"))]
    found = [*outputs(), *texts, served, speed(), paper(), study(), curve(), sweeps(), precision(), growth()]
    parts += [part for part in found if part]
    PAGE.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
