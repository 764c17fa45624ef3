"""`atv-local chat` as a user meets it: answers on stdout, all else on stderr, and no mistake ends it."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import Result

import atv_local
from atv_cli.chat.loop import run_chat
from atv_cli.chat.session import Session
from atv_cli.verbs import run
from atv_local.answer import Asked, Conversation, GatedVector
from atv_local.answer.engine import Engine
from atv_local.errors import UnstableError
from atv_local.target.vocabulary import Vocabulary
from tests.cli.chat_lines import BEAST, FRUIT, chat


@pytest.fixture
def pair(pair: list[str]) -> list[str]:
    return [*pair, "-n", "6"]


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


def test_while_the_user_types_the_last_answer_is_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    conversation = Conversation(engine, max_tokens=6)

    def typed(*_: str) -> str:
        if len(conversation.turns) == 2:
            raise EOFError
        *expected, _ = conversation.prompt(BEAST).segments
        deadline = time.monotonic() + 60
        while engine.target.n_cached(expected) < sum(map(len, expected)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return BEAST

    monkeypatch.setattr("builtins.input", typed)
    run_chat(conversation)
    last = conversation.last.record["tokens"]
    assert last["evaluated"] == len(conversation.prompt(BEAST, conversation.turns[:1]).segments[-1]) + 1


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
    assert "longer than 1048576" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_terminal_gets_no_control_characters(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Vocabulary, "piece", lambda *_, **__: "\x1b[2J\u200d\t\x9bü\r\n".encode())
    engine = atv_local.load(tiny_gguf, off=True)
    for on_terminal, said in ((True, "[2J\u200d\tü\n"), (False, "\x1b[2J\u200d\t\x9bü\r\n")):
        monkeypatch.setattr(sys.stdout, "isatty", lambda yes=on_terminal: yes)
        conversation = Conversation(engine, max_tokens=1)
        Session(conversation).answer(conversation.stream("hello"))
        assert capsys.readouterr().out == said
        run._print(engine, Asked("hello", atv_local.OFF), {"max_tokens": 1}, stream=False)
        assert capsys.readouterr().out == said


def test_a_turn_that_fails_is_taken_back(pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Engine.gated_vector

    def unstable_for_beasts(engine: Engine, query: str, **how: Any) -> GatedVector:
        if query == BEAST:
            raise UnstableError("the logits are no longer numbers")
        return made(engine, query, **how)

    monkeypatch.setattr(Engine, "gated_vector", unstable_for_beasts)
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
    stderr = chat([*pair[:2], "--off", "-n", "6"], "what?").stderr
    assert re.search("6 tokens.*max_tokens", stderr)
