"""The server as the official `openai` client sees it, and what it adds to that API."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from atv_local.answer.engine import Engine
from atv_local.errors import BundleError, ModelError, UsageError
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator
from atv_local.names import embedded_bundle
from atv_local.target.prompt import PromptFormat
from atv_local.target.sampling import Sampling
from atv_local.target.target import Target
from atv_local.vectors.steering import OFF, Positions, Steering
from atv_serve.openai.stops import Stops
from atv_serve.server import Server, ServerOptions
from tests.serve.listening import listening

SPAM = "URGENT! You have won a 1 week FREE membership in our prize draw. Txt CLAIM to 81010"


@pytest.fixture(scope="module")
def other_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with another default strength, and so another fingerprint."""
    folder = tmp_path_factory.mktemp("other") / "other"
    shutil.copytree(tiny_bundle, folder)
    manifest = json.loads((folder / "atv.json").read_text())
    (folder / "atv.json").write_text(json.dumps(manifest | {"calibration": {"strength": 2.5, "layers": [2, 3]}}))
    return folder


@pytest.fixture(scope="module")
def url(tiny_gguf: Path, tiny_bundle: Path, other_bundle: Path) -> Iterator[str]:
    options = ServerOptions(parallel=3, queue=400, timeout=60)
    with listening(Server(tiny_gguf, {"kinds": tiny_bundle, "other": other_bundle}, options, n_threads=1)) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def engines(tiny_gguf: Path, tiny_bundle: Path, other_bundle: Path) -> dict[str, Engine]:
    target = Target(tiny_gguf, n_threads=1)
    return {
        name: Engine(target, Generator(Bundle(path)))
        for name, path in (("kinds", tiny_bundle), ("other", other_bundle))
    }


def said(engine: Engine, query: str, **settings: Any) -> str:
    return engine.answer(query, **settings).text


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_a_chat_is_answered_as_the_engine_answers(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    answer = client.chat.completions.create(model="kinds", messages=user("apple 3"))
    assert answer.choices[0].message.content == said(engines["kinds"], "apple 3") == "a"
    assert answer.choices[0].finish_reason == "stop"
    generator = engines["kinds"].generator
    assert generator is not None
    applied = {"bundle": "kinds", "bundle_id": generator.bundle.id, "strength": 1.0, "layers": [1, 3]}
    assert answer.model_extra == {
        "steering": applied | {"positions": str(generator.bundle.manifest.steering.positions)}
    }
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


def test_a_conversation_is_steered_by_its_last_words(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "cat 1"},
        {"role": "assistant", "content": "b"},
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


def test_logprobs_are_those_of_the_logits(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    answer = client.chat.completions.create(
        model="base", messages=user("hello"), max_tokens=5, logprobs=True, top_logprobs=3
    )
    target = engines["kinds"].target
    prompt = PromptFormat(target.vocabulary)("hello")
    target.prefill(*prompt.segments)
    token = prompt.tokens[-1]
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content
    assert content is not None
    assert len(content) == 5
    for said_token in content:
        logits = target.evaluate([token]).astype(np.float64)
        distribution = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        token = int(logits.argmax())
        assert bytes(said_token.bytes or []) == target.vocabulary.piece(token, special=True)
        assert said_token.logprob == pytest.approx(distribution[token], abs=1e-4)
        assert [top.logprob for top in said_token.top_logprobs] == pytest.approx(
            np.sort(distribution)[::-1][:3].tolist(), abs=1e-4
        )


def test_completions_continue_texts_and_tokens(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    vocabulary = engines["kinds"].target.vocabulary
    tokens = vocabulary.tokenize("abc", special=True)
    texts = client.completions.create(model="base", prompt=["abc", "xyz"], max_tokens=6, n=2)
    assert [choice.index for choice in texts.choices] == [0, 1, 2, 3]
    assert texts.choices[0].text == texts.choices[1].text
    given = client.completions.create(model="base", prompt=[tokens], max_tokens=6, echo=True)
    assert given.choices[0].text == vocabulary.text(tokens) + texts.choices[0].text
    chunks = client.completions.create(model="base", prompt="abc", max_tokens=6, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == texts.choices[0].text


def test_an_echo_scores_the_prompt(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    target = engines["kinds"].target
    tokens = target.vocabulary.tokenize("the cat sat on the mat and went on for long", special=True)
    answer = client.completions.create(model="kinds", prompt=tokens, max_tokens=1, logprobs=2, echo=True)
    assert (answer.model_extra or {})["steering"] is False, "what is scored must not steer"
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs is not None
    assert len(logprobs.token_logprobs) == len(tokens) + 1
    assert logprobs.token_logprobs[0] is None
    target.prefill()
    for place, token in enumerate(tokens[:-1]):
        logits = target.evaluate([token]).astype(np.float64)
        distribution = logits - np.log(np.exp(logits).sum())
        assert logprobs.token_logprobs[place + 1] == pytest.approx(distribution[tokens[place + 1]], abs=1e-3)
        top: Any = (logprobs.top_logprobs or [])[place + 1]
        assert max(top.values()) == pytest.approx(distribution.max(), abs=1e-3)
    nothing = client.completions.create(model="base", prompt="abc", max_tokens=0, echo=True)
    assert nothing.choices[0].text == "abc"


def test_a_scored_prompt_is_steered_by_named_words_only(url: str, engines: dict[str, Engine]) -> None:
    asked = {"prompt": "abcdef", "echo": True, "logprobs": 0, "max_tokens": 0, "steering": {"positions": "all"}}
    refused = httpx.post(f"{url}/v1/completions", json=asked)
    assert refused.status_code == 400
    assert "steering.query" in refused.json()["error"]["message"]
    asked["steering"] = {"positions": "all", "query": "apple 1", "strength": 3}
    steered = httpx.post(f"{url}/v1/completions", json=asked).json()["choices"][0]["logprobs"]["token_logprobs"]
    engine = engines["kinds"]
    target, tokens = engine.target, engine.target.vocabulary.tokenize("abcdef", special=True)
    target.prefill()
    target.apply(3 * engine.vector("apple 1"))
    logits = target.evaluate(tokens[:1]).astype(np.float64)
    target.clear()
    assert steered[1] == pytest.approx(logits[tokens[1]] - np.log(np.exp(logits).sum()), abs=1e-3)


def test_a_completion_in_the_chat_template_is_steered_as_the_chat(
    client: openai.OpenAI, engines: dict[str, Engine]
) -> None:
    engine = engines["kinds"]
    text = PromptFormat(engine.target.vocabulary).render(user("fig 1"))
    answer = client.completions.create(model="kinds", prompt=text, max_tokens=4)
    assert answer.choices[0].text == said(engine, "fig 1", max_tokens=4)


def test_embeddings_are_task_vectors(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    found = client.embeddings.create(model="kinds", input=["apple 1", "cow 2"])
    for given, query in zip(found.data, ("apple 1", "cow 2"), strict=True):
        np.testing.assert_allclose(given.embedding, engines["kinds"].vector(query).array.ravel(), rtol=1e-6)
    plain = client.embeddings.create(model="kinds", input="apple 1", encoding_format="float")
    np.testing.assert_allclose(plain.data[0].embedding, found.data[0].embedding)
    with pytest.raises(openai.BadRequestError, match="no bundle"):
        client.embeddings.create(model="base", input="apple 1")


def test_norms_of_what_would_steer(url: str, engines: dict[str, Engine]) -> None:
    asked = {"query": "apple 1", "steering": {"strength": 2, "layers": [2, 2]}}
    found = httpx.post(f"{url}/v1/steering", json=asked).json()
    norms = 2 * engines["kinds"].vector("apple 1").norms()
    assert found["norms"] == pytest.approx([0, norms[1], 0], rel=1e-5)
    assert found["steering"]["layers"] == [2, 2]


def test_models_and_their_names(client: openai.OpenAI, url: str) -> None:
    assert [model.id for model in client.models.list()] == ["kinds", "other", "base"]
    assert client.models.retrieve("other").id == "other"
    for call in (lambda: client.models.retrieve("nope"), lambda: client.completions.create(model="nope", prompt="a")):
        with pytest.raises(openai.NotFoundError, match="here are kinds, other, base"):
            call()
    assert httpx.post(f"{url}/v1/chat/completions", json={"messages": user("cow 1")}).json()["model"] == "kinds"


def test_tokens_there_and_back(url: str, engines: dict[str, Engine]) -> None:
    vocabulary = engines["kinds"].target.vocabulary
    text = "<|im_start|>user\nhé"
    tokens = httpx.post(f"{url}/tokenize", json={"prompt": text, "add_special_tokens": False}).json()["tokens"]
    assert tokens == vocabulary.tokenize(text, special=True, bos=False)
    assert httpx.post(f"{url}/detokenize", json={"tokens": tokens}).json()["prompt"] == vocabulary.text(tokens)
    info = httpx.get(f"{url}/tokenizer_info").json()
    assert info["eos_token"] == vocabulary.eos_text
    assert info["chat_template"] == vocabulary.chat_template


def test_metrics_count(url: str) -> None:
    def values() -> dict[str, float]:
        lines = [line for line in httpx.get(f"{url}/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    before = values()
    httpx.post(f"{url}/v1/chat/completions", json={"messages": user("cow 1"), "model": "base", "max_tokens": 3})
    after = values()
    assert after['atv_tokens_total{kind="written"}'] - before['atv_tokens_total{kind="written"}'] == 3
    assert after["atv_first_token_seconds_count"] - before["atv_first_token_seconds_count"] == 1
    assert after["process_resident_memory_bytes"] > 0


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"steering": {"strengh": 1}}, "steering"),
    ({"steering": True}, "steering: this is false, or an object"),
    ({"steering": {"strength": "1"}}, "steering"),
    ({"steering": {"strength": 1e9}}, "steering"),
    ({"steering": {"layers": [3, 2]}}, "layers` 3-2"),
    ({"steering": {"layers": [1, 9]}}, "1-3"),
    ({"steering": {"positions": "some"}}, "positions"),
    ({"steering": {"bundle": "/etc/passwd"}}, "here are kinds, other"),
    ({"steering": {"generator": "other"}}, "steering.generator: unknown field; it is called 'bundle'"),
    ({"steering": {"strength": 1}, "model": "base"}, "no bundle"),
    ({"unheard": 1}, "unheard"),
    ({"temperature": -1}, "temperature"),
    ({"n": 0}, "n:"),
    ({"max_tokens": 0}, "at least 1"),
    ({"frequency_penalty": 0.5}, "frequency_penalty: this has no effect here; leave it out"),
    ({"tools": [{}]}, "tools: this has no effect here"),
    ({"response_format": {"type": "json_object"}}, "response_format: this has no effect here"),
    ({"store": 0}, "store: this has no effect here"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "assistant", "content": "a"}]}, "the user's"),
    ({"messages": user("  ")}, "empty"),
    ({"messages": user("long " * 400)}, "context"),
]


@pytest.mark.parametrize(("change", "said_of_it"), REFUSED)
def test_what_cannot_be_meant_is_refused_in_a_sentence(url: str, change: dict[str, Any], said_of_it: str) -> None:
    answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": user("apple 1"), "stream": True} | change)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert said_of_it in error["message"]


def test_too_strong_a_vector_is_the_clients_mistake(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "logits", lambda target, _row=-1: np.full(target.vocabulary.n_tokens, np.nan))
    answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": user("apple 1")})
    assert answer.status_code == 400
    assert "lower `strength`" in answer.json()["error"]["message"]


def test_what_breaks_is_told_without_paths(
    url: str, tiny_gguf: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_target: Target, _row: int = -1) -> None:
        raise ModelError(f"{tiny_gguf.resolve()} gives no logits, nor does {tiny_bundle / 'onnx'}")

    monkeypatch.setattr(Target, "logits", broken)
    answer = httpx.post(f"{url}/v1/chat/completions", json={"messages": user("apple 1")})
    assert answer.status_code == 500
    said_of_it = answer.json()["error"]["message"]
    assert said_of_it == f"{tiny_gguf.name} gives no logits, nor does {tiny_bundle.name}/onnx"


def test_an_answer_can_be_sent_back_as_the_client_has_it(client: openai.OpenAI) -> None:
    messages = user("apple 1")
    answer = client.chat.completions.create(model="kinds", messages=messages)
    for message in (answer.choices[0].message, answer.choices[0].message.model_dump()):
        again: Any = [*messages, message, *user("cow 2")]
        assert client.chat.completions.create(model="kinds", messages=again, max_tokens=3).choices[0].finish_reason


def test_more_tokens_than_there_is_room_for_are_as_many_as_fit(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="base", messages=user("go on"), max_tokens=100_000)
    assert answer.usage is not None
    assert answer.usage.total_tokens <= 513
    assert answer.choices[0].finish_reason in ("length", "stop")


@pytest.mark.parametrize("prompt", ["aé€z", "plain words", [5, 80], [70, 0xE2 + 5, 0x82 + 5, 0xAC + 5, 71]])
def test_offsets_are_where_tokens_begin_streamed_or_not(client: openai.OpenAI, prompt: Any) -> None:
    settings: Any = {"model": "base", "prompt": prompt, "echo": True, "logprobs": 0, "max_tokens": 12, "stop": ["zz"]}
    whole = client.completions.create(**settings).choices[0]
    chunks = [chunk.choices[0] for chunk in client.completions.create(**settings, stream=True)]
    assert whole.logprobs is not None
    offsets = whole.logprobs.text_offset
    assert offsets == [at for chunk in chunks if chunk.logprobs for at in chunk.logprobs.text_offset or []]
    assert offsets is not None
    assert whole.logprobs.tokens is not None
    assert len(offsets) == len(whole.logprobs.tokens)
    assert offsets == sorted(offsets)
    for at, text in zip(offsets, whole.logprobs.tokens, strict=True):
        if text.isalpha() and text.isascii():
            assert whole.text[at : at + len(text)] == text


def test_an_echo_of_one_token_has_its_entry(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="base", prompt=[70], echo=True, logprobs=0, max_tokens=0)
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.token_logprobs == [None]


def test_names_that_are_those_of_the_target(tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("base", "second"):
        (tmp_path / f"{name}.gguf").symlink_to(tiny_gguf)
        server = Server(
            tmp_path / f"{name}.gguf",
            {"first": tiny_bundle, "second": tiny_bundle},
            ServerOptions(parallel=1),
            n_threads=1,
        )
        assert server.models.steering("base").bundle is None
        assert server.models.steering("second").bundle == "second"
        server.close()


def test_hundreds_of_mixed_requests_are_answered_as_each_alone(
    client: openai.OpenAI, engines: dict[str, Engine]
) -> None:
    rng = np.random.default_rng(0)
    words = ["apple 1", "cow 2", "go on", "say what you want", "plum 7 and a cat", "x" * 60, "fig", "hello there"]
    asked: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for number in range(300):
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
    assert len(set(expected)) > 100

    def ask(request: dict[str, Any]) -> str:
        if request["seed"] % 3:
            return client.chat.completions.create(**request).choices[0].message.content or ""
        chunks = client.chat.completions.create(**request, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(ask, [request for _, request, _ in asked]))
    assert found == expected


def test_the_embedded_pair_through_the_server(smollm2: Path) -> None:
    with listening(Server(smollm2, {"demo": embedded_bundle()}, ServerOptions(parallel=1))) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        answer = client.chat.completions.create(model="demo", messages=user(SPAM))
        assert answer.choices[0].message.content == "spam"
        base = client.chat.completions.create(model="base", messages=user(SPAM), max_tokens=8)
        assert "spam" not in (base.choices[0].message.content or "")


def test_what_cannot_be_served_is_said_at_the_start(tiny_gguf: Path, tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="made for"):
        Server(tiny_gguf, {"demo": embedded_bundle()}, ServerOptions())
    with pytest.raises(UsageError, match="cannot be named"):
        Server(tiny_gguf, {"base": tiny_bundle}, ServerOptions())
    with pytest.raises(UsageError, match="api_key"):
        ServerOptions(host="0.0.0.0")
    for seconds in (0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="timeout"):
            ServerOptions(timeout=seconds)
    with pytest.raises(UsageError, match="without spaces"):
        ServerOptions(api_key="secret ")
