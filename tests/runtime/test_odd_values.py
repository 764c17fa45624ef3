"""Values of any type for the arguments of the Python API: taken, or refused by one short AtvError."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atv_local
from atv_local import AtvError, Batch, Conversation, Engine, Generator, Sampling, Steering, Target, UsageError
from atv_local.target import Prompt

ODD = [
    *(np.array(value) for value in ([1, 2], [], "x", [[1, 2], [3, 4]])),  # most have no truth value
    *(object(), b"x", (), [None], {}, float("nan"), np.float32(3), True, float),
]
QUERY: dict[str, Any] = {"query": "apple", "max_tokens": 1}
QUERIES: dict[str, Any] = {"queries": ["apple"], "max_tokens": 1}
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "apple"}], "max_tokens": 1}
SETTINGS = ["steering", "sampling", "max_tokens", "system"]
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any], list[str]]] = {
    "answer": (lambda e, **given: e.answer(**given), QUERY, ["query", "vector", *SETTINGS]),
    "stream": (lambda e, **given: e.stream(**given), QUERY, ["prompt"]),
    "answer_many": (lambda e, **given: e.answer_many(**given), QUERIES, ["queries", *SETTINGS]),
    "chat": (lambda e, **given: e.chat(**given), CHAT, ["messages", "steering", "sampling", "max_tokens"]),
    "role": (lambda e, **given: e.chat([{"content": "a", **given}]), {}, ["role"]),
    "content": (lambda e, **given: e.chat([{"role": "user", **given}], max_tokens=1), {}, ["content", "name", "x"]),
    "vector": (lambda e, **given: e.vector(**given), {}, ["query"]),
    "control_vector": (lambda e, **given: e.control_vector(**given), {"queries": ["apple"]}, ["queries", "steering"]),
    "conversation": (Conversation, {}, SETTINGS),
    "batch": (Batch, {}, ["parallel", "n_ctx"]),
    "Engine": (
        lambda e, **given: Engine(**{"target": e.target, **given}),
        {},
        ["generator", "control_vectors", "steering"],
    ),
    "Steering": (lambda _, **given: Steering(**given), {}, ["strength", "layers", "positions", "control_vectors"]),
    "Sampling": (lambda _, **given: Sampling(**given), {}, ["temperature", "top_p", "top_k", "seed"]),
}


@pytest.fixture(scope="module")
def loaded(tiny_gguf: Path, tiny_generator: Generator) -> Iterator[Engine]:
    with Engine(Target(tiny_gguf, n_threads=1), tiny_generator) as engine:
        yield engine


def refused_or_taken(call: Callable[[], Any]) -> None:
    try:
        result = call()
        if hasattr(result, "__next__"):
            list(result)
    except AtvError as error:
        message = str(error)
    else:
        message = ""
    assert len(message) < 300
    assert "\n" not in message


@pytest.mark.parametrize(("call", "name"), [(call, name) for call, (_, _, names) in CALLS.items() for name in names])
def test_calls(loaded: Engine, call: str, name: str) -> None:
    function, given, _ = CALLS[call]
    for value in ODD:
        refused_or_taken(lambda value=value: function(loaded, **{**given, name: value}))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["model", "bundle", "off", "provider", "precision", "steering"])
def test_load(tiny_gguf: Path, tiny_bundle: Path, name: str) -> None:
    for value in ODD:
        if value is not True:
            with pytest.raises(UsageError, match=f"`{name}`"):
                atv_local.load(**{"model": tiny_gguf, "bundle": tiny_bundle, name: value})


def test_control_vectors(tiny_gguf: Path) -> None:
    for value in ODD:
        refused_or_taken(lambda value=value: atv_local.load(tiny_gguf, control_vectors=value).close())  # type: ignore[misc]
        refused_or_taken(lambda value=value: atv_local.load(tiny_gguf, control_vectors=[value]).close())  # type: ignore[misc]


@pytest.mark.parametrize("name", ["queries", "options", "steering", "system"])
def test_scores(loaded: Engine, name: str) -> None:
    with Batch(loaded, parallel=2) as batch:
        for value in ODD:
            given: dict[str, Any] = {"queries": ["apple"], "options": ["a"], name: value}
            refused_or_taken(lambda given=given: batch.score(**given))  # type: ignore[misc]


def test_a_prompt_is_no_text(loaded: Engine) -> None:
    for prompt in ("hello", Prompt((), 0)):
        with pytest.raises(UsageError, match="`prompt`"):
            loaded.stream("hi", prompt=prompt)  # type: ignore[arg-type]  # a text


def test_a_word_does_not_overwrite(loaded: Engine, tmp_path: Path) -> None:
    vector = loaded.control_vector(["apple"])
    vector.save(tmp_path / "v.gguf")
    for value in ("no", np.array([]), np.array([1, 2])):
        with pytest.raises(UsageError, match="overwrite"):
            vector.save(tmp_path / "v.gguf", overwrite=value)  # type: ignore[arg-type]  # no bool
