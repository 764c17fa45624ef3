"""`steering.task` and `steering.instruction`: what a message asks, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from atv_local.answer import Engine
from atv_local.data import tell
from atv_local.generator import Generator
from atv_local.target import Target
from atv_serve.server import Server, ServerOptions
from tests.serve.clients import post
from tests.serve.listening import listening
from tests.tiny import write_told

SORT, NAME = "Sort the word.", "Name the kind."
INSIDE, OUTSIDE = "pear 7", "something else"


@pytest.fixture(scope="module")
def told_url(tiny_gguf: Path, told_bundle: Path, only_told_bundle: Path) -> Iterator[str]:
    bundles = {"two": told_bundle, "one": only_told_bundle}
    with listening(Server(tiny_gguf, bundles, ServerOptions(parallel=2), n_threads=1)) as url:
        yield url


@pytest.fixture(scope="module")
def engine(tiny_gguf: Path, told_bundle: Path) -> Iterator[Engine]:
    with Engine(Target(tiny_gguf, n_threads=1), Generator(told_bundle, tried=True)) as engine:
        yield engine


def ask(url: str, query: str, **fields: Any) -> dict[str, Any]:
    return post(url, "chat/completions", messages=[{"role": "user", "content": query}], max_tokens=6, **fields)


def text(answer: dict[str, Any]) -> str:
    written: str = answer["choices"][0]["message"]["content"]
    return written


@pytest.mark.parametrize("query", [INSIDE, OUTSIDE])
def test_a_task_by_its_name_or_in_words(told_url: str, engine: Engine, query: str) -> None:
    named = ask(told_url, query, steering={"task": "name"})
    said = ask(told_url, query, steering={"instruction": NAME})
    wanted = engine.answer(query, task="name", max_tokens=6)
    assert text(named) == text(said) == wanted.text
    assert named["usage"]["prompt_tokens"] == wanted.tokens.prompt
    assert named["steering"]["instruction"] == NAME


def test_the_only_task_is_not_named(told_url: str, engine: Engine) -> None:
    inside, outside = ask(told_url, INSIDE, model="one"), ask(told_url, OUTSIDE, model="one")
    assert inside["steering"]["instruction"] == SORT
    assert text(inside) == engine.answer(INSIDE, task="sort", max_tokens=6).text
    base = ask(told_url, OUTSIDE, model="base")
    assert (text(outside), outside["steering"]) == (text(base), False)
    assert outside["usage"]["prompt_tokens"] == base["usage"]["prompt_tokens"]
    assert outside["choices"][0]["gate"]["steered"] is False


def test_the_base_model_reads_an_instruction(told_url: str) -> None:
    wanted = ask(told_url, tell(NAME, INSIDE), model="base")
    assert text(ask(told_url, INSIDE, model="base", steering={"instruction": NAME})) == text(wanted)
    for said in ({"instruction": NAME}, {"task": "name"}):
        assert text(ask(told_url, INSIDE, model="two", steering={**said, "strength": 0})) == text(wanted)


def test_choices_are_listed(told_url: str, engine: Engine) -> None:
    answer = ask(told_url, INSIDE, steering={"instruction": NAME}, choices=["x", "y"])
    wanted = engine.answer(INSIDE, instruction=NAME, choices=["x", "y"])
    assert answer["steering"]["instruction"] == wanted.instruction
    assert answer["choices"][0]["probabilities"] == pytest.approx(wanted.probabilities, rel=0.01)  # rounded differently


def test_vectors_of_told_queries(told_url: str, engine: Engine) -> None:
    norms = post(told_url, "steering", query=INSIDE, steering={"task": "name"})["norms"]
    assert norms == pytest.approx(engine.vector(INSIDE, task="name").norms().tolist(), abs=1e-5)


def test_models_list_their_tasks(told_url: str) -> None:
    models = {model["id"]: model["instructions"] for model in httpx.get(f"{told_url}/v1/models").json()["data"]}
    assert models["two"] == {"sort": SORT, "name": NAME}
    assert models["base"] == {}


def test_other_words_that_steer_decide_for_both(told_url: str, engine: Engine) -> None:
    refused = ask(told_url, INSIDE, model="one", steering={"query": OUTSIDE})
    base = ask(told_url, INSIDE, model="base")
    assert (text(refused), refused["steering"]) == (text(base), False)
    assert refused["usage"]["prompt_tokens"] == base["usage"]["prompt_tokens"]
    accepted = ask(told_url, OUTSIDE, model="one", steering={"query": INSIDE})
    wanted = engine.answer(tell(SORT, OUTSIDE), vector=engine.vector(INSIDE, task="sort"), max_tokens=6)
    assert (text(accepted), accepted["usage"]["prompt_tokens"]) == (wanted.text, wanted.tokens.prompt)


def test_without_a_users_message_there_is_nothing_to_tell(told_url: str) -> None:
    body = {"messages": [{"role": "system", "content": "x"}], "steering": {"task": "name", "query": INSIDE}}
    refused = httpx.post(f"{told_url}/v1/chat/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")


@pytest.mark.parametrize(
    ("steering", "field", "words"),
    [
        ({"task": "nome"}, "steering.task", "sort, name"),
        ({"task": "name", "instruction": NAME}, "steering.task", "either"),
        ({"instruction": " "}, "steering.instruction", "blank"),
    ],
)
def test_what_cannot_be_said_is_refused(told_url: str, steering: dict[str, Any], field: str, words: str) -> None:
    body = {"messages": [{"role": "user", "content": INSIDE}], "steering": steering}
    refused = httpx.post(f"{told_url}/v1/chat/completions", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == field
    assert words in refused.json()["error"]["message"]


def test_a_completion_is_read_as_it_is(told_url: str) -> None:
    body = {"prompt": INSIDE, "steering": {"task": "name"}}
    refused = httpx.post(f"{told_url}/v1/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "steering.task")


def test_words_unlike_the_tasks_have_the_static_vector(
    tiny_gguf: Path, gated_bundle: Path, tiny_vectors: np.ndarray, tmp_path: Path
) -> None:
    bundle = write_told(tmp_path / "bundle", gated_bundle, {"sort": SORT, "name": NAME}, tiny_vectors[0])
    with listening(Server(tiny_gguf, {"told": bundle}, ServerOptions(parallel=1), n_threads=1)) as url:
        unlike = ask(url, OUTSIDE, steering={"instruction": "Do it."})
        assert unlike["steering"]["static"] is True
        assert "static" not in ask(url, OUTSIDE, steering={"task": "name"})["steering"]
        norms = post(url, "steering", query=OUTSIDE, steering={"instruction": "Do it."})["norms"]
        assert norms == pytest.approx(np.linalg.norm(tiny_vectors[0], axis=1).tolist(), rel=1e-4)
