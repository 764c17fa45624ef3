"""The arguments of the model `atv-local` in lm-evaluation-harness (`--model_args`). Parsing them needs no lm_eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from atv_local.batch import DEFAULT_PARALLEL, MAX_PARALLEL
from atv_local.data import as_template_variables, parse_template_variables
from atv_local.errors import UsageError, first_problem
from atv_local.vectors import Positions, parse_gate, parse_layers, parse_vector_file

_IGNORED = {"batch_size", "max_batch_size", "device"}  # lm_eval passes them to every model


def _layers(given: object) -> tuple[int, int]:
    return parse_layers(str(given))


def _gate(given: object) -> float:
    return parse_gate(str(given))


def _bundles(given: object) -> tuple[str | Path, ...]:
    """`NAME;NAME`, or a list of names."""
    if isinstance(given, list | tuple):
        return tuple(given)
    return (given,) if isinstance(given, Path) else tuple(str(given).split(";"))


def _control_vectors(given: object) -> tuple[tuple[Path, float], ...]:
    """`FILE;FILE:SCALE`, or a list of these, since commas are between arguments."""
    files = given if isinstance(given, list | tuple) else str(given).split(";")
    return tuple(parse_vector_file(str(file)) for file in files)


def _template_variables(given: object) -> dict[str, Any]:
    """`NAME=VALUE;NAME=VALUE`, a JSON object, or a mapping."""
    if isinstance(given, dict):
        return as_template_variables(given)
    text = str(given)
    return parse_template_variables([text] if text.lstrip().startswith("{") else text.split(";"))


class HarnessArguments(BaseModel):
    """What `--model_args` takes; defaults are those of `atv-local run`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | Path | None = None
    """GGUF of the target: a path or a name."""
    bundle: Annotated[tuple[str | Path, ...], BeforeValidator(_bundles)] = ()
    """A path or a name; or several with `;` between, of which each context has the one whose gate accepts it best."""
    control_vectors: Annotated[tuple[tuple[Path, float], ...], BeforeValidator(_control_vectors)] = ()
    """Control-vector files with `;` between, each alone or as FILE:SCALE; beside a bundle that is named, else alone."""
    strength: float | None = None
    layers: Annotated[tuple[int, int], BeforeValidator(_layers)] | None = None
    positions: Positions | None = None
    gate: Annotated[float, BeforeValidator(_gate)] | None = None
    """The score that a context needs to be steered by a bundle that has a gate: `auto`, `off` or a number."""
    template_variables: Annotated[dict[str, Any] | None, BeforeValidator(_template_variables)] = None
    """Values for variables of the chat template, as NAME=VALUE with `;` between; by default the bundle's."""
    off: bool = False
    """The base model; needs no bundle."""
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int = -1
    max_tokens: int = Field(256, ge=1)
    """Longest answer, for tasks that do not set one."""
    parallel: int = Field(DEFAULT_PARALLEL, ge=1, le=MAX_PARALLEL)
    """Most answers and options at a time; `--batch_size` has no effect."""
    seed: int = Field(1234, ge=0, lt=1 << 32)
    """For generations that sample."""

    @classmethod
    def of(cls, given: dict[str, Any]) -> HarnessArguments:
        """The arguments, checked; UsageError for invalid ones."""
        try:
            return cls(**{name: value for name, value in given.items() if name not in _IGNORED})
        except ValidationError as error:
            raise UsageError(
                f"model_args {first_problem(error)}; the arguments are {', '.join(cls.model_fields)}"
            ) from error
