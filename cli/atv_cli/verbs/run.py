"""`atv-local run`: answer one query."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atv_cli import options
from atv_cli.help_pages import Panel
from atv_cli.verbs.chat import chat
from atv_local.data import reading
from atv_local.errors import UsageError
from atv_local.text import strip_control

if TYPE_CHECKING:
    from atv_local.answer import Engine, Event
    from atv_local.vectors import Steering

_MAX_QUERY = 1 << 20


def run(
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="The query; piped text is added to it. Without a query, a chat starts."),
    ] = None,
    *,
    file: Annotated[
        Path | None,
        Panel.INPUT.option("-f", "--file", metavar="FILE", help="Add the text of this file to the query."),
    ] = None,
    model: options.Model = None,
    bundle: options.Bundle = None,
    steering: options.SteeringOptions,
    off: options.Off = False,
    vectors: options.ControlVectorOptions,
    sampling: options.SamplingOptions,
    performance: options.EngineOptions,
    stream: Annotated[
        bool,
        Panel.OUTPUT.option("--stream/--no-stream", help="Print tokens as they are generated."),
    ] = True,
    as_json: options.AsJson = False,
    compare: Annotated[bool, Panel.OUTPUT.option("--compare", help="Answer without steering, then with it.")] = False,
    show_vector: Annotated[
        bool, Panel.OUTPUT.option("--show-vector", help="Plot the vector's norms on stderr.")
    ] = False,
) -> None:
    """Answer one query, steered by the task vector that the generator makes for it."""
    if off and (compare or show_vector):
        raise UsageError(f"--off turns steering off, so {'--compare' if compare else '--show-vector'} has no effect")
    query_expected = query or file or as_json or compare or show_vector or not stream
    if not query_expected and sys.stdin.isatty():
        chat(
            model=model,
            bundle=bundle,
            steering=steering,
            off=off,
            vectors=vectors,
            sampling=sampling,
            performance=performance,
        )
        return
    text = _query(query or [], file)

    from atv_cli.load_engine import load_engine
    from atv_cli.screen import terminal
    from atv_local.vectors import OFF

    settings = sampling.arguments()
    engine, how = load_engine(model, bundle, steering, off, vectors, performance)
    if show_vector:
        terminal.norms(how.apply(engine.vector(text)))
    if compare:
        compared = {"without steering": OFF, "with steering": how}
        if as_json:
            records = {}
            for name, each in compared.items():
                engine.target.reset()  # so that neither finds what the other has evaluated
                records[name.split()[0]] = engine.answer(text, steering=each, **settings).as_dict()
            print(json.dumps(records, ensure_ascii=False))
        else:
            terminal.side_by_side({name: _fresh(engine, text, each, settings) for name, each in compared.items()})
    elif as_json:
        answer = engine.answer(text, steering=how, **settings)
        print(json.dumps(answer.as_dict(), ensure_ascii=False))
    else:
        _print(engine, text, how, settings, stream)


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
