"""Answers of the server that programs can use: choices, JSON schemas and grammars, and clients that ask for them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, ConfigDict

from atv_local.answer import Engine
from atv_local.target import Sampling, Target, score_options
from atv_local.vectors import OFF
from tests.serve.clients import HTTP, user


class Ticket(BaseModel):
    """What clients ask for here: every answer is finite, also one of a model that has never seen JSON."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["fruit", "beast"]
    urgent: bool


SCHEMA = Ticket.model_json_schema()
FORMAT = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": SCHEMA, "strict": True}}
GBNF = 'root ::= "yes" | "no" | "may" "be"?'


def chat(url: str, query: str = "apple 1", **fields: Any) -> Any:
    body = {"messages": user(query), "model": "kinds"} | fields
    answer = HTTP.post(f"{url}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_schema_is_followed_under_every_steering(url: str, engines: dict[str, Engine]) -> None:
    for steering in (None, False, {"bundle": "other", "strength": 3}):
        answer = chat(url, response_format=FORMAT, steering=steering, max_tokens=64)
        text = answer["choices"][0]["message"]["content"]
        Ticket.model_validate_json(text)
        engine = engines["other" if steering else "kinds"]
        how = OFF if steering is False else engine.with_control_vectors([])
        if steering:
            how = type(how)(3.0, how.layers, how.positions)
        assert text == engine.answer("apple 1", schema=SCHEMA, steering=how, max_tokens=64).text
        assert bool(answer["steering"]) == (steering is not False)


def test_any_object_is_json(url: str) -> None:
    for response_format in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "any"}}):
        answer = chat(url, response_format=response_format, max_tokens=200, temperature=1.0, seed=1)
        if answer["choices"][0]["finish_reason"] == "stop":
            assert isinstance(json.loads(answer["choices"][0]["message"]["content"]), dict)
        else:
            assert answer["choices"][0]["message"]["content"].startswith("{")
    free = chat(url, response_format={"type": "text"}, max_tokens=8)["choices"][0]["message"]
    assert free == chat(url, max_tokens=8)["choices"][0]["message"]


def test_a_stream_with_logprobs_has_the_same_answer(client: openai.OpenAI) -> None:
    settings: Any = {"model": "kinds", "messages": user("dog 1"), "response_format": FORMAT, "max_tokens": 64}
    whole = client.chat.completions.create(**settings, logprobs=True, top_logprobs=2)
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**settings, logprobs=True, stream=True)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert whole.choices[0].logprobs is not None
    tokens = [one.token for one in whole.choices[0].logprobs.content or []]
    assert "".join(tokens) == whole.choices[0].message.content
    streamed = [one.token for chunk in chunks if chunk.logprobs for one in chunk.logprobs.content or []]
    assert streamed == tokens


def test_several_answers_each_follow_a_grammar(url: str) -> None:
    hot: dict[str, Any] = {"temperature": 2, "seed": 5, "n": 8}
    texts = [choice["message"]["content"] for choice in chat(url, grammar=GBNF, **hot)["choices"]]
    assert {*texts} <= {"yes", "no", "may", "maybe"}
    assert len({*texts}) > 1
    body = {"prompt": ["a", "b"], "grammar": GBNF, "max_tokens": 8, "model": "base"}
    choices = HTTP.post(f"{url}/v1/completions", json=body).json()["choices"]
    assert {choice["text"] for choice in choices} <= {"yes", "no", "may", "maybe"}


def test_a_choice_has_probabilities(url: str, engines: dict[str, Engine]) -> None:
    names = ["a", "b", "nothing of this"]
    expected = engines["kinds"].answer("dog 1", choices=names)
    answer = chat(url, "dog 1", choices=names)
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == expected.text == "b"
    assert choice["probabilities"] == pytest.approx(expected.probabilities)
    assert answer["usage"]["completion_tokens"] == expected.tokens.generated
    off = chat(url, "dog 1", choices=names, steering=False)["choices"][0]["probabilities"]
    assert off != pytest.approx(expected.probabilities)
    several = chat(url, "dog 1", choices=names, n=5, temperature=2, seed=3)["choices"]
    sampling = Sampling(2.0, 1.0, 0, 3)
    drawn = [sampling, *(sampling.of_row(number) for number in range(1, 5))]
    assert [one["message"]["content"] for one in several] == [
        engines["kinds"].answer("dog 1", choices=names, sampling=how).text for how in drawn
    ]
    body = {"messages": user("dog 1"), "choices": names, "stream": True}
    lines = HTTP.post(f"{url}/v1/chat/completions", json=body).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines if line.startswith("data: {")]
    assert [chunk["delta"].get("content") for chunk in chunks] == ["", "b", None]
    assert [chunk.get("probabilities") for chunk in chunks] == [None, choice["probabilities"], None]
    texts = {"prompt": "dog 1", "choices": names}
    (continued,) = HTTP.post(f"{url}/v1/completions", json=texts).json()["choices"]
    assert continued["probabilities"].keys() == {*names}
    assert continued["text"] == max(names, key=continued["probabilities"].__getitem__)


def test_choices_are_evaluated_once_for_several_answers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[int] = []

    def counted(target: Target, options: list[tuple[int, ...]]) -> list[float]:
        evaluated.append(len(options))
        return score_options(target, options)

    monkeypatch.setattr("atv_local.answer.answer_stream.score_options", counted)
    names = ["a", "b", "nothing of this"]
    answer = chat(url, "dog 1", choices=names, n=6, temperature=2, seed=3)
    assert evaluated == [3]
    texts = [one["message"]["content"] for one in answer["choices"]]
    assert len({*texts}) > 1
    alone = {name: chat(url, "dog 1", choices=[name, "x"])["usage"]["completion_tokens"] for name in names}
    assert len({str(one["probabilities"]) for one in answer["choices"]}) == 1
    assert answer["usage"]["completion_tokens"] == sum(map(alone.__getitem__, texts))
    evaluated.clear()
    body = {"prompt": ["dog 1", "apple 1"], "choices": names, "n": 3}
    texts = [one["text"] for one in HTTP.post(f"{url}/v1/completions", json=body).json()["choices"]]
    assert (evaluated, len({*texts[:3]}), len({*texts[3:]})) == ([3, 3], 1, 1)


def test_the_labels_of_the_bundle_are_choices(url: str) -> None:
    models = {model["id"]: model["labels"] for model in HTTP.get(f"{url}/v1/models").json()["data"]}
    assert models["base"] == []
    if labels := models["kinds"]:
        for steering in (None, False):
            assert chat(url, choices="auto", steering=steering)["choices"][0]["probabilities"].keys() == {*labels}
        refused = HTTP.post(f"{url}/v1/chat/completions", json={"messages": user("a"), "choices": "auto:nothing"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "choices")
        (task,) = refused.json()["error"]["message"].rpartition("which are ")[2].split(", ")
        assert chat(url, choices=f"auto:{task}")["choices"][0]["probabilities"].keys() == {*labels}
    refused = HTTP.post(f"{url}/v1/chat/completions", json={"messages": user("a"), "model": "base", "choices": "auto"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "choices")


def schema(definition: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": definition}}}


def nested(depth: int) -> dict[str, Any]:
    return {"type": "array", "items": nested(depth - 1)} if depth else {"type": "null"}


PLACE = "response_format.json_schema.schema"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_object", "json_schema": {"name": "x"}}}, "response_format"),
        (schema("object"), PLACE),
        (schema({"type": "objekt"}), PLACE),
        (schema({"type": "string", "pattern": "("}), PLACE),
        (schema({"$ref": "http://127.0.0.1:1/schema.json"}), PLACE),
        (schema({"not": {"type": "string"}}), PLACE),
        (schema({"enum": ["x" * 70_000]}), PLACE),
        (schema(nested(150)), PLACE),
        ({"grammar": 'root ::= "a'}, "grammar"),
        ({"grammar": "root ::= root root | root"}, "grammar"),
        ({"grammar": "x" * 70_000}, "grammar"),
        ({"grammar": GBNF, "choices": ["a", "b"]}, "grammar"),
        ({"choices": ["a"], "response_format": {"type": "json_object"}}, "response_format"),
        ({"choices": []}, "choices"),
        ({"choices": [""]}, "choices.0"),
        ({"choices": [" "]}, "choices"),
        ({"choices": ["a", "a"]}, "choices"),
        ({"choices": ["x" * 1000]}, "choices.0"),
        ({"choices": list(map(str, range(300)))}, "choices"),
        ({"choices": ["a", "b"], "logprobs": True}, "logprobs"),
    ],
)
def test_what_cannot_be_used_names_its_field(url: str, fields: dict[str, Any], place: str) -> None:
    answer = HTTP.post(f"{url}/v1/chat/completions", json={"messages": user("a"), "max_tokens": 4} | fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", place), error
    assert len(error["message"]) <= 500


def test_the_clients_for_structured_answers(client: openai.OpenAI, url: str) -> None:
    parsed = client.chat.completions.parse(
        model="kinds", messages=user("apple 1"), response_format=Ticket, max_tokens=64
    )
    assert isinstance(parsed.choices[0].message.parsed, Ticket)
    history: list[Any] = [*user("apple 1"), parsed.choices[0].message, *user("dog 1")]
    assert client.chat.completions.parse(model="kinds", messages=history, response_format=Ticket).choices
    with client.chat.completions.stream(model="kinds", messages=user("dog 1"), response_format=Ticket) as stream:
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Ticket)
    model = ChatOpenAI(model="kinds", base_url=f"{url}/v1", api_key="none", temperature=0)  # type: ignore[arg-type]
    for strict in (None, True):
        chain = model.with_structured_output(Ticket, method="json_schema", strict=strict)
        assert isinstance(chain.invoke("apple 1"), Ticket)
    raw = model.with_structured_output(SCHEMA, method="json_schema").invoke("apple 1")
    assert Ticket.model_validate(raw)


@pytest.mark.parametrize(
    "fields",
    [
        schema({"type": "array", "items": {}, "minItems": 10**9}),
        schema({"type": "string", "pattern": "(((a{1000}){1000}){1000})"}),
        schema({"type": "string", "pattern": "(a|a)*" * 2000}),
        schema({"$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}] * 500}}, "$ref": "#/$defs/x"}),
        {"grammar": 'root ::= x+\nx ::= x | "a"{0,1000000}'},
        {"grammar": 'root ::= "" root | "a"'},
        {"choices": [f"{n:03} {'x ' * 120}" for n in range(30)]},
    ],
)
def test_hostile_ones_are_answered_or_refused(url: str, fields: dict[str, Any]) -> None:
    answer = HTTP.post(f"{url}/v1/chat/completions", json={"messages": user("a"), "max_tokens": 4} | fields)
    assert answer.status_code in (200, 400), answer.text
    assert chat(url, max_tokens=2)["choices"]


def test_answers_of_others_are_the_same_beside_slow_schemas(url: str) -> None:
    words = [f"{n:x}" * 8 for n in range(2000)]
    slow = schema({"type": "object", "properties": {f"p{n}": {"enum": words[n : n + 50]} for n in range(0, 2000, 50)}})
    alone = chat(url, max_tokens=8)["choices"]
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(chat, url, max_tokens=4, **slow) for _ in range(4)]
        assert all(chat(url, max_tokens=8)["choices"] == alone for _ in range(8))
        assert all(len(job.result()["choices"]) == 1 for job in running)
