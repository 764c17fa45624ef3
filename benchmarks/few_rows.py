"""New tasks from few rows: a generator that starts from a bundle of many tasks beside one that starts from nothing.

python -m benchmarks.few_rows --data FOLDER --work FOLDER --output FILE.jsonl [--task NAME ...] [--rows 16 32 90]

The tasks are ones that `general` was not trained on. Both generators have the same rows, the instruction of the task,
and the settings that `train` chooses for them; test rows are answered through llama.cpp. A line of the output has the
results of one start, task, number of rows and seed, and the seconds that training took.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import atv_local
from atv_eval import read_tasks
from atv_export import export
from atv_train import train
from benchmarks.general_rows import chosen_tasks
from benchmarks.json_lines import append_lines, json_lines, text_lines

STARTS = ("nothing", "general")
GROUPS = ("instructed", "generation", "text", "atv20")
N_TESTS = 60


def left_out(index: dict[str, dict[str, object]]) -> list[str]:
    """Tasks of the groups of `general` that it does not have."""
    known = set(chosen_tasks(index))
    return [name for name, entry in index.items() if entry.get("group") in GROUPS and name not in known]


def draw(data: Path, folder: Path, task: str, n_rows: int, seed: int, instruction: str) -> tuple[Path, Path]:
    """Files of training and test rows; each training row has the instruction, so that a bundle reads it too."""
    made = []
    for split, limit in (("train", n_rows), ("test", N_TESTS)):
        lines = text_lines(data / task / f"{split}.jsonl")
        if split == "train":
            random.Random(f"{task}/{seed}").shuffle(lines)
        rows = [json.loads(line) | {"task": task, "instruction": instruction} for line in lines[:limit]]
        path = folder / split / f"{task}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        made.append(path)
    return made[0], made[1]


def measure(data: Path, work: Path, task: str, n_rows: int, seed: int, start: str) -> dict[str, object]:
    """Train, export and answer the test rows with the gate open."""
    instruction = json.loads((data / "instructions.json").read_text())[task]
    folder = work / f"{task}-{n_rows}-{seed}-{start}"
    rows, tests = draw(data, folder, task, n_rows, seed, instruction)
    started = time.monotonic()
    run = train(rows, folder / "run", start=None if start == "nothing" else start, seed=seed, overwrite=True)
    seconds = time.monotonic() - started
    export(run, folder / "bundle", precisions="fp32", overwrite=True)
    (measured,) = read_tasks([tests], [rows], {}, None, labels=False)
    with atv_local.load("default", folder / "bundle", n_ctx=4096) as engine:
        longest = max(len(engine.prompts.answer(row.input, row.output)) for row in measured.rows)
        answers = [
            next(
                engine.answer_many(
                    [row.input],
                    task=task,
                    steering=atv_local.Steering(positions=engine.steering.positions),
                    max_tokens=longest + longest // 4 + 4,
                )
            ).text
            for row in measured.rows
        ]
    scores = [measured.score(row, answer, None) for row, answer in zip(measured.rows, answers, strict=True)]
    return {
        "start": start,
        "task": task,
        "train_rows": n_rows,
        "seed": seed,
        "seconds": round(seconds, 1),
        "epochs": len(run.history),
        "main": measured.main.value,
        "scores": {metric.value: [round(row[metric], 4) for row in scores] for metric in scores[0]},
    }


def main() -> None:
    """Run what is missing and append it to the output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--work", type=Path, required=True, help="folder for rows and models")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--task", nargs="+", help="by default all that `general` was not trained on")
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 32, 90])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    index = json.loads((arguments.data / "index.json").read_text())
    done = {(line["start"], line["task"], line["train_rows"], line["seed"]) for line in json_lines(arguments.output)}
    for seed in arguments.seeds:
        for n_rows in arguments.rows:
            for task in arguments.task or left_out(index):
                for start in STARTS:
                    if (start, task, n_rows, seed) in done:
                        continue
                    record = measure(arguments.data, arguments.work, task, n_rows, seed, start)
                    append_lines(arguments.output, [record])
                    values = record["scores"][record["main"]]  # type: ignore[index]  # a mapping
                    mean = 100 * sum(values) / len(values)
                    print(
                        f"{task:32} {n_rows:4} {start:8} {mean:5.1f} {record['main']} {record['seconds']} s", flush=True
                    )


if __name__ == "__main__":
    main()
