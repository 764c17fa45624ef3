"""What the prompts of zero-shot, k-shot and bm25 say about a task: its instruction, and the form of an answer."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from atv_eval.eval_task import Task, TaskKind
from atv_eval.metrics import is_json_container
from atv_local.data import Row, are_labels, choices_sentence

_MAX_KEYS = 40
"""Keys that an instruction lists, the most frequent first."""
_MAX_VALUES = 12
"""Different values of a key up to which an instruction lists them."""


class Instructions:
    """The instructions of tasks.

    Args:
        given: what to do, by the name of the task.
    """

    def __init__(self, given: Mapping[str, str] = MappingProxyType({})) -> None:
        self.given = given
        self._json_forms: dict[str, str | None] = {}

    def of_row(self, task: Task, row: Row) -> str | None:
        """What to do with a row, then the labels or the keys of an answer. None without either.

        What to do is given for the task, or else by the row itself. Labels are left out where they would fill the
        prompt.
        """
        parts = [self.given.get(task.name) or row.instruction, self._form_of_answers(task, row)]
        return "\n".join(part for part in parts if part) or None

    def of_task(self, task: Task) -> str | None:
        """The instruction that all rows of a task have; None if they differ or have none."""
        texts = {self.of_row(task, row) for row in task.rows}
        return texts.pop() if len(texts) == 1 else None

    def without_labels(self, tasks: Sequence[Task]) -> list[str]:
        """The names of tasks with labels that a prompt does not list."""
        labels = [task for task in tasks if task.kind is TaskKind.LABELS]
        return [task.name for task in labels if any(self._form_of_answers(task, row) is None for row in task.rows)]

    def _form_of_answers(self, task: Task, row: Row) -> str | None:
        if task.kind is TaskKind.LABELS:
            return choices_sentence(row.choices or task.labels)
        if task.kind is not TaskKind.JSON:
            return None
        if task.name not in self._json_forms:
            outputs = [row.output for row in task.pool or task.rows if is_json_container(row.output)]
            self._json_forms[task.name] = describe_json(outputs) if outputs else None
        return self._json_forms[task.name]


def describe_json(outputs: Sequence[str]) -> str:
    """What JSON outputs have in common, in one sentence: the keys, and their values where these repeat."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    parsed = [json.loads(output) for output in outputs]
    for value in parsed:
        for path, leaf in _leaves(value):
            values[path].append(leaf)
    often = sorted(values, key=lambda path: -len(values[path]))[:_MAX_KEYS]
    keys = [path + _values(values[path]) for path in often if path]
    kind = "an array" if all(isinstance(value, list) for value in parsed) else "an object"
    return f"Answer with JSON and nothing else: {kind} with those of these keys that apply: {', '.join(keys)}."


def _values(leaves: Sequence[str]) -> str:
    different = list(dict.fromkeys(leaves))
    listed = are_labels(leaves) and len(different) <= _MAX_VALUES
    return f" (one of {', '.join(different)})" if listed and len(different) > 1 else ""


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, f"{path}[]")
    else:
        yield path, json.dumps(value, ensure_ascii=False)
