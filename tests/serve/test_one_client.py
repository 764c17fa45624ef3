"""What one client does, meant or not, does not stop the others."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from atv_local.answer.answer import Finish
from atv_local.target.scoring import Score
from atv_local.target.target import Target
from atv_serve.http.guard import Limits
from atv_serve.openai import ChatLogprobs, ChatRequest, ChatResponse, CompletionResponse
from atv_serve.server import Server, ServerOptions
from atv_serve.work import response_builder
from atv_serve.work.generate import Piece
from atv_serve.work.models import AppliedSteering, ServedModels
from atv_serve.work.pool import BusyError, TimeUpError
from atv_serve.work.response_builder import ResponseBuilder
from atv_serve.work.side_work import SideWork
from tests import tiny
from tests.serve.clients import HTTP, user
from tests.serve.listening import listening
from tests.serve.test_guard import connect, everything, request, wait_for

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def small(tiny_gguf: Path) -> Iterator[str]:
    options = ServerOptions(parallel=1, limits=Limits(body=1 << 21, seconds=1))
    with listening(Server(tiny_gguf, {}, options, n_threads=1)) as url:
        yield url


@pytest.mark.parametrize("unit", ["<s>", "<|im_start|>", "\U0001f600", "a"])
def test_a_long_prompt_is_refused_before_it_is_tokenised(
    small: str, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tokenised(_vocabulary: Any, data: bytes, **_: Any) -> list[int]:
        assert len(data) < 1 << 15
        return [5] * len(data)

    text = unit * ((1 << 20) // len(unit.encode()))
    monkeypatch.setattr("atv_local.target.vocabulary.Vocabulary._tokenize", tokenised)
    for path, body in (
        (CHAT, {"messages": user(text)}),
        (COMPLETIONS, {"prompt": text}),
        ("/tokenize", {"prompt": text}),
    ):
        answer = HTTP.post(f"{small}{path}", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"input": ["a", "a" * 65_537]}),
        ("/v1/steering", {"query": "a" * 65_537}),
        (CHAT, {"messages": user("a"), "steering": {"query": "a" * 65_537}}),
    ],
)
def test_a_long_query_is_refused(small: str, path: str, body: dict[str, Any]) -> None:
    answer = HTTP.post(f"{small}{path}", json=body)
    assert answer.status_code == 400
    assert "65536" in answer.json()["error"]["message"]


def test_side_work_is_bounded_in_number_and_time() -> None:
    async def scenario() -> None:
        go, side = threading.Event(), SideWork(n_waiting=1)
        running = [asyncio.create_task(side.run(go.wait, 10)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await side.run(go.wait, 10)
        running.pop().cancel()
        await asyncio.sleep(0)
        with pytest.raises(TimeUpError):
            await side.run(go.wait, 0.01)
        go.set()
        assert await asyncio.gather(*running) == [True, True]
        side.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": user("a"), "logprobs": True, "top_logprobs": 20, "n": 128}),
        (COMPLETIONS, {"prompt": [[100] * 400] * 128, "logprobs": 20, "echo": True, "max_tokens": 0}),
    ],
)
def test_too_many_log_probabilities_are_refused(small: str, path: str, body: dict[str, Any]) -> None:
    answer = HTTP.post(f"{small}{path}", json=body)
    assert answer.status_code == 400
    assert "n, max_tokens" in answer.json()["error"]["message"]


def test_an_echoed_prompt_with_scores_is_one_event(small: str) -> None:
    asked = {"prompt": "abc " * 100, "echo": True, "logprobs": 20, "max_tokens": 0}
    whole = HTTP.post(f"{small}{COMPLETIONS}", json=asked).json()["choices"][0]
    lines = HTTP.post(f"{small}{COMPLETIONS}", json=asked | {"stream": True}).text.split("\n\n")
    assert json.loads(lines[0].removeprefix("data: "))["choices"] == [whole]


def test_a_body_too_large_that_is_sent_to_its_end(small: str) -> None:
    size = 24 << 20
    for head in (request(b"", length=size), request(b"", length=size, path="/nowhere")):
        with connect(small) as link:
            link.sendall(head + b" " * size)
            link.shutdown(socket.SHUT_WR)
            found = everything(link)
        assert found.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 404 "))
        assert found.endswith(b"}")


def test_an_endless_body_where_none_is_read(small: str) -> None:
    for path in ("/", "/page/index.html", "/v1/models"):
        assert HTTP.request("GET", f"{small}{path}", content=b"{}").status_code == 400
    with connect(small) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):  # it is hung up on
            _send_for_ever(link)


def _send_for_ever(link: socket.socket) -> None:
    while True:
        link.sendall(b"1000\r\n" + b" " * 0x1000 + b"\r\n")


def test_idle_connections_do_not_keep_others_out(monkeypatch: pytest.MonkeyPatch, tiny_gguf: Path) -> None:
    monkeypatch.setattr("atv_serve.server._CONNECTIONS", 8)
    server = Server(tiny_gguf, {}, ServerOptions(parallel=1, queue=1), n_threads=1)
    halves = [b"", b"GET /hea", request(b"{", length=100), b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    with listening(server) as url:
        links = [connect(url) for _ in range(40)]
        for number, link in enumerate(links[-10:]):
            link.sendall(halves[number % len(halves)])
        assert [HTTP.get(f"{url}/health").status_code for _ in range(3)] == [200] * 3
        assert HTTP.post(f"{url}{CHAT}", json={"messages": user("a"), "max_tokens": 1}).status_code == 200
        for link in links:
            link.close()


def test_a_refused_request_is_freed_at_once(small: str) -> None:
    bodies: list[dict[str, Any]] = [{"messages": user("long " * 10_000)}, {"messages": user("a"), "model": "none"}]
    gc.collect()
    gc.disable()
    try:
        for body in bodies:
            assert HTTP.post(f"{small}{CHAT}", json=body).status_code in (400, 404)
        assert wait_for(lambda: not [thing for thing in gc.get_objects() if type(thing) is ChatRequest])
    finally:
        gc.enable()


def test_nothing_said_to_a_model_without_a_template(tmp_path: Path) -> None:
    server = Server(tiny.write_gguf(tmp_path / "base.gguf", template=""), {}, ServerOptions(parallel=1), n_threads=1)
    with listening(server) as url:
        answer = HTTP.post(f"{url}{CHAT}", json={"messages": user("")})
    assert answer.status_code == 400
    assert "empty" in answer.json()["error"]["message"]


@pytest.mark.parametrize("chat", [True, False])
def test_many_log_probabilities_are_written_one_by_one(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch, chat: bool
) -> None:
    dump, written = response_builder._json, []

    def recorded(model: BaseModel) -> str:
        written.append(dump(model))
        return written[-1]

    monkeypatch.setattr(response_builder, "_json", recorded)
    target = Target(tiny_gguf, n_threads=1)
    score = Score(70, -0.5, tuple((token, -1.0) for token in range(60, 80)))
    pieces = [
        Piece("b", (score,), finish=Finish.LENGTH if place == 49 else None, choice=choice)
        for choice in range(20)
        for place in range(50)
    ]
    builder = ResponseBuilder(ServedModels(target, {}), "base", AppliedSteering(), chat=chat)
    whole = builder.whole(pieces)
    assert max(map(len, written)) < len(whole) / 15, "no part stops other threads for as long as the whole would"
    model = ChatResponse if chat else CompletionResponse
    response = model.model_validate_json(whole)
    assert json.loads(whole) == response.as_json()
    assert len(response.choices) == 20
    logprobs = response.choices[19].logprobs
    assert logprobs is not None
    assert len(logprobs.content if isinstance(logprobs, ChatLogprobs) else logprobs.tokens) == 50
    if chat:
        chunks = list(ResponseBuilder(ServedModels(target, {}), "base", AppliedSteering(), chat=True).chunks(pieces[0]))
        assert response.choices[0].logprobs.content[0] == chunks[1].choices[0].logprobs.content[0]
