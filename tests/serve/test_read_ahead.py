"""A conversation with a server: what the next turn reads is evaluated while nothing is asked."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from atv_local.target import TargetFile
from atv_serve.server import Server, ServerOptions
from atv_serve.work import pool
from atv_serve.work.context import Context
from atv_serve.work.generate import AnswerWork
from tests.serve.clients import HTTP, user
from tests.serve.listening import listening


def second_turn(url: str, steering: dict[str, Any], between: threading.Event | None) -> tuple[list[Any], str, int]:
    """Messages up to the second answer, its text, and how many tokens of its prompt were evaluated."""
    messages: list[Any] = user("apple 1")
    for text in ("what is this?", None):
        body = {"messages": messages, "max_tokens": 6, "steering": steering}
        reply = HTTP.post(f"{url}/v1/chat/completions", json=body).json()
        answer = reply["choices"][0]["message"]["content"]
        if text is not None:
            if between is not None:
                assert between.wait(10)
            messages = [*messages, {"role": "assistant", "content": answer}, *user(text)]
    usage = reply["usage"]
    return messages, answer, usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("steering", [{}, {"strength": 0}])
def test_only_the_new_message_is_left_to_read(
    tiny_gguf: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, parallel: int, steering: dict[str, Any]
) -> None:
    read, read_ahead = threading.Event(), AnswerWork.read_ahead

    def then_say_so(work: AnswerWork, context: Context) -> None:
        read_ahead(work, context)
        read.set()

    monkeypatch.setattr(AnswerWork, "read_ahead", then_say_so)
    server = Server(tiny_gguf, {"kinds": tiny_bundle}, ServerOptions(parallel=parallel), n_threads=1)
    with listening(server) as url:
        monkeypatch.setattr(pool, "_PAUSE", 60)
        messages, text, without = second_turn(url, steering, None)
        monkeypatch.setattr(pool, "_PAUSE", 0.01)
        HTTP.post(f"{url}/v1/chat/completions", json={"messages": user("another"), "max_tokens": 2})
        assert read.wait(10)
        read.clear()
        same_messages, same_text, ahead = second_turn(url, steering, read)
    segments = TargetFile.open(tiny_gguf).prompts.conversation(messages).segments
    assert (same_messages, same_text) == (messages, text)
    assert (without, ahead) == (sum(map(len, segments[-2:])) + 1, len(segments[-1]) + 1)


def test_a_prompt_that_is_steered_is_not_read_ahead(
    tiny_gguf: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, read_ahead, evaluated = threading.Event(), AnswerWork.read_ahead, list[int]()

    def then_say_so(work: AnswerWork, context: Context) -> None:
        before = context.target.n_evaluated
        read_ahead(work, context)
        evaluated.append(context.target.n_evaluated - before)
        read.set()

    monkeypatch.setattr(AnswerWork, "read_ahead", then_say_so)
    monkeypatch.setattr(pool, "_PAUSE", 0.01)
    begun: list[Any] = [*user("apple 1"), {"role": "assistant", "content": "a"}]
    with listening(Server(tiny_gguf, {"kinds": tiny_bundle}, ServerOptions(parallel=2), n_threads=1)) as url:
        for more in ({"steering": {"positions": "all"}}, {"n": 2}, {"messages": begun}):
            read.clear()
            body = {"messages": user("apple 1"), "max_tokens": 4, **more}
            assert HTTP.post(f"{url}/v1/chat/completions", json=body).status_code == 200
            assert read.wait(10)
    assert evaluated == [0, 0, 0]
