"""Which provider runs which graph, what happens when one does not work, and what users are told."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_local.errors import BundleError, UsageError
from atv_local.generator import providers
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator
from atv_local.generator.providers import PROVIDERS, Provider, ProviderWarning
from tests.tiny import write_bundle


@pytest.fixture(scope="module")
def complete(
    tmp_path_factory: pytest.TempPathFactory, tiny_gguf: Path, tiny_rows: Path, tiny_vectors: np.ndarray
) -> Bundle:
    folder = tmp_path_factory.mktemp("complete") / "bundle"
    return Bundle(write_bundle(folder, tiny_gguf, tiny_rows, tiny_vectors, ["int8", "fp16", "fp32"]))


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An onnxruntime that claims all providers; what runs under another name is still the CPU."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS.values()))
    whole = providers.open_session
    monkeypatch.setattr(providers, "open_session", lambda graph, _name, threads: whole(graph, "cpu", threads))
    return


@pytest.mark.parametrize("provider", list(PROVIDERS))
@pytest.mark.usefixtures("pretended")
def test_every_provider_gets_the_graph_that_suits_it(complete: Bundle, provider: Provider) -> None:
    generator = Generator(complete, provider=provider)
    wanted = {"cpu": "int8", "openvino": "fp32"}.get(provider, "fp16")
    assert (generator.provider, generator.precision) == (provider, wanted)


@pytest.mark.usefixtures("pretended")
def test_without_that_graph_the_next_best_is_taken(tiny_bundle: Path) -> None:
    assert Generator(Bundle(tiny_bundle), provider="cuda").precision == "fp32"


@pytest.mark.usefixtures("pretended")
def test_a_graph_for_cpus_alone_stays_there(
    tiny_gguf: Path, tiny_rows: Path, tiny_vectors: np.ndarray, tmp_path: Path
) -> None:
    bundle = Bundle(write_bundle(tmp_path / "bundle", tiny_gguf, tiny_rows, tiny_vectors, ["int8"]))
    assert Generator(bundle).provider == "cpu"
    assert Generator(bundle, provider="cuda").precision == "int8"


@pytest.mark.usefixtures("pretended")
def test_the_first_that_is_there_is_taken(complete: Bundle) -> None:
    assert Generator(complete).provider == "cuda"


def test_all_graphs_give_the_same_vectors(complete: Bundle) -> None:
    vectors = [Generator(complete, precision=kind)("apple 1").array.ravel() for kind in complete.graphs]
    assert list(complete.graphs) == ["int8", "fp16", "fp32"]
    for vector in vectors[:2]:
        assert vector @ vectors[2] > 0.999 * np.linalg.norm(vector) * np.linalg.norm(vectors[2])


def test_a_provider_that_only_claims_to_be_there_is_passed_over_with_one_warning(
    complete: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime itself falls back in silence where CUDA's libraries are missing."""
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        generator = Generator(complete)
    assert (generator.provider, generator.precision) == ("cpu", "int8")
    said = [str(warning.message) for warning in caught if warning.category is ProviderWarning]
    assert len(said) == 1
    assert said[0].startswith("using cpu, as cuda: ")
    with pytest.raises(BundleError, match="cuda: "):
        Generator(complete, provider="cuda")
    assert capfd.readouterr().out == ""


def test_a_provider_that_computes_nonsense_is_passed_over(
    complete: Bundle, monkeypatch: pytest.MonkeyPatch, tiny_generator: Generator
) -> None:
    whole = providers.open_session

    class Broken:
        def __init__(self, session: Any) -> None:
            self.get_inputs = session.get_inputs

        def run(self, *_: object) -> list[np.ndarray]:
            return [np.full((1, *tiny_generator.shape), np.nan, np.float32)]

    def session(graph: bytes, name: Provider, threads: int) -> Any:
        made = whole(graph, "cpu", threads)
        return Broken(made) if name == "coreml" else made

    monkeypatch.setattr(providers, "open_session", session)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CoreMLExecutionProvider", "CPUExecutionProvider"]
    )
    with pytest.warns(ProviderWarning, match="coreml: .*NaN"):
        assert Generator(complete).provider == "cpu"


def test_what_is_not_there_is_said_with_what_is(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"no provider 'directml'; it has .*cpu"):
        Generator(Bundle(tiny_bundle), provider="directml")
    with pytest.raises(UsageError, match="no fp16 graph; it has int8, fp32"):
        Generator(Bundle(tiny_bundle), precision="fp16")


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), input="")


def test_the_command_insists_and_says_what_it_used(tiny_gguf: Path, tiny_bundle: Path) -> None:
    common = ["run", "-m", tiny_gguf, "-g", tiny_bundle, "apple 1"]
    result = cli(*common, "--json", "--provider", "cpu", "--precision", "fp32")
    assert '"precision": "fp32", "provider": "cpu"' in result.stdout
    result = cli(*common, "--provider", "directml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cpu" in result.stderr
