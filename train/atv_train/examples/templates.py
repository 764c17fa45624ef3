"""Wordings that a task's inputs are put in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from atv_local.data import reading
from atv_local.errors import DataError

INPUT = "{input}"
OTHER_TASKS = "*"
Templates = Mapping[str, Sequence[str]]
"""The wordings of each task, each with `{input}`; `*` is for tasks that are not named."""


def template_texts(task: str, templates: Templates) -> Sequence[str]:
    """The templates of a task: its own, or those of `*`, or the bare input."""
    return templates.get(task) or templates.get(OTHER_TASKS) or (INPUT,)


def read_templates(path: Path) -> dict[str, list[str]]:
    """Templates from a JSON file.

    Raises:
        NotFoundError: no such file.
        DataError: not JSON of that shape, or a wording without `{input}`.
    """
    with reading(path):
        text = path.read_text(encoding="utf-8")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    return checked_templates(content, str(path))


def checked_templates(content: object, source: str = "`templates`") -> dict[str, list[str]]:
    """The content as templates.

    Raises:
        DataError: empty, not a list of wordings for each task, or a wording without `{input}`.
    """
    try:
        templates = TypeAdapter(dict[str, list[str]]).validate_python(content)
    except ValidationError as error:
        raise DataError(f'{source} is not of the form {{"task": ["wording with {{input}}", ...]}}') from error
    if not templates:
        raise DataError(f"{source} is empty; leave it out, or add wordings of a task")
    for task, wordings in templates.items():
        if not wordings:
            raise DataError(f"{source}: the task {task[:60]!r} has no wording")
        for wording in wordings:
            if INPUT not in wording:
                raise DataError(f"{source}: the wording {wording[:60]!r} has no {{input}}")
    return templates
