"""The slash commands of a chat: a table of small functions. `/?` is made of their docstrings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from atv_cli.chat.settings import SETTINGS, steer
from atv_local.answer import check_query
from atv_local.errors import UsageError
from atv_local.text import one_line

if TYPE_CHECKING:
    from atv_cli.chat.loop import Chat


@dataclass(frozen=True)
class Command:
    """A name, what may follow it, and what it does with a chat and what followed."""

    name: str
    arguments: str
    does: Callable[[Chat, str], None]

    @property
    def help(self) -> str:
        """The line of `/?`."""
        return f"{f'{self.name} {self.arguments}'.strip():24} {self.does.__doc__}"


COMMANDS: dict[str, Command] = {}
"""By every name, in the order of `/?`."""


def _command(arguments: str, *names: str) -> Callable[[Callable[[Chat, str], None]], Callable[[Chat, str], None]]:
    def register(function: Callable[[Chat, str], None]) -> Callable[[Chat, str], None]:
        command = Command(names[0], arguments, function)
        COMMANDS.update(dict.fromkeys(names, command))
        return function

    return register


def obey(chat: Chat, line: str) -> None:
    """Do what a line that begins with a slash says.

    Raises:
        UsageError: there is no such command, or it cannot be meant so.
        EOFError: the chat shall end.
    """
    name, rest = _parted(line)
    command = COMMANDS.get(name.lower())
    if command is None:
        raise UsageError(f'{name} is no command; /? lists them, and between lines of """ it is text to answer')
    if rest and not command.arguments:
        raise UsageError(f"{name} takes nothing after it, not {rest!r}")
    command.does(chat, rest)


def summary(chat: Chat) -> str:
    """One line on what answers and what steers it."""
    engine, steering = chat.conversation.engine, chat.conversation.steering
    parts = [engine.target.path.name]
    if engine.generator:
        parts.append(f"bundle {engine.generator.bundle.id}")
    layers = f"layers {SETTINGS['layers'].shown(chat)}, {steering.positions} positions"
    parts.append("steering off" if steering.off else f"strength {steering.strength:g}, {layers}")
    return " · ".join(parts)


@_command("[NAME VALUE]", "/set")
def _set(chat: Chat, rest: str) -> None:
    """Show the settings, or change one for the turns to come."""
    if not rest:
        chat.say("\n".join(f"{name:12} {setting.shown(chat)}" for name, setting in SETTINGS.items()))
        return
    name, value = _parted(rest)
    name = name.lower().replace("-", "_")
    if name not in SETTINGS:
        raise UsageError(f"{name!r} is no setting; there are {', '.join(SETTINGS)}")
    if not value:
        raise UsageError(f"/set {name} needs a value; it is {SETTINGS[name].shown(chat)} now")
    _change(chat, name, value)


@_command("[A-B|all]", "/layers")
def _layers(chat: Chat, rest: str) -> None:
    """Show the steered layers, or steer only these."""
    if rest:
        _change(chat, "layers", rest)
    else:
        chat.say(SETTINGS["layers"].shown(chat))


def _change(chat: Chat, name: str, value: str) -> None:
    SETTINGS[name].change(chat, value)
    chat.say(f"{name} {SETTINGS[name].shown(chat)}")


@_command("", "/off")
def _off(chat: Chat, _rest: str) -> None:
    """Let the base model answer the turns to come."""
    chat.conversation.steering = replace(chat.conversation.steering, strength=0.0)
    chat.say("steering is off")


@_command("", "/on")
def _on(chat: Chat, _rest: str) -> None:
    """Steer again."""
    steer(chat, strength=chat.strength)
    chat.say(f"steering is on, strength {chat.conversation.steering.strength:g}")


@_command("[TEXT]", "/compare")
def _compare(chat: Chat, rest: str) -> None:
    """Answer the last turn, or a text, without and with steering, beside the conversation."""
    from atv_cli.screen import terminal

    _check_on(chat)
    answers = chat.conversation.compare(rest or None)
    finished = False
    with chat.stoppable(*answers.values()):
        terminal.side_by_side(answers)
        finished = True
    if not finished:
        chat.say("[stopped]")


@_command("", "/show")
def _show(chat: Chat, _rest: str) -> None:
    """Plot the norms of the vector that steered the last turn, layer by layer."""
    from atv_cli.screen import terminal

    last = chat.conversation.last
    if last.steering is None:
        raise UsageError("the last turn is from a file, which does not hold its vector; /regen answers it again")
    if last.steering.off:
        raise UsageError("the last turn was not steered, so it has no vector; /on and /regen answer it steered")
    terminal.norms(last.steering.apply(chat.conversation.engine.vector(last.query)))


@_command('[TEXT|""]', "/system")
def _system(chat: Chat, rest: str) -> None:
    """Show the system message, set it, or remove it."""
    conversation = chat.conversation
    if not rest:
        lines = (conversation.system or "there is no system message").split("\n")
        chat.say("\n".join(map(one_line, lines)))
        return
    text = rest[1:-1] if len(rest) > 1 and rest[0] == rest[-1] == '"' else rest
    if text:
        check_query(text)
    conversation.system = text or None
    chat.say("the system message is set" if text else "there is no system message")


@_command("", "/regen")
def _regen(chat: Chat, _rest: str) -> None:
    """Answer the last turn again, as the settings are now."""
    chat.answer(chat.conversation.again())


@_command("FILE", "/save")
def _save(chat: Chat, rest: str) -> None:
    """Write the conversation, and what steered each answer, as JSON."""
    from atv_cli.chat import transcript

    path = _path("/save", rest)
    replaced = transcript.save(chat.conversation, path)
    chat.say(f"saved {_count(chat)} in {path}" + ", in place of what it held" * replaced)


@_command("FILE", "/load")
def _load(chat: Chat, rest: str) -> None:
    """Go on with a saved conversation."""
    from atv_cli.chat import transcript

    model = transcript.load(chat.conversation, _path("/load", rest))
    another = model not in (None, chat.conversation.engine.target.path.name)
    chat.say(f"loaded {_count(chat)}" + f", answered by {one_line(str(model))[:200]}" * another)


@_command("", "/clear")
def _clear(chat: Chat, _rest: str) -> None:
    """Forget the conversation; settings and system message stay."""
    chat.conversation.clear()
    chat.say("the conversation is empty")


@_command("", "/?", "/help")
def _help(chat: Chat, _rest: str) -> None:
    """Say this."""
    chat.say("\n".join(dict.fromkeys(command.help for command in COMMANDS.values())))
    chat.say('Lines between two lines of """ are one turn. Ctrl-C stops an answer, Ctrl-D leaves.')
    chat.say(f"Settings: {', '.join(SETTINGS)}; of the first three, default is the bundle's.")


@_command("", "/bye", "/exit", "/quit")
def _bye(_chat: Chat, _rest: str) -> None:
    """Leave."""
    raise EOFError


def _parted(line: str) -> tuple[str, str]:
    """The first word of a line, and the rest."""
    name, *rest = line.split(maxsplit=1)
    return name, "".join(rest).strip()


def _check_on(chat: Chat) -> None:
    if chat.conversation.steering.off:
        raise UsageError("steering is off, so no vector is used; /on steers again")


def _path(name: str, text: str) -> Path:
    if not text or "\0" in text:
        raise UsageError(f"{name} needs a file, such as {name} chat.json")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~nobody-of-that-name
        raise UsageError(f"{text}: {error}") from error


def _count(chat: Chat) -> str:
    count = len(chat.conversation.turns)
    return f"{count} turn{'s' * (count != 1)}"
