"""The OpenAPI description against the routes that are served and the answers that they give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.specs.openapi.checks import response_schema_conformance
from starlette.applications import Starlette
from starlette.routing import Route

from atv_serve.http.app import OPERATIONS
from atv_serve.openai.openapi import EVENTS, JSON, Operation, describe
from atv_serve.openai.responses import ErrorResponse
from atv_serve.server import Server, ServerOptions
from tests.serve.clients import HTTP
from tests.serve.listening import listening

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "apple 1"}], "max_tokens": 4}
BODIES: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        CHAT,
        CHAT | {"logprobs": True, "top_logprobs": 2, "n": 2, "steering": {"query": "cow 1", "layers": [2, 3]}},
        CHAT | {"steering": False},
        CHAT | {"choices": ["a", "b"]},
        CHAT | {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1, 2]}}}},
    ],
    "/v1/completions": [
        {"prompt": "abc"},
        {"prompt": "abc", "choices": ["a", "b"]},
        {"prompt": ["abc", "x"], "echo": True, "logprobs": 1, "max_tokens": 0},
    ],
    "/v1/embeddings": [{"input": "apple 1"}, {"input": ["a", "b"], "encoding_format": "base64"}],
    "/v1/steering": [{"query": "apple 1"}, {"query": "apple 1", "steering": False}],
    "/tokenize": [{"prompt": "apple"}],
    "/detokenize": [{"tokens": [70, 71]}],
}


@pytest.fixture(scope="module")
def server(tiny_gguf: Path, tiny_bundle: Path) -> Server:
    return Server(tiny_gguf, {"kinds": tiny_bundle}, ServerOptions(parallel=1), n_threads=1)


@pytest.fixture(scope="module")
def url(server: Server) -> Iterator[str]:
    with listening(server) as url:
        yield url


def named(path: str) -> str:
    return path.replace("{name}", "kinds")


def asked() -> Iterator[Any]:
    for operation in OPERATIONS:
        for number, body in enumerate(BODIES[operation.path] if operation.request else [None]):
            yield pytest.param(operation, body, id=f"{operation.method} {operation.path} {number}")


def test_what_is_served_is_what_is_described(server: Server) -> None:
    assert isinstance(server.app, Starlette)
    served = {
        (method, route.path.replace(":path", ""))
        for route in server.app.routes
        if isinstance(route, Route) and route.include_in_schema
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (method.upper(), path) for path, methods in describe(OPERATIONS)["paths"].items() for method in methods
    }
    assert served == described | {("GET", "/")}


def test_the_server_describes_itself_so(url: str) -> None:
    assert HTTP.get(f"{url}/openapi.json").json() == describe(OPERATIONS)


def test_every_json_answer_has_a_schema_with_properties() -> None:
    document = describe(OPERATIONS)
    for path, methods in document["paths"].items():
        for described in methods.values():
            for status, response in described["responses"].items():
                if JSON in response["content"] and path != "/openapi.json":
                    name = response["content"][JSON]["schema"]["$ref"].rpartition("/")[2]
                    assert document["components"]["schemas"][name]["properties"], (path, status)
    assert [path for path, methods in document["paths"].items() for one in methods.values()
            if EVENTS in one["responses"]["200"]["content"]] == ["/v1/chat/completions", "/v1/completions"]  # fmt: skip


@pytest.mark.parametrize(("operation", "body"), list(asked()))
def test_answers_are_those_of_the_models(url: str, operation: Operation, body: dict[str, Any] | None) -> None:
    """Read by its model and written again, an answer is the same: it has every field and no other."""
    answer = HTTP.request(operation.method, f"{url}{named(operation.path)}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    if operation.response:
        assert operation.response.model_validate_json(answer.text).as_json() == answer.json()  # type: ignore[attr-defined]
    schema: Any = schemathesis.openapi.from_dict(describe(OPERATIONS))
    case = schema[operation.path][operation.method].Case(
        path_parameters={"name": "kinds"} if "{" in operation.path else None,
        **({"body": body, "media_type": JSON} if body else {}),
    )
    case.validate_response(case.call(base_url=url), checks=[response_schema_conformance])


@pytest.mark.parametrize(("operation", "body"), [each for each in asked() if each.values[0].event])
def test_events_are_those_of_the_models(url: str, operation: Operation, body: dict[str, Any]) -> None:
    settings = {"stream": True, "stream_options": {"include_usage": True}}
    text = HTTP.post(f"{url}{operation.path}", json=body | settings, timeout=60).text
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events.pop() == "[DONE]"
    assert len(events) >= 2
    for event in events:
        assert operation.event is not None
        assert operation.event.model_validate_json(event).as_json() == json.loads(event)  # type: ignore[attr-defined]


def test_errors_are_those_of_their_model(url: str) -> None:
    for answer in (HTTP.get(f"{url}/v1/models/none"), HTTP.post(f"{url}/tokenize"), HTTP.get(f"{url}/nothing")):
        assert answer.status_code >= 400
        assert ErrorResponse.model_validate_json(answer.text).as_json() == answer.json()


def test_a_model_says_its_sizes_as_inspect_does(url: str) -> None:
    for model in HTTP.get(f"{url}/v1/models").json()["data"]:
        assert (model["n_layer"], model["steerable_layers"], model["n_ctx"]) == (4, [1, 3], 512)
