"""`atv-local run`: answer one query."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atv_cli import options
from atv_local.data import reading
from atv_local.errors import UsageError
from atv_local.text import strip_control

if TYPE_CHECKING:
    from atv_local.answer import Engine, Event
    from atv_local.vectors import Steering

_MAX_QUERY = 1 << 20


def run(
    query: Annotated[
        list[str] | None, typer.Argument(help="The query; what is piped in is added. Without any, a chat.")
    ] = None,
    model: options.Model = None,
    bundle: options.Bundle = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read the query, or more of it, here.")] = None,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Print tokens as they come.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record instead of text.")] = False,
    max_tokens: options.MaxTokens = 256,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 0.95,
    top_k: options.TopK = 40,
    seed: options.Seed = None,
    system: options.System = None,
    ctx_size: options.CtxSize = None,
    threads: options.Threads = None,
    gpu_layers: options.GpuLayers = -1,
    strength: options.Strength = None,
    layers: options.Layers = None,
    positions: options.Positions = None,
    off: options.Off = False,
    control_vector: options.ControlVector = None,
    control_vector_scaled: options.ControlVectorScaled = None,
    provider: options.Provider = None,
    precision: options.Precision = None,
    compare: Annotated[bool, typer.Option("--compare", help="Answer without and with steering.")] = False,
    show_vector: Annotated[bool, typer.Option("--show-vector", help="Plot the vector's norms on stderr.")] = False,
) -> None:
    """Answer a query with the target, steered by the task vector the generator reads from it."""
    if off and (compare or show_vector):
        raise UsageError("--off leaves nothing to compare or show; drop it or the other option")
    options.check_off(off, control_vector, control_vector_scaled, provider, precision)
    nothing_asked = not (query or file or as_json or compare or show_vector) and stream
    chatting = nothing_asked and sys.stdin.isatty()
    text = "" if chatting else _query(query or [], file)
    changes = options.steering_changes(strength, layers, positions)

    import atv_local
    from atv_cli.chat import loop
    from atv_cli.screen import terminal

    sampling = atv_local.Sampling(temperature, top_p, top_k, seed)
    engine = atv_local.load(
        model,
        bundle,
        steered=not off,
        n_ctx=ctx_size,
        n_threads=threads,
        n_gpu_layers=gpu_layers,
        control_vectors=options.control_vectors(control_vector, control_vector_scaled),
        provider=provider,
        precision=precision,
    )
    steering = atv_local.OFF if off else replace(engine.steering, **changes)
    settings: dict[str, Any] = {"sampling": sampling, "max_tokens": max_tokens, "system": system}
    if chatting:
        loop.chat(atv_local.Conversation(engine, steering=steering, **settings))
        return
    if show_vector:
        terminal.norms(steering.apply(engine.vector(text)))
    if compare:
        compared = {"without steering": atv_local.OFF, "with steering": steering}
        answers = {name: _fresh(engine, text, how, settings) for name, how in compared.items()}
        if as_json:
            records = {name.split()[0]: _record(engine, compared[name], events) for name, events in answers.items()}
            print(json.dumps(records, ensure_ascii=False))
        else:
            terminal.side_by_side(answers)
    elif as_json:
        answer = engine.stream(text, steering=steering, **settings)
        print(json.dumps(_record(engine, steering, answer), ensure_ascii=False))
    else:
        _print(engine, text, steering, settings, stream)


def _print(engine: Engine, text: str, steering: Steering, settings: dict[str, Any], stream: bool) -> None:
    answer = ""
    shown = strip_control if sys.stdout.isatty() else str
    for event in engine.stream(text, steering=steering, **settings):
        answer += event.text
        if stream:
            print(shown(event.text), end="", flush=True)
    if not stream:
        print(shown(answer), end="")
    if not answer.endswith("\n"):
        print()


def _record(engine: Engine, steering: Steering, events: Iterator[Event]) -> dict[str, Any]:
    """Everything about one answer."""
    from atv_local.answer import answer_record

    answered = list(events)
    text = "".join(event.text for event in answered)
    return {"text": text, **answer_record(engine, steering, answered[-1])}


def _fresh(engine: Engine, text: str, steering: Steering, settings: dict[str, Any]) -> Iterator[Event]:
    """An answer from an empty cache, so that of two that are compared neither profits from the other."""
    engine.target.reset()
    yield from engine.stream(text, steering=steering, **settings)


def _query(arguments: list[str], file: Path | None) -> str:
    """Arguments, then the file, then what is piped in, with an empty line between them."""
    parts = [" ".join(arguments)]
    if file is not None:
        with reading(file, UsageError), file.open(encoding="utf-8") as source:
            parts.append(source.read(_MAX_QUERY + 1))
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
