"""`atv-local run`: answer one query."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atv_cli import options
from atv_cli.constraint_options import ConstraintOptions
from atv_cli.given_options import was_given
from atv_cli.help_pages import Panel
from atv_cli.verbs.chat import chat
from atv_local.data import reading
from atv_local.errors import UsageError
from atv_local.text import counted, one_line, strip_control

if TYPE_CHECKING:
    from atv_local.answer import Answer, Asked, Conversation, Engine
    from atv_local.vectors import GateDecision, Steering

_MAX_QUERY = 1 << 20


def run(
    context: typer.Context,
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="The query; piped text is added to it. Without a query, a chat starts."),
    ] = None,
    *,
    file: Annotated[
        Path | None,
        Panel.INPUT.option("-f", "--file", metavar="FILE", help="Add the text of this file to the query."),
    ] = None,
    model: options.ModelOption = None,
    bundle: options.BundlesOption = None,
    steering: options.SteeringOptions,
    off: options.OffOption = False,
    vectors: options.ControlVectorOptions,
    told: options.TaskOptions,
    sampling: options.SamplingOptions,
    constraint: ConstraintOptions,
    performance: options.EngineOptions,
    stream: Annotated[
        bool,
        Panel.OUTPUT.option("--stream/--no-stream", help="Print tokens as they are generated."),
    ] = True,
    as_json: options.AsJson = False,
    compare: Annotated[
        bool, Panel.OUTPUT.option("--compare", help="Show two answers: without steering and with it.")
    ] = False,
    show_vector: Annotated[
        bool, Panel.OUTPUT.option("--show-vector", help="Plot the norm of the task vector in each layer on stderr.")
    ] = False,
) -> None:
    """Answer one query, steered by the task vector that the generator makes for it."""
    if off and (compare or show_vector):
        raise UsageError(f"--off turns steering off, so {'--compare' if compare else '--show-vector'} has no effect")
    if as_json and stream and was_given(context, "stream"):
        raise UsageError(
            "--json prints the answer once it is complete, so --stream has no effect; leave one of them out"
        )
    query_expected = query or file or as_json or compare or show_vector or not stream
    if not query_expected and sys.stdin.isatty():
        chat(
            model=model,
            bundle=bundle,
            steering=steering,
            off=off,
            vectors=vectors,
            told=told,
            sampling=sampling,
            constraint=constraint,
            performance=performance,
        )
        return
    text = _query(query or [], file)

    from atv_cli.load_engine import check_task_options, load_engine, say_not_read
    from atv_local.answer import Conversation

    settings = sampling.arguments() | constraint.arguments()
    check_task_options(told, off=off)
    engine, how = load_engine(model, bundle, steering, off, vectors, performance)
    asked = _asked(engine, text, how, told, constraint)
    if show_vector:
        from atv_cli.screen import plot_norms

        plotted = engine.gated(asked, forced=True).rows
        assert plotted is not None  # a forced vector is never missing
        plot_norms(plotted)
    if compare:
        _compare(Conversation(engine, steering=how, **told.arguments(), **settings), text, asked, as_json)
    elif as_json:
        answer = engine.answer(text, steering=how, **told.arguments(), **settings)
        print(json.dumps(answer.as_dict(), ensure_ascii=False))
    else:
        answer = _print(engine, asked, settings, stream)
    if compare:
        gate = None if how.off else engine.gated(asked).gate
    else:
        gate = answer.gate
        _note_cut(constraint, answer)
    _note_gate(engine, gate)
    say_not_read(engine.chosen_generator(gate), [] if how.off else [asked.text])


def _asked(
    engine: Engine, text: str, steering: Steering, told: options.TaskOptions, constraint: ConstraintOptions
) -> Asked:
    restriction = engine.constraint(**constraint.arguments(), task=told.task)
    choices = restriction.choices if restriction else ()
    return engine.asked(text, **told.arguments(), choices=choices, steering=steering)


def _print(engine: Engine, asked: Asked, settings: dict[str, Any], stream: bool) -> Answer:
    from atv_local.answer import Answer

    answer = ""
    shown = strip_control if sys.stdout.isatty() else str
    for event in engine.stream(asked, task=asked.task, steering=asked.steering, **settings):
        answer += event.text
        if stream:
            print(shown(event.text), end="", flush=True)
    if not stream:
        print(shown(answer), end="")
    if not answer.endswith("\n"):
        print()
    return Answer.of_event(engine, asked.steering, answer, event, asked=asked)


def _note_cut(constraint: ConstraintOptions, answer: Answer) -> None:
    """Say if a limit ended an answer before its schema or grammar did."""
    from atv_local.answer import Finish

    if answer.finish_reason is Finish.STOP or not (constraint.schema or constraint.grammar):
        return
    if constraint.schema and _is_json(answer.text):
        return
    result = "the JSON is" if constraint.schema else "the answer may be"
    remedy = "raise --max-tokens" if answer.finish_reason is Finish.LENGTH else "the context is full, raise --n-ctx"
    n_tokens = counted(answer.tokens.generated, "token")
    print(f"stopped at {n_tokens}, so {result} incomplete; {remedy}", file=sys.stderr)


def _note_gate(engine: Engine, gate: GateDecision | None) -> None:
    """Say if no bundle steered the answer."""
    if gate and not gate.steered:
        best = "at best " if len(engine.generators) > 1 else ""
        print(
            f"not steered: the query scores {best}{gate.score:.2f} as {one_line(gate.task)!r}, which is below "
            f"{gate.threshold:g}; --gate off steers every query",
            file=sys.stderr,
        )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _compare(conversation: Conversation, text: str, asked: Asked, as_json: bool) -> None:
    from atv_cli.screen import side_by_side
    from atv_local.answer import Answer
    from atv_local.vectors import OFF

    answers = conversation.compare(text)
    if not as_json:
        side_by_side(answers)
        return
    records = {}
    for key, steering, events in zip(("without", "with"), (OFF, conversation.steering), answers.values(), strict=True):
        pieces = list(events)
        answer = "".join(event.text for event in pieces)
        records[key] = Answer.of_event(conversation.engine, steering, answer, pieces[-1], asked=asked).as_dict()
    print(json.dumps(records, ensure_ascii=False))


def _query(arguments: list[str], file: Path | None) -> str:
    """Arguments, then the file, then what is piped in, with an empty line between them."""
    parts = [" ".join(arguments)]
    if file is not None:
        with reading(file), file.open(encoding="utf-8") as source:
            parts.append(source.read(_MAX_QUERY + 1))
    if not sys.stdin.isatty():
        try:
            parts.append(sys.stdin.read(_MAX_QUERY + 1))
        except UnicodeDecodeError as error:
            raise UsageError(f"the piped text is not UTF-8: {error}") from error
    text = "\n\n".join(part.strip() for part in parts if part.strip())
    if not text:
        raise UsageError("the query is empty; give it as an argument, with -f, or pipe it in")
    if len(text) > _MAX_QUERY:
        raise UsageError(f"the query is longer than {_MAX_QUERY} characters")
    return text
