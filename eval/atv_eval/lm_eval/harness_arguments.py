"""What `--model_args` of lm-evaluation-harness says to the model `atv-local`. Knows nothing of lm_eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from atv_local.batch import N_SEQUENCES
from atv_local.errors import UsageError, first_problem
from atv_local.vectors import Positions, parse_layers

_EVERYBODYS = {"batch_size", "max_batch_size", "device"}  # lm_eval gives them to every model


def _layers(given: object) -> tuple[int, int]:
    return parse_layers(str(given))


class Arguments(BaseModel):
    """What `--model_args` takes; what is not given is as in `atv-local run`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | Path | None = None
    """A name, as `-m` takes it."""
    generator: str | Path | None = None
    """A bundle, as `-g` takes it."""
    strength: float | None = None
    layers: Annotated[tuple[int, int], BeforeValidator(_layers)] | None = None
    positions: Positions | None = None
    off: bool = False
    """The base model; needs no bundle."""
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int = -1
    max_gen_toks: int = Field(256, ge=1)
    """For tasks that do not say."""
    batch: int = Field(N_SEQUENCES, ge=1, le=255)
    """Answers and options at a time, at most; `--batch_size` has no effect."""
    seed: int = Field(1234, ge=0, lt=1 << 32)
    """Of generations that sample."""

    @classmethod
    def of(cls, given: dict[str, Any]) -> Arguments:
        """Checked; UsageError for what cannot be meant."""
        try:
            return cls(**{name: value for name, value in given.items() if name not in _EVERYBODYS})
        except ValidationError as error:
            raise UsageError(
                f"model_args {first_problem(error)}; the arguments are {', '.join(cls.model_fields)}"
            ) from error
