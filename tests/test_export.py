"""The exported graphs against PyTorch, and that a bundle is written whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import atv_export.run as exporting
from atv_cli.main import app
from atv_local.bundle import Bundle
from atv_local.errors import BundleError, UsageError
from atv_local.generator import Generator
from atv_train import checkpoint

QUERIES = st.one_of(st.text(min_size=1, max_size=80), st.text("abcdef 123", min_size=1, max_size=400))


@pytest.fixture(scope="session")
def fp32_generator(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    output = tmp_path_factory.mktemp("fp32") / "bundle"
    exporting.run(tiny_checkpoint, output, int8=False)
    return Generator(Bundle(output))


@pytest.fixture(scope="session")
def loaded(tiny_checkpoint: Path) -> tuple:
    return checkpoint.load(tiny_checkpoint)


def pytorch(loaded: tuple, query: str) -> np.ndarray:
    spec, generator, tokenizer = loaded
    encoded = tokenizer([query], truncation=True, max_length=spec.generator.max_tokens, return_tensors="pt")
    with torch.no_grad():
        return generator(encoded["input_ids"], encoded["attention_mask"])[0].numpy()


@settings(max_examples=60, deadline=None)
@given(query=QUERIES)
def test_the_float32_graph_is_the_pytorch_generator(fp32_generator: Generator, loaded: tuple, query: str) -> None:
    expected = pytorch(loaded, query)
    assert np.abs(fp32_generator(query).array - expected).max() <= exporting.FP32_BOUND * np.abs(expected).max()


@settings(max_examples=60, deadline=None)
@given(query=QUERIES)
def test_the_int8_graph_is_near_it(tiny_generator: Generator, loaded: tuple, query: str) -> None:
    expected = pytorch(loaded, query)
    error = np.linalg.norm(tiny_generator(query).array - expected) / np.linalg.norm(expected)
    assert 0 < error <= exporting.INT8_BOUND


def test_both_graphs_give_the_task_its_answers(tiny_generator: Generator, fp32_generator: Generator) -> None:
    queries = [f"{word} {n}" for word in ("apple", "fig", "cow", "hen") for n in range(4)]
    for query in queries:
        a, b = tiny_generator(query).array.ravel(), fp32_generator(query).array.ravel()
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


def test_the_runtime_prefers_the_int8_graph(tiny_bundle: Path) -> None:
    assert Bundle(tiny_bundle).graph == "onnx/model_int8.onnx"
    sizes = [(tiny_bundle / name).stat().st_size for name in ("onnx/model_int8.onnx", "onnx/model.onnx")]
    assert sizes[0] < sizes[1]


def test_a_graph_too_far_from_pytorch_is_not_written(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "INT8_BOUND", 1e-9)
    with pytest.raises(BundleError, match="int8 graph differs from PyTorch"):
        exporting.run(tiny_checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_bundle_is_replaced_and_anything_else_is_not(tiny_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    exporting.run(tiny_checkpoint, output, int8=False)
    exporting.run(tiny_checkpoint, output, fp32=False)
    assert sorted(Bundle(output).manifest.files) == ["README.md", "onnx/model_int8.onnx", "tokenizer.json"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="choose another output"):
        exporting.run(tiny_checkpoint, tmp_path / "mine")


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_command_exports_with_a_card(tiny_checkpoint: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("# mine\n")
    result = cli(tiny_checkpoint, tmp_path / "bundle", "--no-fp32", "--card", card)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'bundle'}\n")
    assert (tmp_path / "bundle" / "README.md").read_text() == "# mine\n"


def test_the_command_says_what_is_wrong(tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint / "checkpoint", tmp_path / "copy")
    (tmp_path / "copy" / checkpoint.WEIGHTS).write_bytes(b"\x80\x04 a pickle, for all we know")
    cases = {
        "absent": (1, [tmp_path / "absent", tmp_path / "out"]),
        "damaged": (1, [tmp_path / "copy", tmp_path / "out"]),
        "card.md": (2, [tiny_checkpoint, tmp_path / "out", "--card", tmp_path / "card.md"]),
        "nothing to export": (2, [tiny_checkpoint, tmp_path / "out", "--no-int8", "--no-fp32"]),
    }
    for word, (code, arguments) in cases.items():
        result = cli(*arguments)
        assert result.exit_code == code, result.stderr
        assert word in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert not (tmp_path / "out").exists()
