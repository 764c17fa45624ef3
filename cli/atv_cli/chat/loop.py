"""The chat as people see it: lines read, answers streamed to stdout, all else said on stderr.

From a pipe one line is one turn, nothing asks for it, and the exit code is that of the first error.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from io import TextIOWrapper
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from atv_cli.chat import commands
from atv_local.answer import Finish
from atv_local.errors import AtvError, PromptError, UsageError
from atv_local.text import strip_control

if TYPE_CHECKING:
    from atv_local.answer import Conversation, Event

_QUOTES = '"""'
_MAX_TEXT = 1 << 20
_ROOM = "/clear begins anew, a larger -c holds more"
_MAX_HISTORY = 1000


def chat(conversation: Conversation) -> None:
    """Hold a conversation with whoever is at stdin until they leave.

    Raises:
        UsageError: layers that the target does not have.
    """
    conversation.steering.range(conversation.engine.target.n_rows)  # now, and not at every turn
    code = Chat(conversation).run()
    if code:
        sys.exit(code)


class Chat:
    """One conversation at a terminal or a pipe: what the slash commands act on."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation: Conversation = conversation
        self.interactive = sys.stdin.isatty()
        self.verbose: bool = self.interactive and sys.stderr.isatty()
        """Whether a line after each answer says what it cost."""
        self.strength = conversation.steering.strength or conversation.engine.steering.strength or 1.0
        """What `/on` goes back to."""
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._code = 0

    def run(self) -> int:
        """Read and answer until the input ends or a command leaves; the exit code."""
        if isinstance(sys.stdin, TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # a line that is no text then costs one turn, not all
        if self.verbose:
            self.note(f"{commands.summary(self)} · /? for help, /bye to leave")
        with _history() if self.interactive and sys.stdout.isatty() else contextlib.nullcontext():
            while True:
                try:
                    self._turn(self._line(">>> "))
                except EOFError:
                    break
                except AtvError as error:
                    self._complain(error)
                except KeyboardInterrupt:
                    if not self.interactive:
                        raise
                    self.say("\n/bye or Ctrl-D leaves")
        return self._code

    def _turn(self, line: str) -> None:
        text = line.strip()
        if text.startswith(_QUOTES):
            self.answer(self.conversation.say(self._block(text)))
        elif len(line) > _MAX_TEXT:
            raise UsageError(f"a line is longer than {_MAX_TEXT} characters")
        elif text.startswith("/"):
            commands.obey(self, text)
        elif text:
            self.answer(self.conversation.say(text))

    def answer(self, events: Iterator[Event]) -> None:
        """Stream an answer of the conversation to stdout; Ctrl-C at a terminal stops it."""
        before, text, event = self.conversation.turns, "", None
        shown = strip_control if sys.stdout.isatty() else str
        try:
            with self.stoppable(events):
                for event in events:
                    text += event.text
                    print(shown(event.text), end="", flush=True)
        finally:
            answered = text or (event and event.finish)  # with nothing, as some models do
            if answered and not text.endswith("\n"):
                print(flush=True)
        if event is None or not event.finish:
            taken_back = self.conversation.turns is before
            self.say(f"[stopped; {'the turn is taken back' if taken_back else 'what is written stays'}]")
            return
        if event.finish is Finish.LENGTH:
            self.say(f"[ends after {event.generated_tokens} tokens; /set max_tokens allows more]")
        if event.finish is Finish.CONTEXT:
            n_ctx = self.conversation.engine.target.n_ctx
            self.say(f"[the context of {n_ctx} tokens is full; {_ROOM}]")
        if self.verbose:
            self.note(_cost(event, self.conversation.last.record["strength"]))

    @contextlib.contextmanager
    def stoppable(self, *answers: Iterator[Event]) -> Iterator[None]:
        """Close what is being answered in the end; at a terminal Ctrl-C ends it and not the chat."""
        try:
            yield
        except KeyboardInterrupt:
            if not self.interactive:
                raise
        finally:
            for events in answers:
                events.close()  # type: ignore[attr-defined]  # all are generators

    def say(self, text: str) -> None:
        """Say something that is no answer."""
        print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """The same, dim where the terminal can."""
        self._console.print(Text(text, style="dim"))

    def _complain(self, error: AtvError) -> None:
        said = str(error)
        if isinstance(error, PromptError):
            said = f"{said.partition(';')[0]}; {_ROOM}"
        self.say(f"atv-local: {said}")
        self._code = self._code or (0 if self.interactive else error.exit_code)

    def _block(self, first: str) -> str:
        """What stands between two lines of quotes, or on the same line as they."""
        lines = [first[len(_QUOTES) :]]
        size = len(lines[0])
        while not lines[-1].rstrip().endswith(_QUOTES):
            try:
                lines.append(self._line("... "))
            except EOFError:
                raise UsageError(f"the input ended before the closing {_QUOTES}; nothing was asked") from None
            size += 1 + len(lines[-1])
            if size > _MAX_TEXT:  # which is said when the end is found, as what comes before it is no turn
                del lines[:-1]
        if size > _MAX_TEXT:
            raise UsageError(f"what stands between {_QUOTES} is longer than {_MAX_TEXT} characters")
        return "\n".join(lines).rstrip().removesuffix(_QUOTES).strip("\n")

    def _line(self, prompt: str) -> str:
        if not self.interactive:
            return _piped_line()
        try:
            if sys.stdout.isatty():
                return input(prompt)
            print(prompt, end="", file=sys.stderr, flush=True)  # answers alone go to where stdout leads
            return input()
        except EOFError:
            self.say("")
            raise


def _piped_line() -> str:
    """A line; of one that is too long its beginning and its end, which together are too long as well."""
    line = part = sys.stdin.readline(_MAX_TEXT + 1)
    if not line:
        raise EOFError
    while part and not part.endswith("\n"):
        part = sys.stdin.readline(_MAX_TEXT)
        line = line[:_MAX_TEXT] + (line[_MAX_TEXT:] + part)[-_MAX_TEXT:]
    return line.rstrip("\n")


def _cost(event: Event, strength: float) -> str:
    kept = event.prompt_tokens - event.evaluated_tokens
    parts = [f"{event.evaluated_tokens} tokens evaluated, {kept} kept"]
    parts += [f"{event.generator_ms:.0f} ms vector"] if strength else []
    parts.append(f"{event.first_token_ms:.0f} ms to first token")
    parts.append(f"strength {strength:g}" if strength else "steering off")
    return f"[{' · '.join(parts)}]"


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
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # no place for it is no reason to fail
            readline.write_history_file(path)
