"""Loads the engine and the steering for the options of `run` and `chat`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from atv_local.errors import UsageError

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
    """The engine, and how it is to steer.

    Raises:
        AtvError: what `atv_local.load` raises, and UsageError for `off` with an option for what would steer.
    """
    import atv_local

    changes = steering.changes()
    check_off(off, performance, vectors)
    engine = atv_local.load(model, bundle, off=off, control_vectors=vectors.files(), **asdict(performance))
    return engine, atv_local.OFF if off else replace(engine.steering, **changes)


def check_off(off: bool, performance: EngineOptions, vectors: ControlVectorOptions | None = None) -> None:
    """Raise UsageError if `off` is given together with an option for what would steer."""
    values: dict[str, object] = {"--provider": performance.provider, "--precision": performance.precision}
    if vectors is not None:
        values["--control-vector"] = vectors.control_vector
        values["--control-vector-scaled"] = vectors.control_vector_scaled
    for flag, value in values.items():
        if off and value:
            raise UsageError(f"--off turns steering off, so {flag} has no effect; leave one of them out")
