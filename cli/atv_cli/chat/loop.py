"""The loop of a chat: lines are read, and each is a turn or a slash command.

From a pipe one line is one turn, there is no prompt, and the exit code is that of the first error.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from io import TextIOWrapper
from types import ModuleType
from typing import TYPE_CHECKING

from atv_cli.chat.commands import run_command, summary
from atv_cli.chat.line_completion import complete_line
from atv_cli.chat.session import MORE_CONTEXT, Session
from atv_cli.error_messages import without_backticks
from atv_local.errors import AtvError, PromptError, UsageError

if TYPE_CHECKING:
    from atv_local.answer import Conversation

_QUOTES = '"""'
_MAX_TEXT = 1 << 20
_MAX_HISTORY = 1000


def run_chat(conversation: Conversation) -> None:
    """Read and answer until the input ends or a command ends the chat.

    Raises:
        UsageError: layers that the target does not have.
    """
    session, code = Session(conversation), 0
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # so that a line that is not text fails alone
    if session.verbose:
        session.note(f"{summary(session)} · /? for help, /bye to end")
    with _history() if session.interactive and sys.stdout.isatty() else contextlib.nullcontext():
        while True:
            try:
                _turn(session, _read_line(session, ">>> "))
            except EOFError:
                break
            except AtvError as error:
                _report(session, error)
                code = code or error.exit_code
            except KeyboardInterrupt:
                if not session.interactive:
                    raise
                session.say("\n/bye or Ctrl-D ends the chat")
    if code and not session.interactive:
        sys.exit(code)


def _turn(session: Session, line: str) -> None:
    text = line.strip()
    if text.startswith(_QUOTES):
        session.answer(session.conversation.stream(_read_block(session, text)))
    elif len(line) > _MAX_TEXT:
        raise UsageError(f"a line is longer than {_MAX_TEXT} characters")
    elif text.startswith("/"):
        run_command(session, text)
    elif text:
        session.answer(session.conversation.stream(text))


def _report(session: Session, error: AtvError) -> None:
    message = without_backticks(str(error))
    if isinstance(error, PromptError):
        message = f"{message.partition(';')[0]}; {MORE_CONTEXT}"
    session.say(f"atv-local: {message}")


def _read_block(session: Session, first: str) -> str:
    """The text between two lines of quotes, or between quotes on one line.

    A block that is too long is read to its end, since the lines in it are not turns.
    """
    lines = [first[len(_QUOTES) :]]
    size = len(lines[0])
    while not lines[-1].rstrip().endswith(_QUOTES):
        try:
            lines.append(_read_line(session, "... "))
        except EOFError:
            raise UsageError(f"the input ended before the closing {_QUOTES}; the text was not answered") from None
        size += 1 + len(lines[-1])
        if size > _MAX_TEXT:
            del lines[:-1]
    if size > _MAX_TEXT:
        raise UsageError(f"the text between {_QUOTES} is longer than {_MAX_TEXT} characters")
    return "\n".join(lines).rstrip().removesuffix(_QUOTES).strip("\n")


def _read_line(session: Session, prompt: str) -> str:
    if not session.interactive:
        return _read_piped_line()
    try:
        with session.conversation.reading_ahead():
            if sys.stdout.isatty():
                return input(prompt)
            print(prompt, end="", file=sys.stderr, flush=True)  # stdout is for answers only
            return input()
    except EOFError:
        session.say("")
        raise


def _read_piped_line() -> str:
    """A line; if it is too long, its beginning and its end, which together are too long as well."""
    line = part = sys.stdin.readline(_MAX_TEXT + 1)
    if not line:
        raise EOFError
    while part and not part.endswith("\n"):
        part = sys.stdin.readline(_MAX_TEXT)
        line = line[:_MAX_TEXT] + (line[_MAX_TEXT:] + part)[-_MAX_TEXT:]
    return line.rstrip("\n")


def _complete_with(readline: ModuleType) -> None:
    def complete(_word: str, index: int) -> str | None:
        found = complete_line(readline.get_line_buffer()[: readline.get_endidx()])
        return found[index] if index < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims(" ")  # the slash is part of a command
    editline = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if editline else "tab: complete")


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Line editing, and the lines of earlier chats, where Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    from platformdirs import user_state_path

    path = user_state_path("atv-local", appauthor=False) / "chat_history"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        readline.read_history_file(path)
    readline.set_history_length(_MAX_HISTORY)
    _complete_with(readline)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a chat works without it
            readline.write_history_file(path)
