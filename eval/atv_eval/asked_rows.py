"""What a row's steered prompt says before its input."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from atv_local.answer import Asked, Engine
from atv_local.data import Row, with_choices
from atv_local.generator import Generator
from atv_local.vectors import Steering


def asked_row(
    engine: Engine,
    steering: Steering,
    task: str,
    row: Row,
    given: Mapping[str, str] = MappingProxyType({}),
    *,
    restricted: bool = False,
) -> Asked:
    """The row as a bundle is asked for it.

    A bundle that was trained with instructions reads that of its own task of this name, or else the one that is given
    for the task or by the row, with the row's choices. Other bundles read the input alone.

    Args:
        engine: with the bundle.
        steering: of the answer.
        task: the name of the row's task.
        row: to answer.
        given: instructions by task.
        restricted: whether the answer is one of the row's choices, or they are only listed.
    """
    known = engine.instructions
    choices, listed = (row.choices or (), ()) if restricted else ((), row.choices or ())
    if not known or steering.off:
        return Asked(row.input, steering)
    if task in known:
        only = engine.generators[0].bundle.manifest.only_task  # which needs no name, and whose gate decides
        return engine.asked(row.input, task=None if only else task, choices=choices, listed=listed, steering=steering)
    said = given.get(task) or row.instruction
    return engine.asked(row.input, instruction=said, choices=choices, listed=listed, steering=steering)


def told_row(generator: Generator, task: str, row: Row) -> str | None:
    """What a bundle reads before the row's input when its gate decides on it."""
    tasks = {one.name: one for one in generator.bundle.manifest.tasks}
    only = generator.bundle.manifest.only_task
    if only is not None:
        return only.told(row.choices or ())
    return tasks[task].told(row.choices or ()) if task in tasks else with_choices(row.instruction, row.choices)
