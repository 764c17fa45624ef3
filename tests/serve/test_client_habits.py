"""What clients and other local servers are used to: it is answered here too, or refused in a sentence that helps."""

from __future__ import annotations

from typing import Any

import pytest

from atv_local.answer.engine import Engine
from atv_local.vectors.steering import OFF
from tests.serve.clients import HTTP, said, user

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def answered(url: str, path: str = CHAT, **body: Any) -> Any:
    answer = HTTP.post(f"{url}{path}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]


def refused(url: str, **body: Any) -> Any:
    answer = HTTP.post(f"{url}{CHAT}", json={"messages": user("apple 1")} | body)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


def begun(text: str) -> list[Any]:
    return [*user("hello"), {"role": "assistant", "content": text}]


@pytest.mark.parametrize("model", ["base", "kinds"])
def test_a_begun_answer_goes_on(url: str, engines: dict[str, Engine], model: str) -> None:
    engine = engines["kinds"]
    steering = {} if model == "kinds" else {"steering": OFF}
    vocabulary, prompts = engine.target.vocabulary, engine.target.prompts
    prompt = prompts.conversation(begun("it is"))
    assert list(prompt.tokens) == vocabulary.tokenize(prompts.render(user("hello")) + "it is", special=True)
    expected = "".join(event.text for event in engine.stream("hello", prompt=prompt, max_tokens=9, **steering))
    assert answered(url, model=model, messages=begun("it is"), max_tokens=9)["message"]["content"] == expected
    assert engine.chat(begun("it is"), max_tokens=9, **steering).text == expected
    tokens = prompts.conversation(begun("a<|im_end|>b")).tokens
    assert vocabulary.text(tokens[-14:]).endswith("a<|im_end|>b")
    assert not any(map(vocabulary.ends, tokens[-14:])), "control tokens in a begun answer are text"


@pytest.mark.parametrize("content", ["", None, []])
def test_an_answer_that_is_begun_with_nothing(url: str, engines: dict[str, Engine], content: Any) -> None:
    answer = answered(url, messages=begun(content), max_tokens=9)
    assert answer["message"]["content"] == said(engines["kinds"], "hello", max_tokens=9)


@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
def test_without_a_users_message_something_must_say_what_steers(url: str, role: str) -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": role, "content": "name a colour"}]
    assert "steering.query" in refused(url, messages=messages)["message"]
    for more in ({"steering": {"query": "apple 1"}}, {"steering": False}, {"model": "base"}):
        answered(url, messages=messages, max_tokens=2, **more)


def test_the_users_last_words_steer_whatever_follows_them(url: str, engines: dict[str, Engine]) -> None:
    messages = [*user("apple 1"), {"role": "system", "content": "be brief"}]
    prompt = engines["kinds"].target.prompts.conversation(messages)
    expected = "".join(event.text for event in engines["kinds"].stream("apple 1", prompt=prompt, max_tokens=9))
    assert answered(url, messages=messages, max_tokens=9)["message"]["content"] == expected


def test_minus_one_is_no_limit(url: str, engines: dict[str, Engine]) -> None:
    whole = answered(url, model="base", messages=user("hello"))
    engine = engines["kinds"]
    for name in ("max_tokens", "max_completion_tokens"):
        assert answered(url, model="base", messages=user("hello"), **{name: -1}) == whole
    assert engine.answer("hello", steering=OFF, max_tokens=-1).text == whole["message"]["content"]
    (long,) = engine.answer_many(["hello"], steering=OFF, max_tokens=-1)
    assert long.tokens.generated > 256
    text = answered(url, COMPLETIONS, model="base", prompt="hello", max_tokens=-1)
    assert len(text["text"]) > len(answered(url, COMPLETIONS, model="base", prompt="hello")["text"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat/completions", {"messages": user("apple 1")}),
        ("/completions", {"prompt": "apple 1"}),
        ("/embeddings", {"input": "apple 1"}),
        ("/steering", {"query": "apple 1"}),
        ("/models", None),
        ("/models/other", None),
        ("/models/", None),
        ("//chat/completions/", {"messages": user("apple 1")}),
    ],
)
def test_paths_without_v1(url: str, path: str, body: Any) -> None:
    method = "POST" if body else "GET"
    answers = [HTTP.request(method, f"{url}{prefix}{path}", json=body) for prefix in ("", "/v1")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json().keys() == answers[1].json().keys()


@pytest.mark.parametrize("path", ["/v1/v1/chat/completions", "/api/chat", "/v1", "/v1/responses"])
def test_other_paths_say_where_the_api_is(url: str, path: str) -> None:
    answer = HTTP.post(f"{url}{path}", json={})
    assert answer.status_code == 404
    assert f"{path};" in answer.json()["error"]["message"]
    assert "/v1 " in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/openai/v1/chat/completions", "/v1/v1/chat/completions", "/v1/chat/completion"])
def test_a_path_that_is_nearly_one_of_ours(url: str, path: str) -> None:
    assert f"{path}; it is /v1/chat/completions here" in HTTP.post(f"{url}{path}", json={}).json()["error"]["message"]


def test_tokenize_takes_the_text_as_llama_cpp_does(url: str) -> None:
    tokens = [HTTP.post(f"{url}/tokenize", json={name: "a lamp"}).json() for name in ("content", "prompt")]
    assert tokens[0] == tokens[1]
    assert tokens[0]["tokens"]


@pytest.mark.parametrize(
    "fields",
    [
        {"repetition_penalty": 1.0, "repeat_penalty": 1, "typical_p": 1.0, "tfs_z": 1, "num_beams": 1},
        {"min_p": 0.0, "top_a": 0, "mirostat": 0, "mirostat_tau": 5.0, "dry_multiplier": 0, "dry_base": 1.75},
        {"top_k": -1, "top_p": 1, "seed": -1, "stop": "", "logit_bias": {}, "top_logprobs": 0, "n": 1},
        {"stop": ["", None][:1], "model": "", "tools": [], "functions": None, "response_format": {"type": "text"}},
        {"ignore_eos": False, "use_beam_search": False, "skip_special_tokens": True, "best_of": 1, "raw": False},
        {"cache_prompt": True, "id_slot": -1, "keep_alive": "5m", "session_id": "s", "whatever": None, "images": []},
        {"logit_bias": {"5": 0}, "n_predict": -1, "grammar": "", "json_schema": None, "n_keep": 0},
        {"think": False, "thinking": {"type": "disabled"}, "add_generation_prompt": True, "top_n_sigma": -1},
        {"stream_options": None, "chat_template_kwargs": {}, "extra": {}, "prefix": ""},
    ],
)
def test_fields_that_ask_for_nothing_are_accepted(url: str, fields: dict[str, Any]) -> None:
    settings = {"messages": user("hello"), "max_tokens": 5}
    assert answered(url, **settings | fields)["message"] == answered(url, **settings)["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_content": None},
        {"reasoning_content": "they greet me " * 100},
        {"id": "m1", "timestamp": 1700000000, "createdAt": "2026-01-01T00:00:00Z", "edited": False},
        {"cache_control": {"type": "ephemeral"}, "metadata": {"a": 1}},
        {"thinking": "they greet me", "reasoning": "they " * 100, "image_url": None, "files": []},
        {"images": [], "attachments": [], "tool_calls": None, "tool_call_id": None},
    ],
)
def test_fields_of_a_message_that_say_nothing_are_accepted(url: str, fields: dict[str, Any]) -> None:
    plain = answered(url, messages=user("hello"), max_tokens=5)
    message = {"role": "user", "content": "hello"} | fields
    assert answered(url, messages=[message], max_tokens=5)["message"] == plain["message"]
    part = {"type": "text", "text": "hello"} | fields
    parts = [{"role": "user", "content": [part]}]
    assert answered(url, messages=parts, max_tokens=5)["message"] == plain["message"]


@pytest.mark.parametrize(
    ("fields", "param", "remedy"),
    [
        ({"repetition_penalty": 1.1}, "repetition_penalty", "leave it out"),
        ({"min_p": 0.05}, "min_p", "leave it out"),
        ({"skip_special_tokens": False}, "skip_special_tokens", "leave it out"),
        ({"add_generation_prompt": False}, "add_generation_prompt", "leave it out"),
        ({"max_token": 0}, "max_token", "max_tokens"),
        ({"steerng": False}, "steerng", "steering"),
        ({"strength": 0}, "strength", "steering.strength"),
        ({"steering": {"strengh": 0}}, "steering.strengh", "strength"),
        ({"num_predict": 5}, "num_predict", "max_tokens"),
        ({"extra_body": {"steering": False}}, "extra_body", "request itself"),
        ({"logit_bias": {"5": -100}}, "logit_bias", "leave it out"),
        ({"guided_json": {"type": "object"}}, "guided_json", "response_format"),
        ({"stream_options": {"more": True}}, "stream_options.more", "leave it out"),
        ({"messages": [{"role": "user", "content": "a", "images": ["aGk="]}]}, "messages.0.images", "leave it out"),
        *(
            ({"messages": [{"role": "user", "content": "a", name: "b.png"}]}, f"messages.0.{name}", "leave it out")
            for name in ("image_url", "files", "file_id", "text", "Image")
        ),
        ({"messages": [{"role": "user", "content": "a", "contents": "b"}]}, "messages.0.contents", "content"),
    ],
)
def test_fields_that_ask_for_something_are_refused(url: str, fields: dict[str, Any], param: str, remedy: str) -> None:
    error = refused(url, **fields)
    assert error["param"] == param
    assert remedy in error["message"].partition(": ")[2]


def test_a_schema_beside_json_object(url: str) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [7]}}, "required": ["a"], "additionalProperties": False}
    for form in (
        {"type": "json_object", "schema": schema},
        {"type": "json_schema", "json_schema": {"schema": schema}},
    ):
        content = answered(url, messages=user("hello"), response_format=form)["message"]["content"]
        assert content.replace(" ", "") == '{"a":7}'
    refused(url, response_format={"type": "text", "schema": schema})
