"""The slash commands of a chat: a table of small functions. `/?` prints their docstrings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from atv_cli.chat.corrections import save_correction
from atv_cli.chat.session import Session
from atv_cli.chat.settings import SETTINGS
from atv_local.answer import check_query
from atv_local.errors import UsageError
from atv_local.text import counted, one_line, some_of


@dataclass(frozen=True)
class Command:
    """A name, the arguments it takes, and what it does with a session and the text after the name."""

    name: str
    arguments: str
    run: Callable[[Session, str], None]

    @property
    def help(self) -> str:
        """The line of `/?`."""
        return f"{f'{self.name} {self.arguments}'.strip():27} {self.run.__doc__}"


COMMANDS: dict[str, Command] = {}
"""By every name, in the order of `/?`."""


def _command(arguments: str, *names: str) -> Callable[[Callable[[Session, str], None]], Callable[[Session, str], None]]:
    def register(function: Callable[[Session, str], None]) -> Callable[[Session, str], None]:
        COMMANDS.update(dict.fromkeys(names, Command(names[0], arguments, function)))
        return function

    return register


def run_command(session: Session, line: str) -> None:
    """Run the command of a line that begins with a slash.

    Raises:
        UsageError: there is no such command, or its arguments are invalid.
        EOFError: the command ends the chat.
    """
    name, text = _split(line)
    command = COMMANDS.get(name.lower())
    if command is None:
        raise UsageError(f'{name} is not a command; /? lists them, and text between lines of """ is never a command')
    if text and not command.arguments:
        raise UsageError(f"{name} takes no arguments, not {text!r}")
    command.run(session, text)


def summary(session: Session) -> str:
    """One line on the model, the steering and what answers are restricted to."""
    steering = session.conversation.steering
    parts = [session.model]
    if len(session.bundles) > 1:
        parts.append(f"bundles {', '.join(map(one_line, session.bundles.values()))}")
    else:
        parts += [f"bundle {bundle_id}" for bundle_id in session.bundles]
    if not steering.off:
        parts += map(str, session.control_vectors)
    layers = f"layers {SETTINGS['layers'].show(session)}, {steering.positions} positions"
    parts.append("steering off" if steering.off else f"strength {steering.strength:g}, {layers}")
    if session.restriction:
        parts.append(f"{session.restriction} {SETTINGS[session.restriction].show(session)}")
    return " · ".join(parts)


@_command("[NAME VALUE]", "/set")
def _set(session: Session, text: str) -> None:
    """Show the settings, or change one for the following turns."""
    if not text:
        session.say("\n".join(f"{name:12} {setting.show(session)}" for name, setting in SETTINGS.items()))
        return
    name, value = _split(text)
    name = name.lower().replace("-", "_")
    if name not in SETTINGS:
        raise UsageError(f"{name!r} is not a setting; the settings are {', '.join(SETTINGS)}")
    if not value:
        raise UsageError(f"/set {name} needs a value; it is {SETTINGS[name].show(session)} now")
    _change(session, name, value)


@_command("[A-B|all]", "/layers")
def _layers(session: Session, text: str) -> None:
    """Show the steered layers, or steer these only."""
    _show_or_change(session, "layers", text)


def _show_or_change(session: Session, name: str, value: str) -> None:
    if value:
        _change(session, name, value)
    else:
        session.say(SETTINGS[name].show(session))


def _change(session: Session, name: str, value: str) -> None:
    SETTINGS[name].change(session, value)
    session.say(f"{name} {SETTINGS[name].show(session)}")


@_command("[auto|off|X]", "/gate")
def _gate(session: Session, text: str) -> None:
    """Show the gate and its last decision, or set the score that a turn needs to be steered."""
    if text:
        _change(session, "gate", text)
    if not session.conversation.engine.generators:
        session.say("no bundle is loaded, so there is no gate")
    elif not session.has_gate:
        session.say("the bundle has no gate, so every turn is steered")
    elif not text:
        session.say(f"gate {SETTINGS['gate'].show(session)}{_last_decision(session)}")


def _last_decision(session: Session) -> str:
    turns = session.conversation.turns
    gate = turns[-1].record.get("gate") if turns else None
    if gate is None:
        return ""
    state = "was steered" if gate["steered"] else "was not steered"
    task = repr(one_line(gate["task"]))
    if "bundle" in gate:
        task += f" of {one_line(session.bundles.get(gate['bundle'], gate['bundle']))}"
    return f"; the last turn scored {gate['score']:.2f} as {task} and {state}"


@_command("[NAME|off]", "/task")
def _task(session: Session, text: str) -> None:
    """Show the task whose instruction is before each turn, choose one, or none."""
    _show_or_change(session, "task", text)
    if not text and (known := session.conversation.engine.instructions):
        session.say(f"the bundle has {some_of([*map(one_line, known)])}")


@_command("[TEXT|off]", "/instruction")
def _instruction(session: Session, text: str) -> None:
    """Show the instruction that is before each turn, say one in words, or none."""
    _show_or_change(session, "instruction", text)


@_command("[FILE[:SCALE]|off]", "/vector")
def _vector(session: Session, text: str) -> None:
    """Show the control vectors, add one or change its scale, or use none."""
    _show_or_change(session, "vector", text)


@_command("[A,B,C|FILE|auto|off]", "/choices")
def _choices(session: Session, text: str) -> None:
    """Show the allowed answers, set them, or allow any."""
    _show_or_change(session, "choices", text)


@_command("[FILE|off]", "/schema")
def _schema(session: Session, text: str) -> None:
    """Answer with JSON under the schema of this file, or with any text."""
    _show_or_change(session, "schema", text)


@_command("[FILE|off]", "/grammar")
def _grammar(session: Session, text: str) -> None:
    """Answer with what the grammar of this file allows, or with any text."""
    _show_or_change(session, "grammar", text)


@_command("", "/off")
def _off(session: Session, _text: str) -> None:
    """Turn steering off: the base model answers the following turns."""
    session.off()
    session.say(session.state)


@_command("", "/on")
def _on(session: Session, _text: str) -> None:
    """Turn steering on again."""
    session.on()
    session.say(session.state)


@_command("[TEXT]", "/compare")
def _compare(session: Session, text: str) -> None:
    """Answer the last turn, or a text, without and with steering; the conversation does not change."""
    from atv_cli.screen import side_by_side

    if session.conversation.steering.off:
        raise UsageError("steering is off, so there is nothing to compare; /on turns it on")
    answers = session.conversation.compare(text or None)
    finished = False
    with session.stoppable(*answers.values()):
        side_by_side(answers)
        finished = True
    if not finished:
        session.say("[stopped]")


@_command("", "/show")
def _show(session: Session, _text: str) -> None:
    """Plot the norms of the vector that steered the last turn, layer by layer."""
    from atv_cli.screen import plot_norms

    last = session.conversation.last
    if last.asked is None:
        raise UsageError("the last turn was loaded from a file, which has no vectors; /regen answers it again")
    if last.asked.steering.off:
        raise UsageError("the last turn was not steered, so it has no vector; /on and /regen answer it steered")
    rows = session.conversation.engine.gated(last.asked).rows
    if rows is None:
        raise UsageError("the gate left the last turn as the base model has it; /gate off and /regen answer it steered")
    plot_norms(rows)


@_command("ANSWER", "/right")
def _right(session: Session, text: str) -> None:
    """Save what the last turn should have been answered, for atv-local train --from."""
    if not text:
        raise UsageError("/right needs the right answer, such as /right refund")
    row = save_correction(session.conversation, text, session.corrections)
    file = one_line(str(session.corrections))
    if "task" not in row:
        session.say('this turn was answered as no task; add "task": "NAME" to its row, or it is a task of its own')
    session.say(f"saved in {file}; to teach it: atv-local train --from RUN {file} -o FOLDER")


@_command('[TEXT|""]', "/system")
def _system(session: Session, text: str) -> None:
    """Show the system message, set it, or remove it."""
    conversation = session.conversation
    if not text:
        lines = (conversation.system or "there is no system message").split("\n")
        session.say("\n".join(map(one_line, lines)))
        return
    message = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if message:
        check_query(message)
    conversation.system = message or None
    session.say("the system message is set" if message else "there is no system message")


@_command("", "/regen")
def _regen(session: Session, _text: str) -> None:
    """Answer the last turn again, with the current settings."""
    session.answer(session.conversation.again())


@_command("FILE", "/save")
def _save(session: Session, text: str) -> None:
    """Write the conversation, and how each answer was steered, to a JSON file."""
    from atv_cli.chat import transcript

    path = _path("/save", text)
    replaced = transcript.save_transcript(session.conversation, path)
    session.say(f"saved {_n_turns(session)} in {path}{', replacing a conversation' if replaced else ''}")


@_command("FILE", "/load")
def _load(session: Session, text: str) -> None:
    """Continue a saved conversation."""
    from atv_cli.chat import transcript

    model = transcript.load_transcript(session.conversation, _path("/load", text))
    loaded = f"loaded {_n_turns(session)}"
    if model not in (None, session.model):
        loaded += f", answered by {one_line(str(model))[:200]}"
    session.say(loaded)


@_command("", "/clear")
def _clear(session: Session, _text: str) -> None:
    """Remove all turns; the settings and the system message stay."""
    session.conversation.clear()
    session.say("the conversation is empty")


@_command("", "/?", "/help")
def _help(session: Session, _text: str) -> None:
    """Show this help."""
    session.say("\n".join(dict.fromkeys(command.help for command in COMMANDS.values())))
    session.say('Lines between two lines of """ are one turn. Ctrl-C stops an answer, Ctrl-D ends the chat.')
    session.say(f"Settings: {', '.join(SETTINGS)}. The value default restores one of the first three.")


@_command("", "/bye", "/exit", "/quit")
def _bye(_session: Session, _text: str) -> None:
    """End the chat."""
    raise EOFError


def _split(line: str) -> tuple[str, str]:
    """The first word of a line, and the rest."""
    name, *rest = line.split(maxsplit=1)
    return name, "".join(rest).strip()


def _path(command: str, text: str) -> Path:
    if not text or "\0" in text:
        raise UsageError(f"{command} needs a file, such as {command} chat.json")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # the home of an unknown user
        raise UsageError(f"{text}: {error}") from error


def _n_turns(session: Session) -> str:
    return counted(len(session.conversation.turns), "turn")
