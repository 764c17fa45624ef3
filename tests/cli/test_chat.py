"""`atv-local chat` as a user meets it: answers on stdout, all else on stderr, and no mistake ends it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import atv_local
from atv_cli.chat.commands import COMMANDS
from atv_cli.chat.loop import Chat
from atv_cli.main import app
from atv_cli.verbs import run
from atv_local.answer.engine import Engine
from atv_local.errors import UnstableError
from atv_local.target.vocabulary import Vocabulary
from atv_local.vectors.task_vector import TaskVector

FRUIT, BEAST = "apple 1", "dog 1"  # one is answered with a, the other with b


@pytest.fixture
def pair(tiny_gguf: Path, tiny_bundle: Path) -> list[str]:
    return ["-m", str(tiny_gguf), "-g", str(tiny_bundle), "-t", "1", "-n", "6"]


def chat(arguments: list[str], *lines: str) -> Result:
    return CliRunner().invoke(app, ["chat", *arguments], input="".join(f"{line}\n" for line in lines))


def costs(result: Result) -> list[tuple[int, int]]:
    """Tokens evaluated and kept, of each answer, as `/set verbose on` says them."""
    words = [line.split() for line in result.stderr.splitlines() if "tokens evaluated" in line]
    return [(int(line[0].lstrip("[")), int(line[3])) for line in words]


def test_a_line_is_a_turn_and_only_answers_are_on_stdout(pair: list[str], tmp_path: Path) -> None:
    result = chat(pair, FRUIT, "", "  ", f"/save {tmp_path / 'one.json'}", BEAST, f"/save {tmp_path / 'two.json'}")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "a")
    messages = json.loads((tmp_path / "two.json").read_text())["messages"]
    assert [message["content"] for message in messages if message["role"] == "user"] == [FRUIT, BEAST]
    assert result.stdout == "".join(f"{m['content']}\n" for m in messages if m["role"] == "assistant")


def test_nothing_said_is_no_error(pair: list[str]) -> None:
    assert (chat(pair).exit_code, chat(pair).output) == (0, "")


def test_the_second_turn_knows_the_first_and_its_tokens_are_kept(pair: list[str]) -> None:
    result = chat(pair, "/set verbose on", FRUIT, BEAST, "/regen", "/off", "/regen", "/set positions all", BEAST)
    (first, _), (second, kept), again, off, *_ = costs(result)
    assert kept == first - 1
    assert again == off == (1, second + kept - 1)
    assert result.stderr.count("steering off]") == 2
    on = chat(pair, "/set verbose on", "/set positions all", FRUIT, BEAST)
    assert [kept for _, kept in costs(on)] == [0, 0]


def test_clearing_and_another_system_message(pair: list[str]) -> None:
    result = chat(pair, FRUIT, "/clear", FRUIT, "/system Be kind.", "/system", '/system ""', "/system", "/clear", FRUIT)
    assert result.stdout == "a\na\na\n"
    empty = "the conversation is empty"
    none = "there is no system message"
    assert result.stderr.splitlines() == [empty, "the system message is set", "Be kind.", none, none, empty]
    given = chat([*pair, "-s", "Be kind."], "/system").stderr
    assert given == "Be kind.\n"


def test_lines_between_quotes_are_one_turn(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    quoted = ['"""', "/off", "  two", '"""', '"""one"""', '"""three', 'four"""']
    assert chat(pair, *quoted, f"/save {file}").exit_code == 0
    messages = json.loads(file.read_text())["messages"]
    assert [message["content"] for message in messages[::2]] == ["/off\n  two", "one", "three\nfour"]
    unfinished = chat(pair, '"""', FRUIT)
    assert (unfinished.exit_code, unfinished.stdout) == (2, "")
    assert "before the closing" in unfinished.stderr


@pytest.mark.parametrize(
    "block",
    [['"""', "x" * (1 << 20) + "y", "/bye", '"""'], ['"""', "/bye", "x" * (2 << 20) + '"""'],
     ['"""' + "x" * (3 << 20), "/bye", '"""'], ['"""', *["x" * (1 << 18)] * 5, "/bye", '"""']],
)  # fmt: skip
def test_a_block_that_is_too_long_is_passed_over_to_its_end(pair: list[str], block: list[str]) -> None:
    result = chat(pair, *block, FRUIT)
    assert (result.exit_code, result.stdout) == (2, "a\n")
    assert result.stderr == 'atv-local: what stands between """ is longer than 1048576 characters\n'


def test_commands_are_taken_as_they_come(pair: list[str]) -> None:
    result = chat(pair, "/set\tstrength  0.5", "/SET Top-K 3", "/Set", "/quit", FRUIT)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "strength     0.5\n" in result.stderr
    assert "top_k        3\n" in result.stderr


def test_a_terminal_gets_no_control_characters(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Vocabulary, "piece", lambda *_, **__: "\x1b[2J\u200d\t\x9bü\r\n".encode())
    engine = atv_local.load(tiny_gguf, steered=False)
    for on_terminal, said in ((True, "[2J\u200d\tü\n"), (False, "\x1b[2J\u200d\t\x9bü\r\n")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda yes=on_terminal: yes)
        conversation = atv_local.Conversation(engine, max_tokens=1)
        Chat(conversation).answer(conversation.say("hello"))
        assert capsys.readouterr().out == said
        run._print(engine, "hello", atv_local.OFF, {"max_tokens": 1}, stream=False)
        assert capsys.readouterr().out == said


def test_every_command_is_explained(pair: list[str]) -> None:
    result = chat(pair, "/?")
    assert result.stdout == ""
    assert chat(pair, "/help").stderr == result.stderr
    for command in COMMANDS.values():
        (line,) = [line for line in result.stderr.splitlines() if line.split()[0] == command.name]
        assert line.endswith(command.does.__doc__ or "?")


def test_settings_are_shown_and_changed(pair: list[str]) -> None:
    changes = {"strength": "0.5", "positions": "last", "layers": "1-2", "temperature": "0.7", "top_p": "0.5"}
    changes |= {"top_k": "3", "seed": "7", "max_tokens": "9", "verbose": "on"}
    before = dict(line.split(maxsplit=1) for line in chat(pair, "/set").stderr.splitlines())
    assert before.keys() == changes.keys()
    assert not before.items() & changes.items()
    said = chat(pair, *(f"/set {name} {value}" for name, value in changes.items()), "/set").stderr.splitlines()
    told, shown = said[: len(changes)], said[len(changes) :]
    for lines in (told, shown):
        assert dict(line.split(maxsplit=1) for line in lines) == changes
    back = chat(pair, "/layers 2", "/layers", "/layers all", "/layers", "/set top-k 0", "/set seed random", "/set")
    assert back.stderr.splitlines()[:4] == ["layers 2-2", "2-2", "layers 1-3", "1-3"]
    assert "top_k        0\nseed         random\n" in back.stderr
    steered = ("strength", "positions", "layers")
    changed = [f"/set {name} {changes[name]}" for name in steered]
    undone = chat(pair, *changed, *(f"/set {name} default" for name in steered)).stderr.splitlines()[3:]
    assert dict(line.split() for line in undone) == {name: before[name] for name in steered}


def test_settings_steer(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    lines = [FRUIT, "/set strength 0.5", "/set positions last", "/layers 1-2", FRUIT, "/off", FRUIT, "/on", FRUIT]
    result = chat(pair, *lines, f"/save {file}")
    switched = [line for line in result.stderr.splitlines() if line.startswith("steering")]
    assert switched == ["steering is off", "steering is on, strength 0.5"]
    answers = json.loads(file.read_text())["answers"]
    steered = [(answer["strength"], answer["layers"], answer["positions"]) for answer in answers]
    halved = (0.5, [1, 2], "last")
    assert steered == [(1.0, [1, 3], "decode"), halved, (0.0, None, None), halved]


@pytest.mark.parametrize(
    ("line", "words", "code"),
    [
        ("/nope", ["/nope", "/?"], 2),
        ("/etc/passwd is a file", ["/etc/passwd", '"""'], 2),
        ("/off now", ["/off", "'now'"], 2),
        ("/set strong 1", ["'strong'", "strength, positions"], 2),
        ("/set strength", ["strength", "1 now"], 2),
        ("/set strength much", ["'much'", "number"], 2),
        ("/set strength nan", ["strength", "nan"], 2),
        ("/set positions first", ["'first'", "all, last, decode"], 2),
        ("/set temperature -1", ["temperature", "-1"], 2),
        ("/set top_k 1.5", ["'1.5'", "whole number"], 2),
        ("/set max_tokens 0", ["max_tokens 0"], 2),
        ("/set verbose maybe", ["'maybe'"], 2),
        ("/layers 3-1", ["3-1"], 2),
        ("/layers 1-9", ["1-9", "1-3"], 2),
        ("/regen", ["nothing was asked"], 2),
        ("/compare", ["nothing was asked"], 2),
        ("/show", ["nothing was asked"], 2),
        ("/save", ["/save chat.json"], 2),
        ("/save chat.json", ["nothing to save"], 2),
        ("/load absent.json", ["absent.json"], 1),
        ('""""""', ["query is empty"], 2),
        ("caf\udce9", ["not UTF-8"], 2),
        ("x" * 600, ["tokens with this turn", "context 512; /clear begins anew, a larger -c holds more"], 1),
        ("x" * (1 << 20) + "y", ["longer than 1048576"], 2),
    ],
)
def test_a_mistake_is_one_sentence_and_the_chat_goes_on(
    pair: list[str], line: str, words: list[str], code: int
) -> None:
    data = f"{line}\n{FRUIT}\n".encode("utf-8", "surrogateescape")
    result = CliRunner().invoke(app, ["chat", *pair], input=data)
    assert (result.exit_code, result.stdout) == (code, "a\n")
    (said,) = result.stderr.splitlines()
    assert said.startswith("atv-local: ")
    for word in words:
        assert word in said


def test_a_turn_that_fails_is_taken_back(pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = Engine.vector

    def unstable_for_beasts(engine: Engine, query: str) -> TaskVector:
        if query == BEAST:
            raise UnstableError("the logits are no longer numbers")
        return vector(engine, query)

    monkeypatch.setattr(Engine, "vector", unstable_for_beasts)
    file = tmp_path / "chat.json"
    result = chat(pair, FRUIT, "x" * 600, BEAST, f"/save {file}", "/regen")
    assert (result.exit_code, result.stdout) == (1, "a\na\n")
    assert "no longer numbers" in result.stderr
    assert [message["content"] for message in json.loads(file.read_text())["messages"][::2]] == [FRUIT]


def test_a_full_context_says_what_to_do_and_clearing_does_it(pair: list[str]) -> None:
    result = chat([*pair, "-c", "128"], *[FRUIT] * 12, "/clear", FRUIT)
    assert result.exit_code == 1
    assert "with this turn and the context" in result.stderr
    assert "/clear" in result.stderr
    assert result.stdout.endswith("a\n")


def test_an_answer_that_reaches_its_limit_says_so(pair: list[str]) -> None:
    assert "ends after 6 tokens" in chat([*pair[:2], "--off", "-n", "6"], "what?").stderr


def test_comparing_shows_both_answers_and_changes_nothing(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    result = chat(pair, FRUIT, "/compare", "/clear", FRUIT, f"/compare {BEAST}", f"/save {file}")
    lines = result.stdout.splitlines()
    assert lines[0] == "a"
    assert lines.count("[without steering]") == lines.count("[with steering]") == 2
    assert lines[lines.index("[with steering]") + 1] == "a"
    assert len(json.loads(file.read_text())["messages"]) == 2
    assert "/on" in chat(pair, FRUIT, "/off", "/compare").stderr


def test_the_vector_of_the_last_turn_is_shown(pair: list[str]) -> None:
    def shown(*lines: str) -> list[str]:
        said = chat(pair, *lines, "/show").stderr.splitlines()
        return said[said.index("layer      norm") + 1 :]

    then = shown("/layers 2", FRUIT, "/layers all", "/set strength 3", "/off")
    rows = [line.split() for line in then]
    assert [(row[0], float(row[1]) > 0) for row in rows] == [("1", False), ("2", True), ("3", False)]
    assert shown("/layers 2", FRUIT) == then


def test_the_vector_of_a_turn_that_had_none_here_is_not_shown(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    result = chat(pair, "/off", FRUIT, "/on", "/show", f"/save {file}", f"/load {file}", "/show", "/regen", "/show")
    assert result.exit_code == 2
    assert "was not steered" in result.stderr
    assert "is from a file" in result.stderr
    assert result.stderr.count("layer      norm") == 1


def test_without_a_generator_nothing_can_be_steered(pair: list[str]) -> None:
    result = chat([*pair[:2], "--off", "-n", "6"], "hi", "/on", "/set strength 2", "/show", "/compare")
    assert result.exit_code == 2
    assert result.stderr.count("start the chat without --off") == 2
    assert "Traceback" not in result.stderr


def test_a_saved_conversation_can_be_gone_on_with(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "deep" / "chat.json"
    whole = chat(pair, "/system Be kind.", FRUIT, BEAST, f"/save {file}", "a dog")
    saved = json.loads(file.read_text())
    assert saved["messages"][0] == {"role": "system", "content": "Be kind."}
    assert len(saved["answers"]) == 2
    later = chat(pair, f"/load {file}", "a dog", f"/save {file}", "/system")
    again = json.loads(file.read_text())
    assert later.stdout == again["messages"][-1]["content"] + "\n"
    assert whole.stdout.endswith(f"\n{later.stdout}")
    notes = [line for line in later.stderr.splitlines() if not line.startswith("[ends after")]
    assert notes == ["loaded 2 turns", f"saved 3 turns in {file}, in place of what it held", "Be kind."]
    assert again["messages"][:5] == saved["messages"]
    assert again["answers"][:2] == saved["answers"]
    assert list(file.parent.iterdir()) == [file]
    file.write_text(json.dumps(saved | {"model": "other\x1b.gguf"}))
    assert chat(pair, f"/load {file}").stderr == "loaded 2 turns, answered by other�.gguf\n"


def test_what_is_no_conversation_is_neither_read_nor_overwritten(pair: list[str], tmp_path: Path) -> None:
    user, assistant = ({"role": role, "content": "hi"} for role in ("user", "assistant"))
    contents = ["mine", "{}", json.dumps({"messages": [user]}), json.dumps({"messages": [user, user]})]
    contents += [json.dumps({"messages": [user, assistant], "answers": [{}, {}]}), '{"messages": []}', "\udcff"]
    contents += [json.dumps({"messages": [user | {"content": " "}, assistant]})]
    contents += [
        json.dumps({"messages": [user, assistant], "answers": [{"a": {"b": number}}]})
        for number in (float("nan"), float("inf"))
    ]
    for content in contents:
        file = tmp_path / "file"
        file.write_text(content, errors="surrogateescape")
        result = chat(pair, FRUIT, f"/save {file}", f"/load {file}", "/regen")
        assert result.stdout == "a\na\n"
        exists, no_conversation = result.stderr.splitlines()
        assert "choose another name" in exists
        assert f"{file} is no conversation" in no_conversation
        assert file.read_text(errors="surrogateescape") == content
    nothing = {"role": "system", "content": ""}
    file.write_text(json.dumps({"messages": [nothing, user, assistant]}))  # as other programs write it
    result = chat(pair, f"/load {file}", FRUIT, "/system", f"/save {file}")
    assert result.exit_code == 0
    assert "there is no system message" in result.stderr
    os.mkfifo(tmp_path / "pipe")
    result = chat(pair, FRUIT, f"/save {tmp_path / 'pipe'}", f"/load {tmp_path / 'pipe'}")
    assert result.exit_code == 2
    assert "is not a regular file" in result.stderr
    assert chat(pair, FRUIT, f"/save {tmp_path}").exit_code == 2


# at a terminal


@dataclass
class Terminal:
    """A process whose terminal this is, and what it wrote there so far."""

    process: subprocess.Popen[bytes]
    parent: int
    seen: str = ""
    _data: bytes = field(default=b"", repr=False)

    def type(self, text: str) -> None:
        self.seen, self._data = "", b""
        os.write(self.parent, text.encode())

    def interrupt(self) -> str:
        """Type Ctrl-C until it is noticed: readline does not see one that comes just before it waits for a key."""
        while True:
            self.type("\x03")
            if self._found("stopped|leaves", seconds=5):
                return self.until(">>> ")

    def until(self, pattern: str) -> str:
        """Read until this regular expression is found; what was written since the last line typed."""
        assert self._found(pattern, seconds=120), self.seen
        return self.seen

    def _found(self, pattern: str, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.seen, re.DOTALL):
            ready, _, _ = select.select([self.parent], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return False
            try:
                part = os.read(self.parent, 4096)
            except OSError:  # as a terminal whose other end is closed
                part = b""
            assert part, self.seen
            self._data += part
            self.seen = self._data.decode(errors="replace")
        return True


@contextmanager
def terminal(*arguments: str, home: Path) -> Iterator[Terminal]:
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "100", "XDG_STATE_HOME": str(home), "HOME": str(home)}

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that ^C reaches the process

    process = subprocess.Popen(
        [sys.executable, "-m", "atv_cli", *arguments],
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
        start_new_session=True,
        preexec_fn=take_terminal,  # noqa: PLW1509  # one system call
    )
    os.close(child)
    try:
        yield Terminal(process, parent)
    finally:
        process.kill()
        process.wait()
        os.close(parent)


def test_a_session_at_a_terminal(smollm2: Path, tmp_path: Path) -> None:
    with terminal("run", "-m", str(smollm2), "-n", "400", home=tmp_path) as there:
        assert "strength 1" in there.until(">>> ")
        there.type("book me a flight to rome\n")
        assert "travel" in there.until(r"strength 1\]")
        there.until(">>> ")
        for line in ("/off", "/clear"):
            there.type(f"{line}\n")
            there.until(">>> ")
        there.type("Tell me a very long story about the sea.\n")
        there.until(r"sea\.\r\n.{20}")
        assert "what is written stays" in there.interrupt()
        there.type("half a line")
        there.until("half a line")
        assert "Ctrl-D leaves" in there.interrupt()
        there.type(f"/save {tmp_path / 'chat.json'}\n")
        assert "saved 1 turn" in there.until(">>> ")
        there.type("\x04")
        assert there.process.wait(timeout=60) == 0
    answers = json.loads((tmp_path / "chat.json").read_text())["answers"]
    assert [answer["finish_reason"] for answer in answers] == ["interrupted"]
    (history,) = tmp_path.rglob("chat_history")
    assert "book me a flight to rome\n/off\n/clear\n" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    with terminal("chat", "-m", str(smollm2), "--off", home=tmp_path) as there:
        there.until(">>> ")
        there.type("\x10\x10")  # ^P twice: the line before the last
        there.until("Tell me a very long")
        there.interrupt()
        there.type("/bye\n")
        assert there.process.wait(timeout=60) == 0


def test_a_chat_needs_neither_a_home_nor_a_terminal_for_answers(pair: list[str], tmp_path: Path) -> None:
    file = tmp_path / "nowhere"
    file.write_text("a file, where a folder would have to be")
    with terminal("chat", *pair, home=file) as there:
        there.until(">>> ")
        there.type(f"{FRUIT}\n")
        there.until(">>> ")
        there.type("/bye\n")
        assert there.process.wait(timeout=60) == 0
