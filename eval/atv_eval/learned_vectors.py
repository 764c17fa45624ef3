"""Learned vectors to steer with in place of a bundle's mean: one for each task, or one for all."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from atv_eval.eval_task import Task
from atv_local.errors import UsageError
from atv_local.vectors import ControlVector, TargetSpec

_OF_ALL = "static.gguf"
_OF_THE_ONLY_TASK = "per-task.gguf"
_OF_A_TASK = re.compile(r"per-task-\d+-(.*)\.gguf")


def with_learned_vectors(
    tasks: Sequence[Task], source: Path | None, on_message: Callable[[str], None] = lambda _: None
) -> list[Task]:
    """The tasks, each with its vector.

    Args:
        tasks: of the evaluation.
        source: a control-vector GGUF for all tasks, or the folder `baselines` of a training run, where a task has the
            vector of its name, or else that of the only task, or that of all. None for no vectors.
        on_message: called with a line about a task that has no vector of its own name.

    Raises:
        NotFoundError: there is nothing.
        VectorError: a file that is not a control vector.
        UsageError: a folder without a vector for a task, or with two.
    """
    if source is None:
        return list(tasks)
    if not source.is_dir():
        vector = ControlVector.load(source)
        return [replace(task, learned=vector) for task in tasks]
    files = [_file_for(task.name, source) for task in tasks]
    for task, file in zip(tasks, files, strict=True):
        if not _OF_A_TASK.fullmatch(file.name):
            on_message(f"static for {task.name!r} is {file}: there is none by that name")
    return [replace(task, learned=ControlVector.load(file)) for task, file in zip(tasks, files, strict=True)]


def check_learned_vectors(tasks: Sequence[Task], target: TargetSpec) -> None:
    """Raise VectorError for a vector that does not fit the target."""
    for task in tasks:
        if task.learned is not None:
            task.learned.check_target(target)


def _file_for(task: str, folder: Path) -> Path:
    plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in task)[:80]  # as training does
    own = [
        file
        for file in sorted(folder.iterdir())
        if (named := _OF_A_TASK.fullmatch(file.name)) is not None and named[1] == plain
    ]
    if len(own) > 1:
        raise UsageError(f"{folder} has {len(own)} vectors for task {task!r}: name one of {own[0].name}, {own[1].name}")
    for file in (*own, folder / _OF_THE_ONLY_TASK, folder / _OF_ALL):
        if file.is_file():
            return file
    raise UsageError(
        f"`static` {folder} has no vector for task {task!r}; give a control-vector GGUF, or the folder 'baselines' "
        "that training with baselines writes"
    )
