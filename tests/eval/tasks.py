"""Rows of fruits and beasts as a task to evaluate, and a plan for it."""

from __future__ import annotations

import json
from pathlib import Path

from atv_eval.eval_plan import EvalPlan
from atv_eval.methods import Method
from atv_eval.tasks import read_tasks
from atv_local.data.columns import DEFAULT_COLUMNS
from atv_local.vectors.steering import Steering
from tests.tiny import ANSWERS


def write_task(path: Path, words: list[str], choices: list[str] | None = None) -> Path:
    rows = [{"input": word, "output": ANSWERS[word.split()[0]], "task": path.stem} for word in words]
    path.write_text("".join(json.dumps(row | ({"choices": choices} if choices else {})) + "\n" for row in rows))
    return path


def write_asked(folder: Path) -> Path:
    """A task of twenty rows with choices."""
    return write_task(folder / "kinds.jsonl", [f"{word} {n}" for n in (7, 8) for word in ANSWERS], ["a", "b"])


def write_shown(folder: Path) -> Path:
    """Twenty other rows of it, to show as demonstrations."""
    (folder / "shown").mkdir()
    return write_task(folder / "shown" / "kinds.jsonl", [f"{word} {n}" for n in (1, 2) for word in ANSWERS])


def plan_of(asked: Path, shown: Path | None = None, *methods: Method, **more: object) -> EvalPlan:
    tasks = read_tasks([asked], [shown] if shown else [], DEFAULT_COLUMNS, None, False)
    return EvalPlan(tasks, methods or (Method.BASE, Method.STEERED), Steering(), n_shots=4, **more)  # type: ignore[arg-type]
