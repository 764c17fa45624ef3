"""`/v1/completions`: texts and tokens continued or scored, with log-probabilities and offsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import openai
import pytest

from atv_local.answer.engine import Engine
from tests.serve.clients import HTTP, said, user


def test_logprobs_are_those_of_the_logits(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    answer = client.chat.completions.create(
        model="base", messages=user("hello"), max_tokens=5, logprobs=True, top_logprobs=3
    )
    target = engines["kinds"].target
    prompt = target.prompts("hello")
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
    refused = HTTP.post(f"{url}/v1/completions", json=asked)
    assert refused.status_code == 400
    assert "steering.query" in refused.json()["error"]["message"]
    asked["steering"] = {"positions": "all", "query": "apple 1", "strength": 3}
    steered = HTTP.post(f"{url}/v1/completions", json=asked).json()["choices"][0]["logprobs"]["token_logprobs"]
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
    text = engine.target.prompts.render(user("fig 1"))
    answer = client.completions.create(model="kinds", prompt=text, max_tokens=4)
    assert answer.choices[0].text == said(engine, "fig 1", max_tokens=4)


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
