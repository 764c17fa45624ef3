"""Queries outside the tasks of a bundle with a gate, over HTTP: the answer of the base model, and the decision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from atv_serve.server import Server, ServerOptions
from tests.serve.listening import listening

INSIDE, OUTSIDE = "pear 7", "something else"


@pytest.fixture(scope="module")
def gated_url(tiny_gguf: Path, gated_bundle: Path) -> Iterator[str]:
    with listening(Server(tiny_gguf, {"kinds": gated_bundle}, ServerOptions(parallel=2), n_threads=1)) as url:
        yield url


def ask(url: str, query: str, **fields: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": query}], "max_tokens": 6} | fields
    response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def test_a_query_outside_gets_the_base_answer_and_the_decision(gated_url: str) -> None:
    choice, base = ask(gated_url, OUTSIDE), ask(gated_url, OUTSIDE, steering=False)
    assert choice["message"] == base["message"]
    assert choice["gate"]["steered"] is False
    assert choice["gate"]["task"] == "kinds"
    assert "gate" not in base


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
        name = f'atv_gated_total{{steered="{steered}"}}'
        assert after[name] == before.get(name, 0) + 1
