"""What the server has beside answers: models, embeddings, norms, tokens, counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openai
import pytest

from atv_local.answer.engine import Engine
from atv_local.errors import BundleError, UsageError
from atv_local.names import embedded_bundle
from atv_serve.server import Server, ServerOptions
from tests.serve.clients import HTTP, user


def test_embeddings_are_task_vectors(client: openai.OpenAI, engines: dict[str, Engine]) -> None:
    found = client.embeddings.create(model="kinds", input=["apple 1", "cow 2"])
    for given, query in zip(found.data, ("apple 1", "cow 2"), strict=True):
        np.testing.assert_allclose(given.embedding, engines["kinds"].vector(query).array.ravel(), rtol=1e-6)
    plain = client.embeddings.create(model="kinds", input="apple 1", encoding_format="float")
    np.testing.assert_allclose(plain.data[0].embedding, found.data[0].embedding)
    with pytest.raises(openai.BadRequestError, match="no bundle"):
        client.embeddings.create(model="base", input="apple 1")


def test_norms_of_what_would_steer(url: str, engines: dict[str, Engine]) -> None:
    asked = {"query": "apple 1", "steering": {"strength": 2, "layers": [2, 2]}}
    found = HTTP.post(f"{url}/v1/steering", json=asked).json()
    norms = 2 * engines["kinds"].vector("apple 1").norms()
    assert found["norms"] == pytest.approx([0, norms[1], 0], rel=1e-5)
    assert found["steering"]["layers"] == [2, 2]
    assert found["read_length"] == len("apple 1")
    long = "apple " * 100
    read = HTTP.post(f"{url}/v1/steering", json={"query": long}).json()["read_length"]
    assert 0 < read < len(long)
    np.testing.assert_array_equal(engines["kinds"].vector(long[:read]).array, engines["kinds"].vector(long).array)
    assert not engines["other"].generator.read(long[:read]).cut


def test_models_and_their_names(client: openai.OpenAI, url: str) -> None:
    assert [model.id for model in client.models.list()] == ["kinds", "other", "base"]
    assert client.models.retrieve("other").id == "other"
    for call in (lambda: client.models.retrieve("nope"), lambda: client.completions.create(model="nope", prompt="a")):
        with pytest.raises(openai.NotFoundError, match="here are kinds, other, base"):
            call()
    assert HTTP.post(f"{url}/v1/chat/completions", json={"messages": user("cow 1")}).json()["model"] == "kinds"


def test_tokens_there_and_back(url: str, engines: dict[str, Engine]) -> None:
    vocabulary = engines["kinds"].target.vocabulary
    text = "<|im_start|>user\nhé"
    tokens = HTTP.post(f"{url}/tokenize", json={"prompt": text, "add_special_tokens": False}).json()["tokens"]
    assert tokens == vocabulary.tokenize(text, special=True, bos=False)
    assert HTTP.post(f"{url}/detokenize", json={"tokens": tokens}).json()["prompt"] == vocabulary.text(tokens)
    info = HTTP.get(f"{url}/tokenizer_info").json()
    assert info["eos_token"] == vocabulary.eos_text
    assert info["chat_template"] == vocabulary.chat_template


def test_metrics_count(url: str) -> None:
    def values() -> dict[str, float]:
        lines = [line for line in HTTP.get(f"{url}/metrics").text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    before = values()
    HTTP.post(f"{url}/v1/chat/completions", json={"messages": user("cow 1"), "model": "base", "max_tokens": 3})
    after = values()
    assert after['atv_tokens_total{kind="written"}'] - before['atv_tokens_total{kind="written"}'] == 3
    assert after["atv_first_token_seconds_count"] - before["atv_first_token_seconds_count"] == 1
    assert after["process_resident_memory_bytes"] > 0


def test_names_that_are_those_of_the_target(tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    for name in ("base", "second"):
        (tmp_path / f"{name}.gguf").symlink_to(tiny_gguf)
        server = Server(
            tmp_path / f"{name}.gguf",
            {"first": tiny_bundle, "second": tiny_bundle},
            ServerOptions(parallel=1),
            n_threads=1,
        )
        assert server.models.steering("base").bundle is None
        assert server.models.steering("second").bundle == "second"
        server.close()


def test_what_cannot_be_served_is_said_at_the_start(tiny_gguf: Path, tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match=r"n_embd|n_layer|architecture"):
        Server(tiny_gguf, {"demo": embedded_bundle()}, ServerOptions())
    with pytest.raises(UsageError, match="'base'"):
        Server(tiny_gguf, {"base": tiny_bundle}, ServerOptions())
    with pytest.raises(UsageError, match="api_key"):
        ServerOptions(host="0.0.0.0")
    for seconds in (0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="timeout"):
            ServerOptions(timeout=seconds)
    with pytest.raises(UsageError, match="space"):
        ServerOptions(api_key="secret ")
