"""Several bundles behind one model name: each request is answered as by the bundle that it fits, and says which."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from atv_local.errors import UsageError
from atv_local.generator import Bundle
from atv_serve.server import Server, ServerOptions
from atv_serve.work import check_bundle_ids
from tests import tiny
from tests.serve.clients import post
from tests.serve.listening import listening

FRUIT, BEAST, OUTSIDE = "pear 7", "a cow", "something else"


@pytest.fixture(scope="module")
def url(tiny_gguf: Path, fruits_bundle: Path, beasts_bundle: Path) -> Iterator[str]:
    bundles = {"f": fruits_bundle, "b": beasts_bundle}
    with listening(Server(tiny_gguf, bundles, ServerOptions(parallel=2), n_threads=1)) as url:
        yield url


def ask(url: str, query: str, **fields: Any) -> dict[str, Any]:
    return post(url, "chat/completions", messages=[{"role": "user", "content": query}], max_tokens=6, **fields)


def content(answer: dict[str, Any]) -> Any:
    """What does not differ between two answers that are alike."""
    choice = dict(answer["choices"][0])
    choice.pop("gate", None)
    return choice, answer["steering"]


@pytest.mark.parametrize(("query", "name"), [(FRUIT, "f"), (BEAST, "b")])
@pytest.mark.parametrize("more", [{"logprobs": True, "top_logprobs": 3}, {"choices": ["a", "b"], "n": 2}])
def test_a_request_is_answered_as_by_its_bundle_alone(url: str, query: str, name: str, more: dict[str, Any]) -> None:
    alone = ask(url, query, model=name, **more)
    for model in ({}, {"model": "auto"}, {"model": ""}, {"model": "f", "steering": {"bundle": "auto"}}):
        routed = ask(url, query, **model, **more)
        assert content(routed) == content(alone)
        gate = routed["choices"][0]["gate"]
        assert (gate["bundle"], gate["bundle_id"]) == (name, routed["steering"]["bundle_id"])
        assert gate["steered"]
    assert "bundle" not in alone["choices"][0]["gate"]


def test_what_no_gate_accepts_is_the_base_model(url: str) -> None:
    routed, base = (ask(url, OUTSIDE, model=name, logprobs=True) for name in ("auto", "base"))
    assert content(routed) == content(base)
    assert routed["steering"] is False
    assert routed["choices"][0]["gate"]["steered"] is False
    assert routed["choices"][0]["gate"]["bundle"] in ("f", "b")


def test_decisions_are_counted_by_bundle(url: str) -> None:
    def counted(bundle: str) -> float:
        name = f'atv_gated_total{{bundle="{bundle}",steered="true"}}'
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith(name))

    before = counted("f"), counted("b")
    ask(url, BEAST)
    assert (counted("f"), counted("b")) == (before[0], before[1] + 1)


def test_every_chunk_says_which_bundle_steers(url: str, beasts_bundle: Path) -> None:
    body = {"messages": [{"role": "user", "content": BEAST}], "max_tokens": 4, "stream": True}
    body["stream_options"] = {"include_usage": True}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
        chunks = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    assert len(chunks) > 3
    assert {chunk["steering"]["bundle"] for chunk in chunks} == {"b"}
    assert {chunk["steering"]["bundle_id"] for chunk in chunks} == {Bundle(beasts_bundle).id}
    assert all(chunk["steering"]["layers"] == [1, 2] for chunk in chunks)


def test_each_of_several_prompts_goes_to_its_bundle(url: str) -> None:
    together = post(url, "completions", prompt=[FRUIT, BEAST, OUTSIDE], max_tokens=6)
    alone = [post(url, "completions", prompt=one, max_tokens=6) for one in (FRUIT, BEAST, OUTSIDE)]
    assert [choice["text"] for choice in together["choices"]] == [one["choices"][0]["text"] for one in alone]
    assert [choice["gate"]["steered"] for choice in together["choices"]] == [True, True, False]
    assert [choice["gate"]["bundle"] for choice in together["choices"]][:2] == ["f", "b"]
    assert (together["steering"]["bundle"], together["steering"]["bundle_id"]) == ("auto", None)


def test_requests_at_the_same_time_do_not_mix(url: str) -> None:
    models = {FRUIT: "f", BEAST: "b", OUTSIDE: "base"}
    alone = {query: content(ask(url, query, model=model, logprobs=True)) for query, model in models.items()}
    queries = [*models] * 4
    with ThreadPoolExecutor(6) as clients:
        answers = [*clients.map(lambda query: ask(url, query, logprobs=True), queries)]
    assert [content(answer) for answer in answers] == [alone[query] for query in queries]


def test_what_a_request_sets_holds_for_all(url: str) -> None:
    for changes in ({"strength": 0.5}, {"layers": [2, 3]}, {"positions": "all"}):
        routed = ask(url, BEAST, steering=changes, logprobs=True)
        assert content(routed) == content(ask(url, BEAST, model="b", steering=changes, logprobs=True))


def test_what_is_as_in_the_list_of_models_is_each_bundles_own(url: str) -> None:
    listed = httpx.get(f"{url}/v1/models/auto").json()["steering"]
    shown = {name: listed[name] for name in ("bundle", "strength", "layers", "positions")}
    assert content(ask(url, BEAST, steering=shown)) == content(ask(url, BEAST, model="b"))


def test_the_models_are_listed(url: str) -> None:
    models = {model["id"]: model for model in httpx.get(f"{url}/v1/models").json()["data"]}
    assert list(models) == ["auto", "f", "b", "base"]
    assert models["auto"]["labels"] == ["a", "b"]
    assert (models["f"]["labels"], models["b"]["labels"]) == (["a"], ["b"])
    assert (models["auto"]["steering"]["bundle"], models["auto"]["steering"]["bundle_id"]) == ("auto", None)
    answer = ask(url, FRUIT, choices="auto")
    assert set(answer["choices"][0]["probabilities"]) == {"a", "b"}


def test_vectors_are_those_of_the_bundle(url: str) -> None:
    for query, name in ((FRUIT, "f"), (BEAST, "b")):
        routed, alone = post(url, "steering", query=query), post(url, "steering", query=query, model=name)
        assert (routed["gate"].pop("bundle"), routed["gate"].pop("bundle_id")) == (
            name,
            routed["steering"]["bundle_id"],
        )
        assert routed == alone
    routed, *each = (post(url, "embeddings", input=[FRUIT, BEAST], model=name) for name in ("auto", "f", "b"))
    assert routed["model"] == "auto"
    for place, one in enumerate(each):
        assert routed["data"][place] == one["data"][place]


def test_a_bundle_without_a_gate_answers_the_other_queries(
    tiny_gguf: Path, fruits_bundle: Path, tiny_bundle: Path
) -> None:
    server = Server(tiny_gguf, {"any": tiny_bundle, "f": fruits_bundle}, ServerOptions(parallel=1), n_threads=1)
    with listening(server) as url:
        for query, name in ((OUTSIDE, "any"), (FRUIT, "f")):
            assert content(ask(url, query, logprobs=True)) == content(ask(url, query, model=name, logprobs=True))


def test_bundles_that_cannot_be_used_together_are_served_apart(
    tiny_gguf: Path, tiny_rows: Path, tiny_vectors: np.ndarray, tiny_bundle: Path, tmp_path: Path
) -> None:
    other = tiny.write_bundle(tmp_path / "other", tiny_gguf, tiny_rows, tiny_vectors, ["fp32"])
    server = Server(tiny_gguf, {"x": tiny_bundle, "y": other}, ServerOptions(parallel=1), n_threads=1)
    with listening(server) as url:
        assert "without a gate" in server.models.unrouted
        assert [model["id"] for model in httpx.get(f"{url}/v1/models").json()["data"]] == ["x", "y", "base"]
        assert ask(url, FRUIT)["steering"]["bundle"] == "x"
        response = httpx.post(f"{url}/v1/chat/completions", json={"model": "auto", "messages": []})
        assert response.status_code in (400, 404)


def test_of_several_bundles_none_can_be_named_auto() -> None:
    check_bundle_ids(["auto"])
    with pytest.raises(UsageError, match="auto"):
        check_bundle_ids(["auto", "x"])
