"""The rows that the bundle `general` is trained on: a few of many tasks, each with its instruction.

python -m benchmarks.general_rows --data FOLDER --output FOLDER

The data folder has index.json, instructions.json and a folder for each task. Tasks with an unclear licence are left
out, and so is one of two that have the same rows turned round. The order of allowed answers is drawn for each row, so
that they have to be read. The output has a folder `train`, a folder `valid` and LICENCES.md.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from benchmarks.json_lines import text_lines

GROUPS = ("instructed", "generation", "text", "atv20")
TURNED_ROUND = frozenset({"e2e_nlg"})
ROWS = {"train": 40, "valid": 4}
MAX_CHARS = 900
"""Of an input; a longer one takes long to read."""


def chosen_tasks(index: dict[str, dict[str, Any]]) -> list[str]:
    """The tasks that can be used, in the order of the index."""
    return [
        name
        for name, entry in index.items()
        if entry.get("group") in GROUPS and entry.get("licence_clarity") == "clear" and name not in TURNED_ROUND
    ]


def rows(lines: list[str], task: str, split: str, instruction: str, limit: int, seed: str = "") -> list[dict[str, Any]]:
    """At most so many of a task's rows."""
    draw, records = random.Random(f"{task}/{split}{seed}"), [json.loads(line) for line in lines]
    draw.shuffle(records)
    made = []
    for record in [one for one in records if len(one["input"]) < MAX_CHARS][:limit]:
        row = {"task": task, "input": record["input"], "output": record["output"], "instruction": instruction}
        if choices := record.get("choices"):
            if max(map(len, choices)) > 1:  # letters stand for the options in the input, which are in their order
                draw.shuffle(choices)
            row["choices"] = choices
        made.append(row)
    return made


def licences(index: dict[str, dict[str, Any]], tasks: list[str]) -> str:
    """A table of where the rows come from."""
    lines = ["| task | licence | source |", "|---|---|---|"]
    for name in tasks:
        sources = ", ".join(dict.fromkeys(source["repo"] for source in index[name].get("sources", [])))
        lines.append(f"| {name} | {index[name]['licence']} | {sources} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    index = json.loads((arguments.data / "index.json").read_text())
    instructions = json.loads((arguments.data / "instructions.json").read_text())
    tasks = chosen_tasks(index)
    for split, limit in ROWS.items():
        folder = arguments.output / split
        folder.mkdir(parents=True, exist_ok=True)
        for task in tasks:
            lines = text_lines(arguments.data / task / f"{split}.jsonl")
            made = rows(lines, task, split, instructions[task], limit)
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
            (folder / f"{task}.jsonl").write_text(text, encoding="utf-8")
    (arguments.output / "LICENCES.md").write_text(licences(index, tasks), encoding="utf-8")
    print(f"{len(tasks)} tasks in {arguments.output}")


if __name__ == "__main__":
    main()
