"""Kinds of tasks that training never saw, told in words: what reading the query adds to one static vector, and rivals.

python -m benchmarks.held_out --data FOLDER --output FILE.jsonl [--seeds N ...] [--method NAME ...] [--tasks N]
    [--rows N]

Five whole kinds are left out of the training tasks. Each method of `held_out_methods` learns from the others; then rows
of the kinds left out, of `unseen_dev` and of the trained tasks are asked with their instruction and allowed answers. In
PyTorch, where right answers are given to the target and its logits say whether it would write them. What the output has
already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from atv_local.data import Row
from atv_train import TrainingSettings
from benchmarks.forced import outcomes
from benchmarks.general_rows import GROUPS, TURNED_ROUND, rows
from benchmarks.held_out_methods import METHODS, Answering, Learner
from benchmarks.json_lines import append_lines, json_lines, text_lines
from benchmarks.kinds import TRAINED, UNSEEN, kind_of

TEST_ROWS = {TRAINED: 10, UNSEEN: 1000}
"""Of each task, of both of its splits that are not trained on; 50 of one that is left out."""
LEFT_OUT_ROWS, N_SHOWN = 50, 64


@dataclass(frozen=True)
class Draw:
    """The tasks and rows of one seed."""

    data: Path
    seed: int
    n_tasks: int | None
    n_rows: int

    @cached_property
    def instructions(self) -> dict[str, str]:
        """By task."""
        return dict(json.loads((self.data / "instructions.json").read_text()))

    @cached_property
    def kinds(self) -> dict[str, list[str]]:
        """The tasks of each kind; of those that are trained on, the first ones in the seed's order."""
        index = json.loads((self.data / "index.json").read_text())
        found: dict[str, list[str]] = {}
        for name, entry in index.items():
            if (group := entry.get("group")) in (*GROUPS, UNSEEN) and name not in TURNED_ROUND:
                found.setdefault(kind_of(name, group), []).append(name)
        random.Random(self.seed).shuffle(found[TRAINED])
        return found | {TRAINED: found[TRAINED][: self.n_tasks]}

    def training_rows(self, task: str, limit: int) -> list[Row]:
        """Of a task, drawn by the seed."""
        lines = text_lines(self.data / task / "train.jsonl")
        drawn = rows(lines, task, "train", self.instructions[task], limit, f"/{self.seed}")
        return [Row(**row) for row in _rows(drawn)]

    def test_rows(self, task: str, limit: int) -> list[Row]:
        """The first of a task, in the file's order."""
        lines = [line for split in ("test", "valid") for line in text_lines(self.data / task / f"{split}.jsonl")]
        records = [json.loads(line) for line in lines[:limit]]
        kept = [{key: record[key] for key in ("input", "output", "choices") if record.get(key)} for record in records]
        return [Row(**row, task=task, instruction=self.instructions[task]) for row in _rows(kept)]

    def learner(self) -> Learner:
        """What the methods learn from."""
        trained = [row for task in self.kinds[TRAINED] for row in self.training_rows(task, self.n_rows)]
        every = [task for tasks in self.kinds.values() for task in tasks]
        settings = TrainingSettings(epochs=1, batch_size=16, contrastive=0.0, seed=self.seed)
        pools = {task: self.training_rows(task, N_SHOWN) for task in every}
        return Learner(trained, pools, self.instructions, settings)


def _rows(records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for record in records:
        if choices := record.get("choices"):
            record["choices"] = tuple(choices)
        yield record


def records(draw: Draw, learner: Learner, answering: Answering) -> Iterator[dict[str, Any]]:
    """A line for each task: which answers are right, in free text and of the allowed ones, a digit for each row."""
    for kind, tasks in draw.kinds.items():
        for task in tasks:
            tests = draw.test_rows(task, TEST_ROWS.get(kind, LEFT_OUT_ROWS))
            asked = [learner.asked(row, shots=answering.shots, told=answering.told) for row in tests]
            if answering.target is not None:
                answering.target.cache_prefixes([row.example for row in asked])
            found = outcomes(asked, answering.logits)
            choice = "".join(str(int(one.choice)) for one in found if one.choice is not None)
            exact = "".join(str(int(one.exact)) for one in found)
            yield {"kind": kind, "task": task, "exact": exact, "choice": choice}


def main() -> None:
    """Train and measure what the output does not have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--tasks", type=int, help="trained on; by default all that are not left out")
    parser.add_argument("--rows", type=int, default=20, help="of each task that is trained on")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        draw = Draw(arguments.data, seed, arguments.tasks, arguments.rows)
        place = {"seed": seed, "tasks": len(draw.kinds[TRAINED]), "train_rows": arguments.rows}
        learner = draw.learner()
        for family in arguments.method:
            found = place | {"family": family}
            if any(found.items() <= line.items() for line in json_lines(arguments.output)):
                continue
            lines = [
                found | {"method": method} | record
                for method, answering in METHODS[family](learner).items()
                for record in records(draw, learner, answering)
            ]
            append_lines(arguments.output, lines)


if __name__ == "__main__":
    main()
