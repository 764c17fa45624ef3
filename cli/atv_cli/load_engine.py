"""Loads the engine and the steering for the options of `run` and `chat`, and says what its generator does not read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from atv_local.errors import UsageError

if TYPE_CHECKING:
    from atv_cli.options import ControlVectorOptions, EngineOptions, SteeringOptions, TaskOptions
    from atv_local.answer import Engine
    from atv_local.generator import Generator
    from atv_local.vectors import Steering


def load_engine(
    model: str | None,
    bundle: Sequence[str] | None,
    steering: SteeringOptions,
    off: bool,
    vectors: ControlVectorOptions,
    performance: EngineOptions,
) -> tuple[Engine, Steering]:
    """The engine, and how it is to steer: not at all if `off`, whatever the other options are.

    Says on stderr if a gate is asked for that no bundle has.

    Raises:
        AtvError: what `atv_local.load` raises.
    """
    import atv_local

    changes = steering.changes()
    engine = atv_local.load(model, bundle or None, off=off, control_vectors=vectors.files(), **performance.arguments())
    how = replace(engine.steering, **changes)
    if changes.get("gate") and engine.generators and not engine.has_gate:
        print("atv-local: --gate has no effect: the bundle has no gate and steers every query", file=sys.stderr)
    return engine, atv_local.OFF if off else how


def check_task_options(told: TaskOptions, *, off: bool) -> None:
    """Raise UsageError for a task without a bundle."""
    if off and told.task is not None:
        raise UsageError("--off loads no bundle, so --task names nothing; say it with --instruction")


def say_not_read(generator: Generator | None, queries: Sequence[str]) -> None:
    """Say on stderr what a generator does not read of the queries that it makes vectors of."""
    if generator is None:
        return
    from atv_local.generator import ReadingSummary

    for sentence in ReadingSummary.of((query, generator.read(query)) for query in queries).sentences():
        print(f"atv-local: {sentence}", file=sys.stderr)
