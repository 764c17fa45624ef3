"""Conversations with the model `atv` in llm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llm
import pytest
from llm.parts import AttachmentPart, TextPart

from atv_local import answer as answering
from atv_local.answer.engine import Engine
from atv_plugins.llm_model import Atv
from tests.plugins.llm.helpers import Ask, logged, said
from tests.tiny import TEMPLATE, write_gguf


def test_a_turn_has_the_earlier_ones_in_its_prompt_and_its_own_words_in_its_vector(
    ask: Ask, pair: list[str], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [("system", "be brief"), ("user", "apple 1")]
    before = said(engine, *turns, max_tokens=8)
    expected = before, said(engine, *turns, ("assistant", before[0]), ("user", "dog 1"), max_tokens=8)
    queries = []
    made = Engine.gated_vector

    def told(self: Engine, query: str, **how: Any) -> Any:
        queries.append(query)
        return made(self, query, **how)

    monkeypatch.setattr(Engine, "gated_vector", told)
    few = ["-o", "max_tokens", "8"]
    first = ask(*pair, *few, "-s", "be brief", "apple 1")
    second = ask("-c", *pair[2:], *few, "dog 1")
    assert (first.stdout, second.stdout) == tuple(text + "\n" for text, _ in expected)
    assert [row["input_tokens"] for row in logged(ask)] == [n_prompt for _, n_prompt in expected]
    assert queries == ["apple 1", "dog 1"]


def test_a_chat_loads_its_engine_once(ask: Ask, pair: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = answering.load

    def counted(*args: Any, **kwargs: Any) -> Engine:
        loads.append(args)
        return load(*args, **kwargs)

    monkeypatch.setattr(answering, "load", counted)
    result = ask("chat", *pair, stdin="apple 1\ndog 1\nexit\n")
    assert result.exit_code == 0, result.output
    assert [row["prompt"] for row in logged(ask)] == ["apple 1", "dog 1"]
    assert ask(*pair, "apple 1").stdout == "a\n"  # for which llm makes another model
    assert len(loads) == 1


def test_a_turn_that_had_no_answer_keeps_its_place(tmp_path: Path) -> None:
    """llm leaves an empty answer out, and templates want the roles to alternate."""
    strict = "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles') }}{% endif %}"
    template = TEMPLATE.replace("{% for m in messages %}", "{% for m in messages %}" + strict)
    path = write_gguf(tmp_path / "strict.gguf", template=template)
    messages = [llm.user("apple 1"), llm.user("dog 1")]
    asked = Atv().prompt(messages=messages, options={"model": str(path), "off": True, "max_tokens": 2})
    assert asked.usage().output


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([llm.user("apple 1"), llm.assistant("a")], "no query"),
        ([llm.Message("user", [AttachmentPart(llm.Attachment(url="x.png"))])], "has a attachment"),
        ([llm.Message("System", [TextPart("be brief")]), llm.user("apple 1")], "role 'System'"),
    ],
)
def test_a_conversation_is_text_that_ends_in_the_users(
    options: dict[str, Any], messages: list[llm.Message], words: str
) -> None:
    with pytest.raises(llm.ModelError, match=words):
        Atv().prompt(messages=messages, options=options).text()
