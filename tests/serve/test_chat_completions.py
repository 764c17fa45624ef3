"""`/v1/chat/completions` as the official `openai` client sees it, and what steering adds to it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
import openai
import pytest

from atv_local.answer.engine import Engine
from atv_local.names import embedded_bundle
from atv_local.target.prompt import PromptFormat
from atv_local.target.sampling import Sampling
from atv_local.vectors.steering import OFF, Positions, Steering
from atv_serve.openai.stops import Stops
from atv_serve.server import Server, ServerOptions
from tests.serve.clients import said, user
from tests.serve.listening import listening

CHARGE = "I took money out of a cash machine and there was an extra charge. Why?"


def test_a_chat_is_answered_as_the_engine_answers(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    answer = client.chat.completions.create(model="kinds", messages=user("apple 3"))
    assert answer.choices[0].message.content == said(engines["kinds"], "apple 3") == "a"
    assert answer.choices[0].finish_reason == "stop"
    generator = engines["kinds"].generator
    assert generator is not None
    applied = {"bundle": "kinds", "bundle_id": generator.bundle.id, "strength": 1.0, "layers": [1, 3]}
    assert answer.model_extra == {"steering": applied | {"positions": str(generator.steering.positions)}}
    tokens = PromptFormat(engines["kinds"].target.vocabulary)("apple 3").tokens
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(tokens), 1)


def test_a_stream_is_the_same_answer_in_chunks(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    chunks = list(
        client.chat.completions.create(
            model="base", messages=user("hello"), max_tokens=12, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == said(engines["kinds"], "hello", steering=OFF, max_tokens=12)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 12
    assert {json.dumps(chunk.model_extra) for chunk in chunks} == {'{"steering": false}'}


def test_a_query_that_is_cut_is_said_in_its_choice(client: openai.OpenAI) -> None:
    long = "apple " * 80
    asked: dict[str, Any] = {"model": "kinds", "messages": user(long), "max_tokens": 2}
    (choice,) = client.chat.completions.create(**asked).choices
    read = (choice.model_extra or {})["generator_read"]
    assert 0 < read["chars"] < read["of"] == len(long)
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    assert [(chunk.model_extra or {}).get("generator_read") for chunk in chunks if chunk.finish_reason] == [read]
    assert not any((chunk.model_extra or {}).get("generator_read") for chunk in chunks if not chunk.finish_reason)
    texts = client.completions.create(model="kinds", prompt=["apple 1", long, "cow 👍"], max_tokens=2).choices
    assert [(text.model_extra or {}).get("generator_read") for text in texts] == [
        None,
        read,
        {"chars": 5, "of": 5, "unknown": 1},
    ]
    embedded = client.embeddings.create(model="kinds", input=["apple 1", long]).data
    assert [(one.model_extra or {}).get("generator_read") for one in embedded] == [None, read]
    base = client.chat.completions.create(**asked | {"model": "base"}).choices[0]
    assert "generator_read" not in (base.model_extra or {})


def test_a_conversation_is_steered_by_its_last_words(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "cat "}, {"type": "text", "text": "1"}]},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "plum 2"},
    ]
    answer = client.chat.completions.create(model="kinds", messages=messages, max_tokens=8)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == engines["kinds"].chat(messages, max_tokens=8).text


def test_what_a_request_says_of_steering_is_what_happens(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    ways: list[tuple[dict[str, Any], str, Steering]] = [
        ({"strength": 0.4}, "kinds", replace(engines["kinds"].steering, strength=0.4)),
        ({"strength": -3, "layers": [2, 3]}, "kinds", replace(engines["kinds"].steering, strength=-3, layers=(2, 3))),
        ({"positions": "all"}, "kinds", replace(engines["kinds"].steering, positions=Positions.ALL)),
        ({"positions": "last", "strength": 5}, "kinds", Steering(5, None, Positions.LAST)),
        ({"bundle": "other"}, "other", engines["other"].steering),
        ({"strength": 0}, "kinds", OFF),
    ]
    for asked, name, steering in ways:
        answer = client.chat.completions.create(
            model="kinds", messages=user("go on"), max_tokens=16, extra_body={"steering": asked}
        )
        assert answer.choices[0].message.content == said(engines[name], "go on", steering=steering, max_tokens=16), (
            asked
        )
        applied = (answer.model_extra or {})["steering"]
        if steering.off:
            assert applied is False
        else:
            assert applied["bundle"] == name
            assert applied["strength"] == steering.strength
            assert applied["layers"] == list(steering.layers or (1, 3))
            assert applied["positions"] == steering.positions
    answers = {text for _, name, how in ways if (text := said(engines[name], "go on", steering=how, max_tokens=16))}
    assert len(answers) >= 4, "these steerings must differ for the test to say something"


def test_other_words_can_steer(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    answer = client.chat.completions.create(
        model="kinds", messages=user("cow 1"), max_tokens=9, extra_body={"steering": {"query": "apple 1"}}
    )
    engine = engines["kinds"]
    expected = said(engine, "cow 1", vector=engine.vector("apple 1"), max_tokens=9)
    assert answer.choices[0].message.content == expected
    assert (answer.model_extra or {})["steering"]["query"] == "apple 1"


def test_seeds_repeat_and_several_choices_differ(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    settings: Any = {"model": "base", "messages": user("say"), "temperature": 1.5, "seed": 7, "max_tokens": 12}
    answer = client.chat.completions.create(**settings, n=4)
    texts = [choice.message.content for choice in answer.choices]
    sampling = Sampling(1.5, 1.0, 0, 7)
    assert texts[0] == said(engines["kinds"], "say", steering=OFF, sampling=sampling, max_tokens=12)
    assert len(set(texts)) == 4
    assert [choice.message.content for choice in client.chat.completions.create(**settings, n=4).choices] == texts
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(PromptFormat(engines["kinds"].target.vocabulary)("say").tokens)


def test_stops_end_an_answer_before_they_are_said(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    whole = said(engines["kinds"], "hello", steering=OFF, max_tokens=30)
    stop = whole[5:8]
    settings: Any = {"model": "base", "messages": user("hello"), "max_tokens": 30, "stop": [stop, "never said"]}
    answer = client.chat.completions.create(**settings).choices[0]
    assert answer.message.content == whole[: whole.index(stop)]
    assert answer.finish_reason == "stop"
    chunks = list(client.chat.completions.create(**settings, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == answer.message.content


def test_stops_hold_back_only_what_may_become_one() -> None:
    stops = Stops(["abc", "xy"])
    assert [stops.feed(text) for text in ("1ab", "a", "b", "d", "x")] == ["1", "ab", "", "abd", ""]
    assert stops.rest() == "x"
    assert (stops.feed("2ab"), stops.feed("c3"), stops.feed("4"), stops.met) == ("2", "", "", True)


def test_an_answer_can_be_sent_back_as_the_client_has_it(client: openai.OpenAI) -> None:
    messages = user("apple 1")
    answer = client.chat.completions.create(model="kinds", messages=messages)
    for message in (answer.choices[0].message, answer.choices[0].message.model_dump()):
        again: Any = [*messages, message, *user("cow 2")]
        assert client.chat.completions.create(model="kinds", messages=again, max_tokens=3).choices[0].finish_reason


def test_many_mixed_requests_are_answered_as_each_alone(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    rng = np.random.default_rng(0)
    words = ["apple 1", "cow 2", "go on", "say what you want", "plum 7 and a cat", "x" * 60, "fig", "hello there"]
    asked: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for number in range(120):
        name = ("kinds", "other")[int(rng.integers(2))]
        off = rng.random() < 0.25
        query, strength = str(rng.choice(words)), float(rng.choice([-2.0, 0.3, 0.7, 1.0, 3.0]))
        positions = Positions(str(rng.choice([*Positions])))
        sampled = rng.random() < 0.5
        steering = OFF if off else Steering(strength, engines[name].steering.layers, positions)
        request: dict[str, Any] = {
            "messages": user(query),
            "model": name,
            "max_tokens": int(rng.integers(1, 24)),
            "temperature": 1.2 if sampled else 0.0,
            "seed": number,
            "extra_body": {"steering": False if off else {"strength": strength, "positions": positions}},
        }
        sampling = Sampling(1.2, 1.0, 0, number) if sampled else Sampling()
        lone = {"steering": steering, "sampling": sampling, "max_tokens": request["max_tokens"]}
        asked.append((name, request, {"query": query} | lone))
    expected = [said(engines[name], **lone) for name, _, lone in asked]
    assert len(set(expected)) > 50

    def ask(request: dict[str, Any]) -> str:
        if request["seed"] % 3:
            return client.chat.completions.create(**request).choices[0].message.content or ""
        chunks = client.chat.completions.create(**request, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(ask, [request for _, request, _ in asked]))
    assert found == expected


def test_a_target_that_cannot_evaluate_together_is_served_one_request_after_the_other(
    tiny_gguf: Path, tiny_bundle: Path, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lib, "llama_model_is_recurrent", lambda _: True)
    served = Server(tiny_gguf, {"kinds": tiny_bundle}, ServerOptions(parallel=2), n_threads=1)
    assert "requests are evaluated one after the other" in caplog.text
    requests = [{"model": "kinds", "messages": user(query), "max_tokens": 8} for query in ("apple 1", "cow 2", "fig")]
    together = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    with listening(served) as other, ThreadPoolExecutor(3) as threads:
        client = openai.OpenAI(base_url=f"{other}/v1", api_key="none")
        found = [*threads.map(lambda request: client.chat.completions.create(**request), requests)]
    for answer, request in zip(found, requests, strict=True):
        assert answer.choices[0].message == together.chat.completions.create(**request).choices[0].message


def test_the_embedded_pair_through_the_server(smollm2: Path) -> None:
    with listening(Server(smollm2, {"demo": embedded_bundle()}, ServerOptions(parallel=1))) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        answer = client.chat.completions.create(model="demo", messages=user(CHARGE))
        assert answer.choices[0].message.content == "cash withdrawal charge"
        base = client.chat.completions.create(model="base", messages=user(CHARGE), max_tokens=8)
        assert "cash withdrawal charge" not in (base.choices[0].message.content or "")
