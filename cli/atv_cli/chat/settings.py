"""The settings that `/set` shows and changes in a chat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atv_cli.chat.session import Session
from atv_local.answer import Choices, parse_choices, read_grammar, read_schema, said_instruction
from atv_local.data import as_max_tokens
from atv_local.errors import UsageError
from atv_local.text import one_line
from atv_local.vectors import (
    ControlVector,
    Positions,
    ScaledVector,
    parse_gate,
    parse_layers,
    parse_vector_file,
    split_files,
)


@dataclass(frozen=True)
class Setting:
    """How to read a setting as text, and how to change it from text."""

    show: Callable[[Session], str]
    change: Callable[[Session, str], None]


def _steering(name: str, parse: Callable[[str], Any], show: Callable[[Session], str]) -> Setting:
    """A field of the conversation's `Steering`; `default` is the engine's own."""

    def change(session: Session, text: str) -> None:
        default = getattr(session.conversation.engine.steering, name)
        session.steer(**{name: default if text == "default" else parse(text)})

    return Setting(show, change)


def _sampling(name: str, parse: Callable[[str], Any], show: Callable[[Any], str]) -> Setting:
    """A field of the conversation's `Sampling`."""

    def change(session: Session, text: str) -> None:
        session.conversation.sampling = replace(session.conversation.sampling, **{name: parse(text)})

    return Setting(lambda session: show(getattr(session.conversation.sampling, name)), change)


def _show_strength(session: Session) -> str:
    steering = session.conversation.steering
    return f"{steering.strength:g} (off)" if steering.off else f"{steering.strength:g}"


def _show_layers(session: Session) -> str:
    first, last = session.layers
    return f"{first}-{last}"


def _set_max_tokens(session: Session, text: str) -> None:
    count = _integer(text)
    as_max_tokens(count)
    session.conversation.max_tokens = count


def _set_verbose(session: Session, text: str) -> None:
    if text not in ("on", "off"):
        raise UsageError(f"verbose {text!r} is neither on nor off")
    session.verbose = text == "on"


def _set_corrections(session: Session, text: str) -> None:
    session.corrections = Path(text).expanduser()


def _show_vectors(session: Session) -> str:
    return " ".join(map(str, session.control_vectors)) or "off"


def _add_vector(session: Session, text: str) -> None:
    """Add files to the control vectors, or change their scales."""
    if text == "off":
        session.steer_by([])
        return
    vectors = {one.vector.sha256: one for one in session.control_vectors}
    for path, scale in map(parse_vector_file, split_files(text)):
        added = ScaledVector(ControlVector.load(path.expanduser()), scale)
        vectors.pop(added.vector.sha256, None)
        vectors[added.vector.sha256] = added
    session.steer_by(list(vectors.values()))


def _constraint(name: str, parse: Callable[[str], Any], show: Callable[[Any], str]) -> Setting:
    """What answers are restricted to, in place of any other restriction; `off` removes it."""

    def change(session: Session, text: str) -> None:
        given = dict.fromkeys(_CONSTRAINTS) | {name: None if text == "off" else parse(text)}
        session.conversation.engine.constraint(**given)  # raises before anything is changed
        for one, value in given.items():
            setattr(session.conversation, one, value)

    def text_of(session: Session) -> str:
        value = getattr(session.conversation, name)
        return "off" if value is None else show(value)

    return Setting(text_of, change)


def _told(name: str) -> Setting:
    """What is said before the following turns, in place of anything that was; `off` says nothing."""

    def change(session: Session, text: str) -> None:
        given = {"task": None, "instruction": None} | {name: None if text == "off" else text}
        said_instruction(given["task"], given["instruction"], (), session.conversation.engine.tasks)
        session.conversation.task, session.conversation.instruction = given["task"], given["instruction"]

    return Setting(change=change, show=lambda session: one_line(getattr(session.conversation, name) or "off"))


def _show_choices(choices: Choices) -> str:
    return choices if isinstance(choices, str) else ", ".join(map(one_line, choices))


def _layers(text: str) -> tuple[int, int] | None:
    return None if text == "all" else parse_layers(text)


def _positions(text: str) -> Positions:
    if text not in list(Positions):
        raise UsageError(f"positions {text!r} is not one of {', '.join(Positions)}")
    return Positions(text)


def _seed(text: str) -> int | None:
    return None if text == "random" else _integer(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a number") from error


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a whole number") from error


_CONSTRAINTS = {
    "choices": _constraint("choices", parse_choices, _show_choices),
    "schema": _constraint("schema", lambda text: read_schema(Path(text).expanduser()), lambda _: "on"),
    "grammar": _constraint("grammar", lambda text: read_grammar(Path(text).expanduser()), lambda _: "on"),
}
SETTINGS = {
    "strength": _steering("strength", _number, _show_strength),
    "positions": _steering("positions", _positions, lambda session: session.conversation.steering.positions),
    "layers": _steering("layers", _layers, _show_layers),
    "gate": _steering("gate", parse_gate, lambda session: f"{session.conversation.steering.gate:g}"),
    "task": _told("task"),
    "instruction": _told("instruction"),
    "vector": Setting(_show_vectors, _add_vector),
    "temperature": _sampling("temperature", _number, "{:g}".format),
    "top_p": _sampling("top_p", _number, "{:g}".format),
    "top_k": _sampling("top_k", _integer, str),
    "seed": _sampling("seed", _seed, lambda seed: "random" if seed is None else str(seed)),
    "max_tokens": Setting(lambda session: str(session.conversation.max_tokens), _set_max_tokens),
    **_CONSTRAINTS,
    "corrections": Setting(lambda session: str(session.corrections), _set_corrections),
    "verbose": Setting(lambda session: "on" if session.verbose else "off", _set_verbose),
}
