"""The paper authors' checkpoint: read as they would compute it, layer 0 made the best of, nothing in it run."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2Config, GPT2Model
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_export.export_bundle import export
from atv_local import Positions
from atv_local.errors import BundleError, UsageError
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator

N_LAYER, N_EMBD, WIDTH = 4, 64, 128  # of the tiny target, and of a GPT-2 with two heads
QUERIES = ["fig 2", "is a cow a fruit", "x"]


@pytest.fixture(scope="module")
def backbone(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer alone: the state dict tells a GPT-2's shape."""
    folder = tmp_path_factory.mktemp("gpt2")
    AutoTokenizer.from_pretrained(tiny_backbone).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What the authors' training saves, with vectors large enough to steer."""
    torch.manual_seed(0)
    gpt2 = GPT2Model(GPT2Config(vocab_size=100, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=64))
    projection = torch.nn.Linear(WIDTH, N_LAYER * N_EMBD)
    with torch.no_grad():
        projection.weight *= 500
        projection.bias *= 5000
    state = {**gpt2.state_dict(), "h.0.attn.bias": torch.ones(1, 1, 64, 64, dtype=torch.bool)}  # older versions save it
    optimizer = torch.optim.Adam(projection.parameters(), lr=5e-4).state_dict()
    return {
        "gpt2_model_state_dict": state,
        "projection_layer_state_dict": dict(projection.state_dict()),
        "optimizer_state_dict": optimizer,
        "epoch": 3,
        "train_loss": 0.5,
        "val_loss": 0.6,
    }


@pytest.fixture(scope="module")
def theirs(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("theirs") / "atv.pt"
    torch.save(content, path)
    return path


def reference(content: dict[str, Any], backbone: Path, query: str) -> np.ndarray:
    """Their computation, [n_layer, n_embd]: last state, projection, 0.001."""
    gpt2 = GPT2Model(GPT2Config(vocab_size=100, n_embd=WIDTH, n_layer=2, n_head=2, n_positions=64)).eval()
    gpt2.load_state_dict(content["gpt2_model_state_dict"], strict=False)
    projection = content["projection_layer_state_dict"]
    inputs = AutoTokenizer.from_pretrained(backbone)(f"Q: {query} \n A: ", return_tensors="pt")
    with torch.no_grad():
        state = gpt2(inputs["input_ids"]).last_hidden_state[0, -1]
        vector = (projection["weight"] @ state + projection["bias"]) * 0.001
    return vector.reshape(N_LAYER, N_EMBD).numpy()


def test_the_bundle_computes_what_they_compute(
    theirs: Path, content: dict[str, Any], backbone: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    export(
        theirs, tmp_path / "bundle", model=tiny_gguf, backbone=str(backbone), positions=Positions.LAST, layer0="drop"
    )
    bundle = Bundle(tmp_path / "bundle")
    assert bundle.manifest.generator.query_template == "Q: {query} \n A: "
    assert bundle.manifest.injection.positions is Positions.LAST
    for query in QUERIES:
        expected = reference(content, backbone, query)[1:]
        found = Generator(bundle, precision="fp32")(query).array
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()


def test_layer_0_is_carried_over_and_what_is_lost_is_said(
    theirs: Path, content: dict[str, Any], backbone: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    report = export(theirs, tmp_path / "bundle", model=tiny_gguf, backbone=str(backbone), queries=QUERIES)
    vectors = np.array([reference(content, backbone, query) for query in QUERIES])
    squares = np.square(vectors).sum(axis=-1)
    found = report.layer0
    assert found is not None
    assert found.share == pytest.approx((squares[:, 0] / squares.sum(axis=1)).mean(), rel=1e-3)
    assert set(found.divergence) == {"off", "drop", "add", "carry"}
    assert found.divergence[found.method] == min(found.divergence.values())
    assert found.divergence["carry"] < found.divergence["drop"] < found.divergence["off"]
    assert "layer 0" in (tmp_path / "bundle" / "README.md").read_text()
    row = Generator(Bundle(tmp_path / "bundle"), precision="fp32")("fig 2").array[0]
    assert not np.allclose(row, vectors[0][1], atol=1e-4)


def test_adding_layer_0_to_layer_1(
    theirs: Path, content: dict[str, Any], backbone: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"through": False, "backbone": str(backbone), "layer0": "add", "queries": QUERIES}
    report = export(theirs, tmp_path / "b", model=tiny_gguf, **options)
    assert report.logits == {}
    squares = np.square([reference(content, backbone, query) for query in QUERIES]).sum(axis=-1)
    assert report.layer0 is not None
    assert report.layer0.share == pytest.approx((squares[:, 0] / squares.sum(axis=1)).mean(), rel=1e-3)
    expected = reference(content, backbone, "fig 2")
    found = Generator(Bundle(tmp_path / "b"), precision="fp32")("fig 2").array
    assert np.abs(found[0] - expected[0] - expected[1]).max() < 1e-4
    assert np.abs(found[1:] - expected[2:]).max() < 1e-4


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_command_reads_it_and_reports_as_json(
    theirs: Path, backbone: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    options = ["-m", tiny_gguf, "--backbone", backbone, "--positions", "last", "--precisions", "fp16,fp32", "--json"]
    result = cli(theirs, tmp_path / "bundle", *options)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["graphs"].keys() == {"fp16", "fp32"} == report["logits"].keys()
    assert report["layer0"]["method"] in ("drop", "add", "carry")
    assert report["logits"]["fp32"]["cosine"] > 0.99


def test_options_are_for_the_file_they_are_for(
    theirs: Path, trained_checkpoint: Path, tiny_gguf: Path, backbone: Path, tmp_path: Path
) -> None:
    for source, options, words in (
        (theirs, ["--backbone", backbone], "-m"),
        (trained_checkpoint, ["--positions", "last"], "--positions"),
    ):
        result = cli(source, tmp_path / "out", *options)
        assert (result.exit_code, result.stdout) == (2, ""), result.stderr
        assert words in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    with pytest.raises(UsageError, match="needs the target"):
        export(theirs, tmp_path / "out", model=tiny_gguf, through=False, backbone=str(backbone), layer0="carry")
    assert not (tmp_path / "out").exists()


class Runs:
    """A pickle that runs a command where it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(
    content: dict[str, Any], backbone: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    torch.save(content | {"epoch": Runs(tmp_path / "ran")}, tmp_path / "evil.pt")
    with pytest.raises(BundleError, match="refused"):
        export(tmp_path / "evil.pt", tmp_path / "out", model=tiny_gguf, backbone=str(backbone))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pt"]


def changed(content: dict[str, Any], part: str, **tensors: Any) -> dict[str, Any]:
    return content | {part: {**content[part], **tensors}}


PROJECTION, GPT2 = "projection_layer_state_dict", "gpt2_model_state_dict"
WHOLE = N_LAYER * N_EMBD
CASES = {
    "another target": lambda c: changed(c, PROJECTION, weight=torch.ones(192, WIDTH), bias=torch.ones(192)),
    "one linear map": lambda c: c | {PROJECTION: {"0.weight": torch.ones(2, 2)}},
    "one linear map ": lambda c: changed(c, PROJECTION, bias=torch.ones(3)),
    "NaN or infinite": lambda c: changed(c, PROJECTION, bias=torch.full((WHOLE,), torch.nan)),
    "more values than the file holds": lambda c: changed(c, PROJECTION, weight=torch.ones(1, 1).expand(WHOLE, 1 << 40)),
    "more values than the file holds ": lambda c: (
        c | {GPT2: {**c[GPT2], **{f"h.0.copy{n}": c[GPT2]["wte.weight"] for n in range(200)}}}
    ),
    "which are not weights": lambda c: changed(c, PROJECTION, bias=torch.ones(WHOLE, dtype=torch.int64)),
    "which are not weights ": lambda c: changed(c, GPT2, **{"ln_f.bias": torch.ones(WIDTH, dtype=torch.complex64)}),
    "1000000001 layers": lambda c: changed(c, GPT2, **{"h.1000000000.x": torch.ones(1)}),
    "wte.weight is missing": lambda c: (
        changed(c, GPT2, **{"wte.weight": torch.ones(1, 1)})
        and c | {GPT2: {k: v for k, v in c[GPT2].items() if k not in ("wte.weight",)}}
    ),
    "100000 positions": lambda c: changed(c, GPT2, **{"wpe.weight": torch.ones(100_000, 1)}),
    "is not a tensor": lambda c: changed(c, GPT2, **{"ln_f.bias": "text"}),
    "has no gpt2_model": lambda c: {PROJECTION: c[PROJECTION]},
    "has no projection": lambda c: {GPT2: c[GPT2], PROJECTION: []},
    "authors": lambda _: [1, 2, 3],
    "the projection reads 64": lambda c: changed(c, PROJECTION, weight=torch.ones(WHOLE, 64)),
    "h.1.ln_1.weight is missing": lambda c: c | {GPT2: {k: v for k, v in c[GPT2].items() if k != "h.1.ln_1.weight"}},
    "cannot be made": lambda c: changed(c, GPT2, **{"h.1.ln_1.weight": torch.ones(3)}),
    "cannot be made ": lambda c: changed(c, GPT2, **{"wte.weight": torch.ones(3)}),
}


@pytest.mark.parametrize("words", CASES)
def test_content_that_is_not_theirs_is_one_sentence(
    content: dict[str, Any], backbone: Path, tiny_gguf: Path, tmp_path: Path, words: str
) -> None:
    torch.save(CASES[words](content), tmp_path / "bad.pt")
    result = cli(tmp_path / "bad.pt", tmp_path / "out", "-m", tiny_gguf, "--backbone", backbone)
    assert result.exit_code in (1, 2), result.stdout
    assert words.strip() in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "bomb", "no zip"])
def test_a_damaged_file_is_one_sentence(
    theirs: Path, backbone: Path, tiny_gguf: Path, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "bad.pt"
    data = theirs.read_bytes()
    path.write_bytes({"cut": data[:-200], "empty": b"", "text": b"hello"}.get(damage, data))
    if damage == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(50 << 20))
    if damage == "no zip":
        torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    result = cli(path, tmp_path / "out", "-m", tiny_gguf, "--backbone", backbone)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.strip().splitlines()) == 1
    assert "bad.pt" in result.stderr


def test_other_backbones_come_by_their_config(tiny_backbone: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_backbone, tmp_path / "bert")
    projection = {"weight": torch.randn(WHOLE, 32), "bias": torch.randn(WHOLE)}
    state = load_file(folder / "model.safetensors")
    torch.save({GPT2: state, PROJECTION: projection}, tmp_path / "bert.pt")
    options = ["-m", tiny_gguf, "--backbone", folder, "--pooling", "mean", "--no-through", "--precisions", "fp32"]
    result = cli(tmp_path / "bert.pt", tmp_path / "out", *options)
    assert result.exit_code == 0, result.stderr
    assert Generator(Bundle(tmp_path / "out"))("fig").array.any()
