"""Loads the engine and the steering for the options of `run` and `chat`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atv_cli.options import ControlVectorOptions, EngineOptions, SteeringOptions
    from atv_local.answer import Engine
    from atv_local.vectors import Steering


def load_engine(
    model: str | None,
    bundle: str | None,
    steering: SteeringOptions,
    off: bool,
    vectors: ControlVectorOptions,
    performance: EngineOptions,
) -> tuple[Engine, Steering]:
    """The engine, and how it is to steer: not at all if `off`, whatever the other options are.

    Raises:
        AtvError: what `atv_local.load` raises.
    """
    import atv_local

    changes = steering.changes()
    engine = atv_local.load(model, bundle, off=off, control_vectors=vectors.files(), **asdict(performance))
    how = replace(engine.steering, **changes)
    return engine, atv_local.OFF if off else how
