"""How well the gate tells queries of the trained tasks from all others.

python -m benchmarks.gate --data FOLDER --work FOLDER --output FILE.jsonl [--seeds 0 1 2] [--tasks NAME ...] [--demo]

For each seed one bundle is trained, by default for 2 epochs, on 200 rows of each task. With `--demo` the embedded one
is measured instead, on all its test rows. The queries outside are

- near: out-of-scope queries of CLINC150, which are like those of some tasks and belong to none,
- other: test rows of tasks that the bundle was not trained on, 4 of each,
- general: the packaged unrelated queries that training never sees,
- chat: prompts written for the benchmarks.

A line of the output has, for each kind, the area under the ROC curve against test rows of the tasks, and the share that
is steered, at the bundle's own thresholds and at the one score that 97 % of the test rows reach; the share of test rows
that is steered, by task and in all; and what the gate adds to the generator, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atv_export import export
from atv_local.data import held_out, read_unrelated_queries
from atv_local.generator import Bundle, Gate, Generator, read_gate
from atv_local.names import embedded_bundle
from atv_train import train
from benchmarks.json_lines import append_lines, text_lines

TASKS = (
    *("ag_news", "trec", "subj", "clinc_domain", "banking77_top10", "emotion", "sms_spam"),
    *("snips_json", "wnut17_json", "sql_wikisql", "nl2bash", "disfl_qa"),
)
"""Labels in the first line, texts in the second."""
DEMO = Path(__file__).parent.parent / "data" / "demo" / "test"
CHAT = Path(__file__).with_name("chat_prompts.txt")
N_TRAIN, N_VALID, N_TEST, N_OTHER = 200, 30, 80, 4
GROUPS = ("atv20", "unseen_dev", "instructed", "generation")
SAME_ROWS = ("e2e_nlg", "crossner_json")
"""Tasks with the inputs or the kind of one of `TASKS`."""


def rows(data: Path, task: str, split: str, limit: int, seed: int) -> list[str]:
    """Lines of a task's file, in an order of the seed."""
    lines = text_lines(data / task / f"{split}.jsonl")
    random.Random(f"{task}/{split}/{seed}").shuffle(lines)
    return lines[:limit]


def inputs(lines: Sequence[str]) -> list[str]:
    """The queries of lines of JSON."""
    return [json.loads(line)["input"] for line in lines]


def outside(data: Path, tasks: Sequence[str]) -> dict[str, list[str]]:
    """Queries that belong to none of the tasks, by kind."""
    index = json.loads((data / "index.json").read_text(encoding="utf-8"))
    near = [text_lines(file) for file in sorted((data / "offtopic").glob("*.jsonl"))]
    others = [name for name, entry in index.items() if entry["group"] in GROUPS and name not in (*tasks, *SAME_ROWS)]
    return {
        "near": inputs([line for lines in near for line in lines]),
        "other": inputs([line for name in others for line in rows(data, name, "test", N_OTHER, 0)]),
        "general": held_out(read_unrelated_queries(None)),
        "chat": text_lines(CHAT),
    }


def bundle(data: Path, tasks: Sequence[str], work: Path, seed: int, epochs: int) -> Path:
    """A bundle of that seed, made once."""
    made = work / f"gate-{seed}"
    if not made.exists():
        files = {split: work / f"rows-{seed}" / split for split in ("train", "valid")}
        for task in tasks:
            for split, limit in (("train", N_TRAIN), ("valid", N_VALID)):
                files[split].mkdir(parents=True, exist_ok=True)
                text = "\n".join(rows(data, task, split, limit, seed))
                (files[split] / f"{task}.jsonl").write_text(text + "\n", encoding="utf-8")
        run = work / f"run-{seed}"
        paths = {split: sorted(folder.glob("*.jsonl")) for split, folder in files.items()}
        train(paths["train"], run, valid=paths["valid"], epochs=epochs, seed=seed, overwrite=True)
        export(run, made, precisions="int8")
    return made


def auroc(inside: Sequence[float], others: Sequence[float]) -> float:
    """How often a query of the tasks has the higher score; half for equal ones."""
    a, b = np.array(inside)[:, None], np.array(others)[None]
    return float((a > b).mean() + (a == b).mean() / 2)


def gate_ms(gate: Gate, generator: Generator, queries: Sequence[str]) -> float:
    """Median milliseconds to score a state that is there already."""
    times = []
    for query in queries:
        state = generator.pooled(query)
        assert state is not None
        started = time.perf_counter()
        gate(state)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def measured(opened: Bundle, tests: Mapping[str, Sequence[str]], others: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The record of a bundle, from queries of its tasks and from others by kind."""
    generator, gate = Generator(opened), read_gate(opened)
    assert gate is not None

    def scores(queries: Sequence[str]) -> list[float]:
        return [found.score for _, found in map(generator.scored, queries) if found]

    of_tasks = {task: scores(queries) for task, queries in tests.items()}
    inside = [score for found in of_tasks.values() for score in found]
    found = {kind: scores(queries) for kind, queries in others.items()}
    limit = float(np.quantile(inside, 0.03))
    return {
        "tasks": list(tests),
        "rows": len(inside),
        "recall": share(inside),
        "recall_of": {task: share(values) for task, values in of_tasks.items()},
        "outside": {
            kind: {
                "queries": len(values),
                "auroc": round(auroc(inside, values), 4),
                "steered": share(values),
                "at_97": share(values, limit),
            }
            for kind, values in found.items()
        },
        "scores": {kind: [round(score, 3) for score in values] for kind, values in {"tasks": inside, **found}.items()},
        "gate_ms": round(gate_ms(gate, generator, others["chat"]), 3),
        "prototypes": sum(task.prototypes for task in opened.manifest.gate.tasks) if opened.manifest.gate else 0,
        "metrics": opened.manifest.provenance.metrics,
    }


def share(scores: Sequence[float], limit: float = 0.5) -> float:
    """Of scores that reach the limit, by default that of steering."""
    return round(statistics.mean(score >= limit for score in scores), 4)


def demo(data: Path) -> Iterator[dict[str, Any]]:
    """The record of the embedded bundle."""
    tests = {file.stem: inputs(text_lines(file)) for file in sorted(DEMO.glob("*.jsonl"))}
    opened = Bundle(embedded_bundle())
    yield {"bundle": "demo", "bundle_id": opened.id, **measured(opened, tests, outside(data, list(tests)))}


def trained(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A record for each seed."""
    data, tasks = arguments.data, arguments.tasks
    tests = {task: inputs(rows(data, task, "test", N_TEST, 0)) for task in tasks}
    others = outside(data, tasks)
    for seed in arguments.seeds:
        made = bundle(data, tasks, arguments.work, seed, arguments.epochs)
        yield {"seed": seed, "epochs": arguments.epochs, **measured(Bundle(made), tests, others)}


def main() -> None:
    """Train what is missing, measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder for rows, runs and bundles")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--demo", action="store_true", help="measure the embedded bundle")
    arguments = parser.parse_args()
    for record in demo(arguments.data) if arguments.demo else trained(arguments):
        print(json.dumps({name: value for name, value in record.items() if name != "scores"}), flush=True)
        append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
