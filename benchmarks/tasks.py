"""The label tasks of the demo as prompts: instruction and labels with and without demonstrations."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

from atv_local.data import are_labels, read_rows

DATA = Path(__file__).parent.parent / "data" / "demo"

INSTRUCTIONS: dict[str, str] = json.loads((DATA / "instructions.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Task:
    """One demo task: its test rows, its labels, and sixteen training rows as demonstrations."""

    name: str
    rows: list[tuple[str, str]]
    labels: list[str]
    shots: list[tuple[str, str]]

    @property
    def instruction(self) -> str:
        """What the task is, in one sentence."""
        return INSTRUCTIONS[self.name]


def load_tasks(split: str = "test", seed: int = 0) -> list[Task]:
    """The demo tasks whose answers are labels; demonstrations are drawn from the training rows with `seed`."""
    tasks = []
    for path in sorted((DATA / split).glob("*.jsonl")):
        train = read(DATA / "train" / path.name)
        if are_labels([output for _, output in train]):
            random.Random(seed).shuffle(train)
            labels = sorted({output for _, output in train})
            tasks.append(Task(path.stem, read(path), labels, train[:16]))
    return tasks


def read(path: Path) -> list[tuple[str, str]]:
    """(input, output) of every row."""
    return [(row.input, row.output) for row in read_rows(path).rows]


def inline(task: Task, shots: list[tuple[str, str]], query: str) -> str:
    """Instruction and labels first, demonstrations as text."""
    head = f"{task.instruction} Answer with one of these labels and nothing else: {', '.join(task.labels)}.\n\n"
    parts = [f"Text: {text}\nLabel: {label}\n\n" for text, label in shots]
    return head + "".join(parts) + f"Text: {query}\nLabel:"
