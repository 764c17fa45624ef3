"""What `/set` shows and changes in a chat: a table of names, how each stands and what a new value does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from atv_local.errors import UsageError
from atv_local.vectors import Positions, parse_layers

if TYPE_CHECKING:
    from atv_cli.chat.loop import Chat


@dataclass(frozen=True)
class Setting:
    """How a setting stands, as text, and what changes it, by text."""

    shown: Callable[[Chat], str]
    change: Callable[[Chat, str], None]


def steer(chat: Chat, **changes: Any) -> None:
    """Change the steering of the turns to come.

    Raises:
        UsageError: this target or engine cannot be steered so.
    """
    engine = chat.conversation.engine
    if engine.generator is None and engine.static is None:
        raise UsageError("no generator is loaded, so nothing can be steered; start the chat without --off")
    steering = replace(chat.conversation.steering, **changes)
    steering.range(engine.target.n_rows)  # refuses layers that this target lacks
    chat.conversation.steering = steering
    chat.strength = steering.strength or chat.strength


def _sample(chat: Chat, **changes: Any) -> None:
    chat.conversation.sampling = replace(chat.conversation.sampling, **changes)


def _strength(chat: Chat) -> str:
    steering = chat.conversation.steering
    return f"{steering.strength:g}" + " (off)" * steering.off


def _layers(chat: Chat) -> str:
    first, last = chat.conversation.steering.range(chat.conversation.engine.target.n_rows)
    return f"{first}-{last}"


def _seed(chat: Chat) -> str:
    seed = chat.conversation.sampling.seed
    return "random" if seed is None else str(seed)


def _set_max_tokens(chat: Chat, value: str) -> None:
    count = _whole(value)
    if count < 1:
        raise UsageError(f"max_tokens {count} is below 1")
    chat.conversation.max_tokens = count


def _set_verbose(chat: Chat, value: str) -> None:
    if value not in ("on", "off"):
        raise UsageError(f"verbose {value!r} is neither on nor off")
    chat.verbose = value == "on"


def _steered(name: str, parse: Callable[[str], Any]) -> Callable[[Chat, str], None]:
    """What changes a part of the steering, or sets it back to the bundle's."""

    def change(chat: Chat, value: str) -> None:
        own = getattr(chat.conversation.engine.steering, name)
        steer(chat, **{name: own if value == "default" else parse(value)})

    return change


def _span(text: str) -> tuple[int, int] | None:
    return None if text == "all" else parse_layers(text)


def _which(text: str) -> Positions:
    if text not in list(Positions):
        raise UsageError(f"positions {text!r} is none of {', '.join(Positions)}")
    return Positions(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no number") from error


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no whole number") from error


SETTINGS = {
    "strength": Setting(_strength, _steered("strength", _number)),
    "positions": Setting(lambda chat: chat.conversation.steering.positions, _steered("positions", _which)),
    "layers": Setting(_layers, _steered("layers", _span)),
    "temperature": Setting(
        lambda chat: f"{chat.conversation.sampling.temperature:g}",
        lambda chat, value: _sample(chat, temperature=_number(value)),
    ),
    "top_p": Setting(
        lambda chat: f"{chat.conversation.sampling.top_p:g}",
        lambda chat, value: _sample(chat, top_p=_number(value)),
    ),
    "top_k": Setting(
        lambda chat: str(chat.conversation.sampling.top_k), lambda chat, value: _sample(chat, top_k=_whole(value))
    ),
    "seed": Setting(_seed, lambda chat, value: _sample(chat, seed=None if value == "random" else _whole(value))),
    "max_tokens": Setting(lambda chat: str(chat.conversation.max_tokens), _set_max_tokens),
    "verbose": Setting(lambda chat: "on" if chat.verbose else "off", _set_verbose),
}
