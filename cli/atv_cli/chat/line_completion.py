"""What Tab completes in a chat: slash commands, the settings of `/set`, and the words that a command takes."""

from __future__ import annotations

from atv_cli.chat.commands import COMMANDS
from atv_cli.chat.settings import SETTINGS


def complete_line(line: str) -> list[str]:
    """The words that can stand in place of the last word of a line; for a message a tab, as it is typed."""
    if not line.startswith("/"):
        return [f"{line.rpartition(' ')[2]}\t"]
    name, *arguments = line.split(" ")
    if not arguments:
        known: list[str] = [*COMMANDS]
    elif len(arguments) > 1:
        known = []
    elif name == "/set":
        known = [*SETTINGS]
    else:
        known = _words(name)
    last = arguments[-1] if arguments else name
    return [word for word in known if word.startswith(last)]


def _words(name: str) -> list[str]:
    """The lower-case words among the arguments of a command, such as `auto` of `[auto|off|X]`."""
    command = COMMANDS.get(name)
    return [word for word in command.arguments.strip("[]").split("|") if word.islower()] if command else []
