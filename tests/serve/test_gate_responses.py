"""Queries outside the tasks of a bundle with a gate, over HTTP: the answer of the base model, and the decision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from atv_local.vectors import TaskVector
from atv_serve.server import Server, ServerOptions
from tests.serve.clients import post
from tests.serve.listening import listening

INSIDE, OUTSIDE = "pear 7", "something else"


@pytest.fixture(scope="module")
def gated_url(tiny_gguf: Path, gated_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    noise = tmp_path_factory.mktemp("vectors") / "noise.gguf"
    TaskVector(np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)).save(noise)
    options, vectors = ServerOptions(parallel=2), {"noise": noise}
    server = Server(tiny_gguf, {"kinds": gated_bundle}, options, control_vectors=vectors, n_threads=1)
    with listening(server) as url:
        yield url


def whole(url: str, query: str, **fields: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": query}], "max_tokens": 6} | fields
    return post(url, "chat/completions", **body)


def ask(url: str, query: str, **fields: Any) -> dict[str, Any]:
    choice: dict[str, Any] = whole(url, query, **fields)["choices"][0]
    return choice


def test_a_query_outside_gets_the_base_answer_and_the_decision(gated_url: str) -> None:
    choice, base = ask(gated_url, OUTSIDE), ask(gated_url, OUTSIDE, steering=False)
    assert choice["message"] == base["message"]
    assert choice["gate"]["steered"] is False
    assert choice["gate"]["task"] == "kinds"
    assert "gate" not in base


@pytest.mark.parametrize(
    "more",
    [
        {"logprobs": True, "top_logprobs": 3},
        {"n": 2, "temperature": 1.0, "seed": 3},
        {"choices": ["a", "b"], "n": 3, "temperature": 1.0, "seed": 3},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "boolean"}}}},
    ],
)
@pytest.mark.parametrize("positions", ["all", "last", "decode"])
def test_every_choice_is_the_base_models_and_says_so(gated_url: str, positions: str, more: dict[str, Any]) -> None:
    answer = whole(gated_url, OUTSIDE, steering={"positions": positions}, **more)
    base = whole(gated_url, OUTSIDE, steering=False, **more)
    assert answer["steering"] is False
    for choice, expected in zip(answer["choices"], base["choices"], strict=True):
        assert choice.pop("gate")["steered"] is False
        assert choice == expected
    assert whole(gated_url, INSIDE, steering={"positions": positions}, **more)["steering"]["bundle"] == "kinds"


def test_a_prompt_that_is_only_scored_comes_with_the_decision(gated_url: str) -> None:
    asked: dict[str, Any] = {"prompt": INSIDE, "echo": True, "logprobs": 2, "max_tokens": 0}
    steering = {"positions": "all", "query": OUTSIDE}
    answer, base = (post(gated_url, "completions", **asked, steering=how) for how in (steering, False))
    assert answer["choices"][0].pop("gate")["steered"] is False
    assert (answer["choices"], answer["steering"]) == (base["choices"], False)
    steered = post(gated_url, "completions", **asked, steering=steering | {"query": INSIDE})
    assert steered["choices"][0].pop("gate")["steered"] is True
    assert steered["choices"] != base["choices"]
    assert steered["steering"]["bundle"] == "kinds"


@pytest.mark.parametrize("positions", ["all", "last", "decode"])
def test_an_echoed_prompt_is_scored_as_the_base_model_does(gated_url: str, positions: str) -> None:
    asked: dict[str, Any] = {"prompt": INSIDE, "echo": True, "logprobs": 2, "max_tokens": 3}
    steering = {"positions": positions, "query": OUTSIDE}
    answer, base = (post(gated_url, "completions", **asked, steering=how) for how in (steering, False))
    assert answer["choices"][0].pop("gate")["steered"] is False
    assert answer["choices"] == base["choices"]


def test_control_vectors_steer_alone_where_the_gate_is_closed(gated_url: str) -> None:
    steering = {"control_vectors": [{"name": "noise"}], "positions": "all"}
    answer = whole(gated_url, OUTSIDE, steering=steering)
    alone = whole(gated_url, OUTSIDE, steering=steering, model="base")
    assert answer["choices"][0].pop("gate")["steered"] is False
    assert (answer["choices"], answer["steering"]) == (alone["choices"], alone["steering"])
    assert answer["choices"] != whole(gated_url, OUTSIDE, steering=False)["choices"]


def test_what_the_generator_does_not_read_is_said_though_the_gate_is_closed(gated_url: str) -> None:
    assert ask(gated_url, "something else " * 10)["generator_read"]["chars"] > 0


def test_the_vector_of_a_query_comes_with_the_decision(gated_url: str) -> None:
    for query, steered in ((INSIDE, True), (OUTSIDE, False)):
        found = post(gated_url, "steering", query=query)
        assert found["gate"] == ask(gated_url, query)["gate"]
        assert found["gate"]["steered"] is steered
        assert max(found["norms"]) > 0
    assert "gate" not in post(gated_url, "steering", query=INSIDE, steering=False)


def test_a_request_sets_the_gate(gated_url: str) -> None:
    assert ask(gated_url, INSIDE)["gate"]["steered"] is True
    assert ask(gated_url, INSIDE, steering={"gate": 1})["gate"]["steered"] is False
    forced, base = ask(gated_url, OUTSIDE, steering={"gate": "off"}), ask(gated_url, OUTSIDE, steering=False)
    assert forced["gate"]["steered"] is True
    assert forced["message"] != base["message"]


def test_a_gate_out_of_its_range_is_refused(gated_url: str) -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "steering": {"gate": 1.5}}
    response = httpx.post(f"{gated_url}/v1/chat/completions", json=body, timeout=60)
    assert response.status_code == 400
    assert "gate" in response.json()["error"]["message"]


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_the_first_event_of_a_stream_has_the_decision(gated_url: str, path: str) -> None:
    asked = {"messages": [{"role": "user", "content": INSIDE}]} if path.startswith("chat") else {"prompt": INSIDE}
    body = asked | {"max_tokens": 4, "stream": True}
    with httpx.stream("POST", f"{gated_url}/v1/{path}", json=body, timeout=60) as response:
        events = [line for line in response.iter_lines() if line.startswith("data: {")]
    assert '"gate"' in events[0]
    assert not any('"gate"' in event for event in events[1:])


def test_decisions_are_counted(gated_url: str) -> None:
    def counted() -> dict[str, float]:
        lines = httpx.get(f"{gated_url}/metrics").text.splitlines()
        return {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("atv_gated_total")}

    before = counted()
    ask(gated_url, OUTSIDE)
    ask(gated_url, INSIDE)
    after = counted()
    for steered in ("true", "false"):
        name = f'atv_gated_total{{bundle="kinds",steered="{steered}"}}'
        assert after[name] == before.get(name, 0) + 1
