"""`atv-local chat` at a terminal: prompt, Ctrl-C, history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.chat_lines import FRUIT
from tests.cli.terminal import terminal


@pytest.fixture
def pair(pair: list[str]) -> list[str]:
    return [*pair, "-n", "6"]


def test_a_session_at_a_terminal(smollm2: Path, tmp_path: Path) -> None:
    with terminal("run", "-m", str(smollm2), "-n", "400", home=tmp_path) as there:
        assert "strength 1" in there.until(">>> ")
        there.type("I was charged for a cash withdrawal\n")
        assert "cash withdrawal charge" in there.until(r"strength 1\]")
        there.until(">>> ")
        for line in ("/off", "/clear"):
            there.type(f"{line}\n")
            there.until(">>> ")
        there.type("Tell me a very long story about the sea.\n")
        there.until(r"sea\.\r\n.{20}")
        assert "stays" in there.interrupt()
        there.type("half a line")
        there.until("half a line")
        assert "Ctrl-D" in there.interrupt()
        there.type(f"/save {tmp_path / 'chat.json'}\n")
        assert "saved 1 turn" in there.until(">>> ")
        there.type("\x04")
        assert there.process.wait(timeout=60) == 0
    answers = json.loads((tmp_path / "chat.json").read_text())["answers"]
    assert [answer["finish_reason"] for answer in answers] == ["interrupted"]
    (history,) = tmp_path.rglob("chat_history")
    assert "I was charged for a cash withdrawal\n/off\n/clear\n" in history.read_text()
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
        there.type("/ga\t\n")
        there.until("the bundle has no gate")
        there.type("/bye\n")
        assert there.process.wait(timeout=60) == 0
