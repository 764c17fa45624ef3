"""`atv-local run`: answer one query."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atv_cli import options
from atv_local.errors import UsageError

if TYPE_CHECKING:
    from atv_local.engine import Engine, Event
    from atv_local.steering import Steering

_MAX_QUERY = 1 << 20


def run(
    query: Annotated[list[str] | None, typer.Argument(help="The query; text piped in is added to it.")] = None,
    model: options.Model = None,
    bundle: options.Bundle = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read the query, or more of it, here.")] = None,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Print tokens as they come.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record instead of text.")] = False,
    max_tokens: options.MaxTokens = 256,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 0.95,
    top_k: options.TopK = 40,
    seed: Annotated[int | None, typer.Option("--seed", help="Makes sampling repeatable [default: random].")] = None,
    system: options.System = None,
    ctx_size: options.CtxSize = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = -1,
    strength: options.Strength = None,
    layers: options.Layers = None,
    positions: options.Positions = None,
    off: options.Off = False,
    control_vector: Annotated[
        list[Path] | None,
        typer.Option(help="Steer by this control-vector GGUF: beside the generator of -g, where it steers, or alone."),
    ] = None,
    control_vector_scaled: Annotated[
        list[str] | None, typer.Option(metavar="FILE:SCALE", help="The same, times a factor; repeatable.")
    ] = None,
    provider: options.Provider = None,
    precision: options.Precision = None,
    compare: Annotated[bool, typer.Option("--compare", help="Answer without and with steering.")] = False,
    show_vector: Annotated[bool, typer.Option("--show-vector", help="Plot the vector's norms on stderr.")] = False,
) -> None:
    """Answer a query with the target, steered by the task vector the generator reads from it."""
    if off and (compare or show_vector):
        raise UsageError("--off leaves nothing to compare or show; drop it or the other option")
    if off and (control_vector or control_vector_scaled or provider or precision):
        raise UsageError("--off steers by nothing; drop it, or the control vectors, --provider and --precision")
    text = _query(query or [], file)
    changes = options.steering_changes(strength, layers, positions)

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
    steering = atv_local.OFF if off else replace(engine.steering, **changes)
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
    """Everything about one answer."""
    events: list[Event] = list(engine.stream(text, steering=steering, **settings))
    return {"text": "".join(event.text for event in events)} | account(engine, steering, events[-1])


def account(engine: Engine, steering: Steering, last: Event) -> dict[str, Any]:
    """What is to be said of an answer by its last event, and what steered it; times in milliseconds."""
    steered = not steering.off
    return {
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
        "layers": list(steering.range(engine.target.n_rows)) if steered else None,
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
