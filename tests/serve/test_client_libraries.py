"""A session with each client that people use: models, a chat, a stream, a system message, JSON, steering, errors.

Whatever the client, the answers are those of the engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from atv_local.answer.engine import Engine
from atv_local.vectors.steering import OFF
from tests.serve.clients import said, user

MODELS = ["kinds", "other", "base"]
STEERING = {"steering": {"strength": 0.4}}
SYSTEM = [{"role": "system", "content": "be brief"}]
KNOWN = "there is no model 'gpt-4o'; here are kinds, other, base"
N = 12


class Label(BaseModel):
    """The answer wanted as JSON."""

    kind: Literal["fruit"]
    count: Literal[7]


LABEL = Label(kind="fruit", count=7)
SCHEMA = Label.model_json_schema()


@pytest.fixture(scope="session")
def expected(engines: dict[str, Engine]) -> Callable[..., str]:
    """The engine's answer to "hello"."""

    def answer(name: str = "kinds", strength: float | None = None, system: str | None = None) -> str:
        engine = engines["kinds"]
        steering = OFF if name == "base" else engine.steering
        steering = steering if strength is None else replace(steering, strength=strength)
        return said(engine, "hello", steering=steering, system=system, max_tokens=N)

    texts = [answer(), answer("base"), answer(strength=0.4), answer(system="be brief")]
    assert len(set(texts)) == len(texts), "these must differ for the tests to say something"
    return answer


def test_openai(client: openai.OpenAI, expected: Callable[..., str]) -> None:
    def ask(**settings: Any) -> Any:
        settings = {"model": "kinds", "messages": user("hello"), "max_completion_tokens": N} | settings
        return client.chat.completions.create(**settings)

    assert [model.id for model in client.models.list()] == MODELS
    assert ask().choices[0].message.content == expected()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True)) == expected()
    assert ask(messages=SYSTEM + user("hello")).choices[0].message.content == expected(system="be brief")
    steered = ask(extra_body=STEERING)
    assert steered.choices[0].message.content == expected(strength=0.4)
    assert steered.model_extra["steering"]["strength"] == 0.4
    parsed = client.chat.completions.parse(model="kinds", messages=user("hello"), response_format=Label)
    assert parsed.choices[0].message.parsed == LABEL
    with pytest.raises(openai.NotFoundError, match=KNOWN):
        ask(model="gpt-4o")
    without_v1 = client.with_options(base_url=str(client.base_url).removesuffix("v1/"))
    assert [model.id for model in without_v1.models.list()] == MODELS


def test_langchain(url: str, expected: Callable[..., str]) -> None:
    from langchain_openai import ChatOpenAI

    def chat(**settings: Any) -> ChatOpenAI:
        settings = {"model": "kinds", "max_tokens": N, "max_retries": 0} | settings
        return ChatOpenAI(base_url=f"{url}/v1", api_key="none", **settings)

    assert [model.id for model in chat().root_client.models.list()] == MODELS
    assert chat().invoke("hello").content == expected()
    assert "".join(str(chunk.content) for chunk in chat().stream("hello")) == expected()
    history = [("system", "be brief"), ("human", "hello")]
    assert chat().invoke(history).content == expected(system="be brief")
    assert chat(extra_body=STEERING).invoke("hello").content == expected(strength=0.4)
    structured = chat(max_tokens=None).with_structured_output(Label, method="json_schema")
    assert structured.invoke("hello") == LABEL
    with pytest.raises(openai.NotFoundError, match=KNOWN):
        chat(model="gpt-4o").invoke("hello")
    answered = chat().invoke("hello")
    assert chat().invoke([("human", "hello"), answered, ("human", "hello")]).content  # it sends its own fields back


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it fetches a file
    import litellm

    return litellm


def test_litellm(url: str, litellm: Any, expected: Callable[..., str]) -> None:
    place = {"api_base": f"{url}/v1", "api_key": "none"}

    def ask(**settings: Any) -> Any:
        settings = {"model": "openai/kinds", "messages": user("hello"), "max_tokens": N} | settings
        return litellm.completion(**place, num_retries=0, **settings)

    found = litellm.get_valid_models(check_provider_endpoint=True, custom_llm_provider="openai", **place)
    assert {model.removeprefix("openai/") for model in found} == set(MODELS)
    assert ask().choices[0].message.content == expected()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True)) == expected()
    assert ask(messages=SYSTEM + user("hello")).choices[0].message.content == expected(system="be brief")
    assert ask(extra_body=STEERING).choices[0].message.content == expected(strength=0.4)
    answer = ask(response_format=Label, max_tokens=None).choices[0].message
    assert Label.model_validate_json(answer.content) == LABEL
    with pytest.raises(litellm.NotFoundError, match=KNOWN):
        ask(model="openai/gpt-4o")
    again = ask(messages=[*user("hello"), answer, *user("hello")])  # it sends its own fields back
    assert again.choices[0].message.content


def test_instructor(client: openai.OpenAI, expected: Callable[..., str]) -> None:
    import instructor
    from instructor.core import InstructorRetryException

    wrapped = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    settings: dict[str, Any] = {"model": "kinds", "messages": user("hello"), "max_retries": 0}
    for more in ({}, {"extra_body": STEERING}, {"messages": SYSTEM + user("hello")}):
        assert wrapped.create(response_model=Label, **settings | more).model_dump() == LABEL.model_dump()
    made, answer = wrapped.create_with_completion(response_model=Label, extra_body=STEERING, **settings)
    assert made.model_dump() == LABEL.model_dump()
    assert answer.model_extra["steering"]["strength"] == 0.4
    assert [*wrapped.create_partial(response_model=Label, **settings)][-1].model_dump() == LABEL.model_dump()
    plain = wrapped.create(response_model=None, **settings | {"max_tokens": N})
    assert plain.choices[0].message.content == expected()
    assert [model.id for model in wrapped.client.models.list()] == MODELS
    with pytest.raises(InstructorRetryException, match=KNOWN):
        wrapped.create(response_model=Label, **settings | {"model": "gpt-4o"})


def test_what_cannot_call_functions_says_what_can_be_asked_for_instead(client: openai.OpenAI) -> None:
    import instructor
    from instructor.core import InstructorRetryException

    wrapped = instructor.from_openai(client)  # by functions, unless it is told
    with pytest.raises(InstructorRetryException, match="response_format"):
        wrapped.create(model="kinds", response_model=Label, messages=user("hello"), max_retries=0)


@pytest.fixture
def llm(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """The command `llm`, with the server's models in its file of models."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    from click.testing import CliRunner
    from llm.cli import cli

    entries = [
        {"model_id": f"my-{name}", "model_name": name, "api_base": f"{url}/v1", "supports_schema": True}
        for name in (*MODELS, "gpt-4o")
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(entries))  # JSON is YAML too
    return lambda *arguments: CliRunner().invoke(cli, list(arguments))


def test_llm(llm: Callable[..., Any], expected: Callable[..., str]) -> None:
    def ask(*arguments: str, model: str = "my-kinds") -> Any:
        return llm("hello", "-m", model, "--no-log", *arguments)

    limit = ("-o", "max_tokens", str(N))
    listed = llm("models", "list").stdout
    assert all(f"my-{name}" in listed for name in MODELS)
    for stream in ((), ("--no-stream",)):
        for name in ("kinds", "base"):  # it chooses steering by the model, and has no `extra_body`
            answer = ask(*limit, *stream, model=f"my-{name}")
            assert answer.exit_code == 0, answer.output
            assert answer.stdout.rstrip("\n") == expected(name).rstrip("\n")
        with_system = ask(*limit, *stream, "-s", "be brief").stdout
        assert with_system.rstrip("\n") == expected(system="be brief").rstrip("\n")
        assert Label.model_validate_json(ask(*stream, "--schema", json.dumps(SCHEMA)).stdout) == LABEL
    failed = ask(model="my-gpt-4o")
    assert failed.exit_code == 1
    assert KNOWN in failed.stderr
    assert "Traceback" not in failed.output
