"""Options that several verbs have in common, each declared once, and what their values mean together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from atv_local.errors import AtvError, UsageError
from atv_local.generator import Precision as PrecisionName
from atv_local.generator import Provider as ProviderName
from atv_local.vectors import Positions as PositionsName
from atv_local.vectors import parse_layers


def names(incomplete: str) -> list[str]:
    """Aliases that begin so, for a shell to complete; where there are none it offers files."""
    from atv_local.names import read_aliases

    try:
        return [name for name in read_aliases() if name.startswith(incomplete)]
    except AtvError:
        return []


NAME: dict[str, Any] = {"metavar": "NAME", "autocompletion": names}
"""Of whatever takes a name as `atv_local.names.resolve_model` knows them."""

Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="GGUF: a path, hf:user/repo[:quant], ollama:name or an alias [default: the embedded model].",
        **NAME,
    ),
]
Bundle = Annotated[
    str | None,
    typer.Option("-g", "--bundle", help="Bundle: a path, hf:user/repo or an alias [default: the demo bundle].", **NAME),
]
MaxTokens = Annotated[int, typer.Option("-n", "--max-tokens", help="Longest answer, in tokens.")]
Temperature = Annotated[float, typer.Option("--temp", help="0 is greedy.")]
TopP = Annotated[float, typer.Option("--top-p", help="1 is off.")]
TopK = Annotated[int, typer.Option("--top-k", help="0 is off.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable [default: random].")]
System = Annotated[str | None, typer.Option("-s", "--system", help="System message.")]
CtxSize = Annotated[
    int | None, typer.Option("-c", "--ctx-size", min=1, help="Context, which llama.cpp rounds up [default: 2048].")
]
Threads = Annotated[int | None, typer.Option("-t", "--threads", min=1, help="[default: all cores].")]
GpuLayers = Annotated[int, typer.Option("-ngl", "--gpu-layers", help="Layers to offload; -1 is all.")]
Strength = Annotated[float | None, typer.Option("--strength", help="Factor on the vector [default: the bundle's].")]
Layers = Annotated[str | None, typer.Option("--layers", metavar="A-B", help="Steer only these layers.")]
Positions = Annotated[
    PositionsName | None, typer.Option("--positions", help="Which tokens to steer [default: as trained].")
]
Off = Annotated[bool, typer.Option("--off", help="Answer with the base model; needs no bundle.")]
ControlVector = Annotated[
    list[Path] | None,
    typer.Option(help="Steer by this control-vector GGUF: beside the generator of -g, where it steers, or alone."),
]
ControlVectorScaled = Annotated[
    list[str] | None, typer.Option(metavar="FILE:SCALE", help="The same, times a factor; repeatable.")
]
Provider = Annotated[
    ProviderName | None, typer.Option(help="Where the generator runs [default: the first that works].")
]
Precision = Annotated[
    PrecisionName | None, typer.Option(help="Which graph of the bundle it runs [default: what suits the provider].")
]


def steering_changes(strength: float | None, layers: str | None, positions: PositionsName | None) -> dict[str, Any]:
    """What the options change in a bundle's own `Steering`, for `dataclasses.replace`."""
    given = {
        "strength": strength,
        "layers": None if layers is None else parse_layers(layers),
        "positions": positions,
    }
    return {name: value for name, value in given.items() if value is not None}


def control_vectors(files: list[Path] | None, scaled: list[str] | None) -> list[tuple[Path, float]]:
    """Both kinds of control-vector options, as files and their factors."""
    from atv_local.vectors import control_vector

    return [(path, 1.0) for path in files or []] + [control_vector.parse(given) for given in scaled or []]


def check_off(off: bool, *steering_by: object) -> None:
    """Raise UsageError where `--off` stands beside an option that says what to steer by."""
    if off and any(steering_by):
        raise UsageError("--off steers by nothing; drop it, or the control vectors, --provider and --precision")
