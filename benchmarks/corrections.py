"""Twenty corrections: how many are answered right after `train --from`, unseen paraphrases of them too, and what is
lost of the earlier tasks.

python -m benchmarks.corrections --run RUN --output FILE.jsonl [--seeds N ...]

The run is that of the demo bundle (`make demo-bundle`). The corrections of `corrections.jsonl` give messages to a bank
four labels that the task did not have. Test rows of the demo's labels and JSON are answered before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import atv_local
from atv_eval import read_tasks
from atv_export import export
from atv_train import train
from benchmarks.json_lines import append_lines, json_lines

HERE = Path(__file__).parent
ROWS, DEMO = HERE / "corrections.jsonl", HERE.parent / "data" / "demo"
TASKS = ("banking77_top10", "snips_json")


def answered(engine: atv_local.Engine, queries: Sequence[str], outputs: Sequence[str]) -> str:
    """A digit for each query: whether its greedy answer is the output, word for word."""
    found = engine.answer_many(list(queries), max_tokens=120)
    return "".join(str(int(answer.text.strip() == output)) for answer, output in zip(found, outputs, strict=True))


def measured(bundle: Path) -> dict[str, Any]:
    """What a bundle answers, as `atv-local run` does, with its gate."""
    rows = json_lines(ROWS)
    tasks = read_tasks([DEMO / "test" / f"{task}.jsonl" for task in TASKS], [], {}, None, labels=False)
    outputs = [row["output"] for row in rows]
    with atv_local.load("default", bundle) as engine:
        found = {name: answered(engine, [row[name] for row in rows], outputs) for name in ("input", "paraphrase")}
        for task in tasks:
            found[task.name] = answered(engine, [row.input for row in task.rows], [row.output for row in task.rows])
    return found


def main() -> None:
    """Measure the run, teach it the corrections and measure it again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="of the demo bundle")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    done = {line["seed"] for line in json_lines(arguments.output)}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        corrections = work / "corrections.jsonl"
        rows = [{key: row[key] for key in ("task", "input", "output")} for row in json_lines(ROWS)]
        corrections.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        export(arguments.run, work / "before", precisions="int8")
        before = measured(work / "before")
        for seed in arguments.seeds:
            if seed in done:
                continue
            started = time.monotonic()
            train(corrections, work / f"run-{seed}", start=arguments.run, seed=seed)
            seconds = time.monotonic() - started
            export(work / f"run-{seed}", work / f"after-{seed}", precisions="int8")
            record = {"seed": seed, "seconds": round(seconds), "cores": len(os.sched_getaffinity(0))}
            record |= {"before": before, "after": measured(work / f"after-{seed}")}
            append_lines(arguments.output, [record])
            print(
                seed,
                round(seconds),
                {name: sum(map(int, marks)) for name, marks in record["after"].items()},
                flush=True,
            )


if __name__ == "__main__":
    main()
