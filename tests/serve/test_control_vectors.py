"""Control vectors that a server has by name: each request chooses its own, with a bundle or alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from typer.testing import CliRunner

from atv_cli.main import app
from atv_local.answer import Engine
from atv_local.errors import NotFoundError, VectorError
from atv_local.vectors import ControlVector, TaskVector, write_control_vector
from atv_serve import Server, ServerOptions
from tests.serve.clients import HTTP, user
from tests.serve.listening import listening


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("vectors")
    rows = TaskVector(np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32))
    rows.save(folder / "noise.gguf")
    write_control_vector(-0.5 * rows, folder / "last.gguf", provenance={"positions": "last"})
    return {"noise": folder / "noise.gguf", "last": folder / "last.gguf"}


@pytest.fixture(scope="module")
def url(tiny_gguf: Path, tiny_bundle: Path, vectors: dict[str, Path]) -> Iterator[str]:
    options = ServerOptions(parallel=2, queue=64, timeout=60)
    server = Server(tiny_gguf, {"kinds": tiny_bundle}, options, control_vectors=vectors, n_threads=1)
    with listening(server) as url:
        yield url


def ask(url: str, steering: Any, model: str | None = None, **fields: Any) -> tuple[str, Any]:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    answer = client.chat.completions.create(
        model=model or "kinds", messages=user("go on"), max_tokens=12, extra_body={"steering": steering}, **fields
    )
    return answer.choices[0].message.content or "", (answer.model_extra or {})["steering"]


def test_a_request_chooses_them_with_a_bundle_or_alone(url: str, engine: Engine, vectors: dict[str, Path]) -> None:
    noise, last = (ControlVector.load(path) for path in vectors.values())
    base = Engine(engine.target)
    cases: list[tuple[dict[str, Any], str, Engine, list[tuple[ControlVector, float]]]] = [
        ({"control_vectors": [{"name": "noise", "scale": 0.5}]}, "kinds", engine, [(noise, 0.5)]),
        ({"control_vectors": [{"name": "noise"}, {"name": "last"}]}, "kinds", engine, [(noise, 1), (last, 1)]),
        ({"control_vectors": [{"name": "noise", "scale": -2}]}, "base", base, [(noise, -2)]),
        ({"control_vectors": [{"name": "last", "scale": 4}]}, "base", base, [(last, 4)]),
        ({"control_vectors": []}, "kinds", engine, []),
    ]
    texts = set()
    for steering, model, answering, given in cases:
        how = answering.with_control_vectors(given)
        expected = answering.answer("go on", steering=how, max_tokens=12)
        text, applied = ask(url, steering, model)
        assert text == expected.text, steering
        texts.add(text)
        record = expected.as_dict()
        assert [one | {"name": f"{one['name']}.gguf"} for one in applied.get("control_vectors", [])] == (
            record["control_vectors"]
        )
        assert (applied["bundle_id"], applied["layers"]) == (record["bundle"], record["layers"])
        assert applied["positions"] == record["positions"]
        assert applied["bundle"] == (None if model == "base" else "kinds")
    assert len(texts) >= 3, "these must differ for the test to say something"
    assert ask(url, {"control_vectors": [{"name": "noise"}], "strength": 0}, "base")[1] is False
    assert ask(url, {"bundle": "base", "control_vectors": [{"name": "noise"}], "layers": [2, 2]})[1]["layers"] == [2, 2]


def test_requests_at_a_time_do_not_share_them(url: str) -> None:
    def one(scale: int) -> str:
        return ask(url, {"control_vectors": [{"name": "noise", "scale": scale % 5}]} if scale % 5 else False)[0]

    alone = [one(scale) for scale in range(5)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(40))) == alone * 8


def test_they_are_listed_and_their_norms_shown(url: str, vectors: dict[str, Path]) -> None:
    listed = [{"name": name, "sha256": ControlVector.load(path).sha256[:12]} for name, path in vectors.items()]
    for model in HTTP.get(f"{url}/v1/models").json()["data"]:
        assert model["control_vectors"] == listed
    asked = {"query": "apple 1", "model": "base", "steering": {"control_vectors": [{"name": "noise", "scale": 2}]}}
    found = HTTP.post(f"{url}/v1/steering", json=asked).json()
    assert found["norms"] == pytest.approx((2 * TaskVector.load(vectors["noise"])).norms(), rel=1e-5)
    assert found["steering"]["control_vectors"] == [listed[0] | {"scale": 2}]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([{"name": "absent"}], "here are noise, last"),
        ([{"name": "noise", "scale": 1e9}], "control_vectors.0.scale"),
        ([{"name": "noise", "scale": "1"}], "control_vectors.0.scale"),
        ([{"name": "noise", "file": "/etc/passwd"}], "file"),
        ([{"scale": 1}], "control_vectors.0.name"),
        ([{"name": "noise"}] * 17, "control_vectors"),
        ({"name": "noise"}, "control_vectors"),
    ],
)
def test_mistakes_name_the_field(url: str, given: Any, words: str) -> None:
    body = {"messages": user("a"), "steering": {"control_vectors": given}}
    answer = HTTP.post(f"{url}/v1/chat/completions", json=body)
    assert (answer.status_code, words in answer.text) == (400, True), answer.text
    assert answer.json()["error"]["param"].startswith("steering")


def test_what_does_not_fit_is_refused_at_the_start(tiny_gguf: Path, tmp_path: Path) -> None:
    TaskVector(np.ones((4, 64))).save(tmp_path / "long.gguf")
    for path, error in ((tmp_path / "long.gguf", VectorError), (tmp_path / "absent.gguf", NotFoundError)):
        with pytest.raises(error, match=path.name):
            Server(tiny_gguf, {}, ServerOptions(), control_vectors={"x": path}, n_threads=1)
    arguments = ["serve", "-m", str(tiny_gguf), "--off", "--control-vector", "a=x.gguf", "--control-vector", "a=y.gguf"]
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, "--control-vector" in result.stderr) == (2, True)


def test_the_command_serves_them_alone_or_checks_them(
    tiny_gguf: Path, vectors: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Server] = []

    def run(server: Server, *_: Any) -> int:
        served.append(server)
        server.close()
        return 0

    monkeypatch.setattr(Server, "run", run)
    given = ["serve", "-m", str(tiny_gguf), "-t", "1", "--control-vector"]
    noise = [*given, f"noise={vectors['noise']}"]
    assert [CliRunner().invoke(app, arguments).exit_code for arguments in (noise, [*noise, "--off"])] == [0, 0]
    alone, off = (server.models for server in served)
    assert (alone.names, [*alone.control_vectors]) == (("base",), ["noise"])
    assert (off.names, [*off.control_vectors]) == (("base",), [])
    refused = CliRunner().invoke(app, [*given, f"noise={tmp_path / 'absent.gguf'}", "--off"])
    assert (refused.exit_code, "absent.gguf" in refused.stderr, len(served)) == (1, True, 2)
