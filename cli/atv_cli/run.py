"""`atv-local run`: answer one query."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atv_local.errors import UsageError
from atv_local.providers import Precision, Provider
from atv_local.steering import Positions

if TYPE_CHECKING:
    from atv_local.engine import Engine, Event
    from atv_local.steering import Steering

_MAX_QUERY = 1 << 20


def run(
    query: Annotated[list[str] | None, typer.Argument(help="The query; text piped in is added to it.")] = None,
    model: Annotated[Path | None, typer.Option("-m", "--model", help="GGUF [default: the embedded model].")] = None,
    bundle: Annotated[Path | None, typer.Option("-g", "--bundle", help="Bundle [default: the demo bundle].")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read the query, or more of it, here.")] = None,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Print tokens as they come.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record instead of text.")] = False,
    max_tokens: Annotated[int, typer.Option("-n", "--max-tokens", help="Longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option("--temp", help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", help="1 is off.")] = 0.95,
    top_k: Annotated[int, typer.Option("--top-k", help="0 is off.")] = 40,
    seed: Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable [default: random].")] = None,
    system: Annotated[str | None, typer.Option("-s", "--system", help="System message.")] = None,
    ctx_size: Annotated[int | None, typer.Option("-c", "--ctx-size", min=1, help="Context [default: 2048].")] = None,
    threads: Annotated[int | None, typer.Option("-t", "--threads", min=1, help="[default: all cores].")] = None,
    gpu_layers: Annotated[int, typer.Option("-ngl", "--gpu-layers", help="Layers to offload; -1 is all.")] = -1,
    strength: Annotated[float | None, typer.Option("--strength", help="Factor on the vector [default: 1].")] = None,
    layers: Annotated[str | None, typer.Option("--layers", metavar="A-B", help="Steer only these layers.")] = None,
    positions: Annotated[
        Positions | None, typer.Option("--positions", help="Which tokens to steer [default: as trained].")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Answer with the base model; needs no bundle.")] = False,
    control_vector: Annotated[
        list[Path] | None,
        typer.Option(help="Steer by this control-vector GGUF: beside the generator of -g, where it steers, or alone."),
    ] = None,
    control_vector_scaled: Annotated[
        list[str] | None, typer.Option(metavar="FILE:SCALE", help="The same, times a factor; repeatable.")
    ] = None,
    provider: Annotated[
        Provider | None, typer.Option(help="Where the generator runs [default: the first that works].")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Which graph of the bundle it runs [default: what suits the provider].")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Answer without and with steering.")] = False,
    show_vector: Annotated[bool, typer.Option("--show-vector", help="Plot the vector's norms on stderr.")] = False,
) -> None:
    """Answer a query with the target, steered by the task vector the generator reads from it."""
    if off and (compare or show_vector):
        raise UsageError("--off leaves nothing to compare or show; drop it or the other option")
    if off and (control_vector or control_vector_scaled or provider or precision):
        raise UsageError("--off steers by nothing; drop it, or the control vectors, --provider and --precision")
    text = _query(query or [], file)
    layer_range = parse_layers(layers) if layers is not None else None

    import atv_local
    from atv_cli import show
    from atv_local import control

    sampling = atv_local.Sampling(temperature, top_p, top_k, seed)
    vectors = [(path, 1.0) for path in control_vector or []]
    vectors += [control.parse(given) for given in control_vector_scaled or []]
    engine = atv_local.load(
        model,
        bundle,
        steered=not off,
        n_ctx=ctx_size,
        n_threads=threads,
        n_gpu_layers=gpu_layers,
        control_vectors=vectors,
        provider=provider,
        precision=precision,
    )
    steering = steering_of(engine, off, strength, layer_range, positions)
    settings: dict[str, Any] = {"sampling": sampling, "max_tokens": max_tokens, "system": system}
    if show_vector:
        show.norms(steering.apply(engine.vector(text)))
    if compare:
        answers = {"without steering": atv_local.OFF, "with steering": steering}
        if as_json:
            print(json.dumps(_records(engine, text, answers, settings), ensure_ascii=False))
        else:
            show.side_by_side(engine, text, answers, settings)
    elif as_json:
        print(json.dumps(_record(engine, text, steering, settings), ensure_ascii=False))
    else:
        _print(engine, text, steering, settings, stream)


def _print(engine: Engine, text: str, steering: Steering, settings: dict[str, Any], stream: bool) -> None:
    answer = ""
    for event in engine.stream(text, steering=steering, **settings):
        answer += event.text
        if stream:
            print(event.text, end="", flush=True)
    if not stream:
        print(answer, end="")
    if not answer.endswith("\n"):
        print()


def _record(engine: Engine, text: str, steering: Steering, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything about one answer; times in milliseconds."""
    events: list[Event] = list(engine.stream(text, steering=steering, **settings))
    last = events[-1]
    steered = not steering.off
    return {
        "text": "".join(event.text for event in events),
        "finish_reason": last.finish,
        "tokens": {
            "prompt": last.prompt_tokens,
            "evaluated": last.evaluated_tokens,
            "generated": last.generated_tokens,
        },
        "timings_ms": {
            "generator": round(last.generator_ms, 2),
            "first_token": round(last.first_token_ms, 2),
            "total": round(last.total_ms, 2),
        },
        "bundle": engine.generator.bundle.id if engine.generator and steered else None,
        "precision": engine.generator.precision if engine.generator and steered else None,
        "provider": engine.generator.provider if engine.generator and steered else None,
        "strength": steering.strength,
        "layers": list(steering.layers or (1, engine.target.n_rows)) if steered else None,
        "positions": steering.positions if steered else None,
    }


def _records(engine: Engine, text: str, answers: dict[str, Steering], settings: dict[str, Any]) -> dict[str, Any]:
    """One record for each, by the first word of its name, each from an empty cache as in `show.side_by_side`."""
    records = {}
    for name, steering in answers.items():
        engine.target.reset()
        records[name.split()[0]] = _record(engine, text, steering, settings)
    return records


def _query(arguments: list[str], file: Path | None) -> str:
    """Arguments, then the file, then what is piped in, with an empty line between them."""
    parts = [" ".join(arguments)]
    if file is not None:
        try:
            with file.open(encoding="utf-8") as source:
                parts.append(source.read(_MAX_QUERY + 1))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the query from {file}: {error}") from error
    if not sys.stdin.isatty():
        try:
            parts.append(sys.stdin.read(_MAX_QUERY + 1))
        except UnicodeDecodeError as error:
            raise UsageError(f"what is piped in is not text: {error}") from error
    text = "\n\n".join(part.strip() for part in parts if part.strip())
    if not text:
        raise UsageError("the query is empty; give it as an argument, with -f, or pipe it in")
    if len(text) > _MAX_QUERY:
        raise UsageError(f"the query is longer than {_MAX_QUERY} characters")
    return text


def parse_layers(text: str) -> tuple[int, int]:
    """`8-20` or `8` as a range; UsageError for anything else."""
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text)
    if match is None:
        raise UsageError(f"--layers {text!r} is not A-B, such as 8-20")
    return int(match[1]), int(match[2] or match[1])


def steering_of(
    engine: Engine, off: bool, strength: float | None, layers: tuple[int, int] | None, positions: Positions | None
) -> Steering:
    """The bundle's own steering, changed where an option says so."""
    from dataclasses import replace

    from atv_local.engine import OFF

    if off:
        return OFF
    changes: dict[str, Any] = {}
    if strength is not None:
        changes["strength"] = strength
    if layers is not None:
        changes["layers"] = layers
    if positions is not None:
        changes["positions"] = positions
    return replace(engine.steering, **changes)
