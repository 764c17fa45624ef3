"""The exported graphs against PyTorch, and that a bundle is written whole or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_export import verify_graph, verify_logits
from atv_export.export_bundle import export
from atv_export.probe_queries import run_queries
from atv_export.quantize import Processor
from atv_local import Engine, Positions, Target
from atv_local.errors import BundleError, UsageError
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator
from atv_local.generator.providers import Precision
from atv_local.target.model import Model
from atv_train.frozen_target.weights import load_target
from atv_train.job import TrainingJob
from atv_train.run_folder import checkpoint
from atv_train.training_run import run_training

QUERIES = st.one_of(st.text(min_size=1, max_size=80), st.text("abcdef 123", min_size=1, max_size=400))


@pytest.fixture(scope="module")
def generators(trained_bundle: Path) -> dict[Precision, Generator]:
    bundle = Bundle(trained_bundle)
    return {precision: Generator(bundle, precision=precision) for precision in bundle.graphs}


@pytest.fixture(scope="session")
def loaded(trained_checkpoint: Path) -> tuple:
    return checkpoint.load_checkpoint(trained_checkpoint)


def pytorch(loaded: tuple, query: str) -> np.ndarray:
    spec, generator, tokenizer = loaded
    encoded = tokenizer([query], truncation=True, max_length=spec.generator.max_tokens, return_tensors="pt")
    with torch.no_grad():
        return generator(encoded["input_ids"], encoded["attention_mask"])[0].numpy()


@settings(max_examples=60, deadline=None)
@given(query=QUERIES)
def test_the_float32_graph_is_the_pytorch_generator(
    generators: dict[Precision, Generator], loaded: tuple, query: str
) -> None:
    expected = pytorch(loaded, query)
    assert np.abs(generators["fp32"](query).array - expected).max() <= verify_graph.FP32_BOUND * np.abs(expected).max()


@settings(max_examples=60, deadline=None)
@given(query=QUERIES)
def test_the_int8_graph_is_near_it(generators: dict[Precision, Generator], loaded: tuple, query: str) -> None:
    expected = pytorch(loaded, query)
    error = np.linalg.norm(generators["int8"](query).array - expected) / np.linalg.norm(expected)
    assert 0 < error <= verify_graph.MAX_ERROR["int8"]


def test_the_pooled_state_is_what_the_vector_is_made_from(
    generators: dict[Precision, Generator], loaded: tuple, tiny_generator: Generator
) -> None:
    _, generator, tokenizer = loaded
    with torch.no_grad():
        expected = generator.pooled(**tokenizer(["a pear"], return_tensors="pt", return_token_type_ids=False))[
            0
        ].numpy()
    for precision, loosely in (("fp32", 1e-5), ("int8", 0.1)):
        state = generators[precision].pooled("a pear")
        assert state is not None
        assert np.linalg.norm(state - expected) < loosely * np.linalg.norm(expected)
    assert tiny_generator.pooled("a pear") is None  # of a graph without it


def test_both_graphs_give_the_task_its_answers(generators: dict[Precision, Generator], target: Target) -> None:
    queries = [f"{word} {n}" for word in ("apple", "fig", "cow", "hen") for n in range(4)]
    for query in queries:
        a, b = (generators[precision](query).array.ravel() for precision in ("int8", "fp32"))
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99
    for generator in generators.values():
        engine = Engine(target, generator)
        texts = [engine.answer(query, max_tokens=8).text for query in queries]
        assert texts == ["a"] * 8 + ["b"] * 8


def test_the_runtime_prefers_the_int8_graph(trained_bundle: Path) -> None:
    assert Generator(Bundle(trained_bundle), provider="cpu").precision == "int8"
    sizes = [(trained_bundle / name).stat().st_size for name in ("onnx/model_int8.onnx", "onnx/model.onnx")]
    assert sizes[0] < sizes[1]


def test_a_graph_too_far_from_pytorch_is_not_written(
    trained_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(verify_graph.MAX_ERROR, "int8", 1e-9)
    with pytest.raises(BundleError, match="int8"):
        export(trained_checkpoint, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_bundle_is_replaced_and_anything_else_is_not(trained_checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "bundle"
    export(trained_checkpoint, output, precisions=["fp32"])
    with pytest.raises(UsageError, match="overwrite=True"):
        export(trained_checkpoint, output, precisions=["int8"])
    assert "onnx/model.onnx" in Bundle(output).manifest.files
    export(trained_checkpoint, output, precisions=["int8"], overwrite=True)
    assert sorted(Bundle(output).manifest.files) == ["README.md", "onnx/model_int8.onnx", "tokenizer.json"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="choose another output"):
        export(trained_checkpoint, tmp_path / "mine", overwrite=True)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_command_exports_with_a_card(trained_checkpoint: Path, tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("# mine\n")
    result = cli(trained_checkpoint, tmp_path / "bundle", "--precisions", "int8", "--card", card)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'bundle'}\n")
    assert (tmp_path / "bundle" / "README.md").read_text() == "# mine\n"


def test_the_command_says_what_is_wrong(trained_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(trained_checkpoint / "checkpoint", tmp_path / "copy")
    (tmp_path / "copy" / checkpoint.WEIGHTS).write_bytes(b"\x80\x04 a pickle, for all we know")
    cases = {
        "absent": (1, [tmp_path / "absent", tmp_path / "out"]),
        "damaged": (1, [tmp_path / "copy", tmp_path / "out"]),
        "int4": (2, [trained_checkpoint, tmp_path / "out", "--precisions", "fp32,int4"]),
        "card.md": (2, [trained_checkpoint, tmp_path / "out", "--card", tmp_path / "card.md"]),
    }
    for word, (code, arguments) in cases.items():
        result = cli(*arguments)
        assert result.exit_code == code, result.stderr
        assert word in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("processor", ["any", "avx2", "avx512_vnni", "arm64"])
def test_the_int8_graph_of_every_processor_is_near_pytorch(
    trained_checkpoint: Path, tmp_path: Path, processor: Processor
) -> None:
    report = export(trained_checkpoint, tmp_path / "bundle", precisions=["int8"], processor=processor)
    checked = report.graphs["int8"]
    assert report.float_matrices == "narrowing"
    assert checked.fidelity.cosine > 0.99
    assert 0 < checked.fidelity.error < 0.1 > checked.batch
    assert len(checked.layers) == 3
    assert checked.lengths == (3, 64)
    assert Bundle(tmp_path / "bundle").manifest.fidelity == {"int8": checked.fidelity}


def test_int8_that_is_not_exact_enough_keeps_more_in_float(
    trained_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = iter(["too far", ""])
    monkeypatch.setattr("atv_export.write_graphs.missed_bound", lambda *_: next(faults))
    report = export(trained_checkpoint, tmp_path / "bundle", precisions=["int8"])
    assert report.float_matrices == "all"
    operators = {node.op_type for node in onnx.load(tmp_path / "bundle" / "onnx" / "model_int8.onnx").graph.node}
    assert "MatMulNBits" in operators
    assert not operators & {"MatMulInteger", "DynamicQuantizeLinear"}


@pytest.mark.parametrize("positions", list(Positions))
def test_the_check_goes_through_to_the_targets_logits(
    trained_checkpoint: Path, tiny_gguf: Path, tmp_path: Path, positions: Positions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(trained_checkpoint / "checkpoint", tmp_path / "copy")
    config = json.loads((folder / checkpoint.CONFIG).read_text())
    config["injection"]["positions"] = positions.value
    (folder / checkpoint.CONFIG).write_text(json.dumps(config))
    report = export(folder, tmp_path / "bundle", precisions=["fp32"], model=tiny_gguf, queries=["fig", "cow 1"])
    logits = report.logits["fp32"]
    assert (logits.prompts, logits.agreement) == (2, 1)
    assert logits.cosine > 0.999 < logits.base_cosine
    assert logits.divergence < 1e-3
    assert "Through llama.cpp" in (tmp_path / "bundle" / "README.md").read_text()
    shutil.rmtree(tmp_path / "bundle")
    whole = verify_logits._llama
    monkeypatch.setattr(  # steered, not what PyTorch gives
        verify_logits, "_llama", lambda *given: torch.randn(288) if given[2] is not None else whole(*given)
    )
    with pytest.raises(BundleError, match="fp32"):
        export(folder, tmp_path / "bundle", precisions=["fp32"], model=tiny_gguf)
    assert not (tmp_path / "bundle").exists()


def test_the_check_goes_through_given_weights(trained_checkpoint: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    model = load_target(tiny_gguf, torch.float32, torch.device("cpu"))
    model.save_pretrained(tmp_path / "weights")
    options = ("--precisions", "fp32", "-m", str(tiny_gguf), "--weights")
    result = cli(trained_checkpoint, tmp_path / "bundle", *options, str(tmp_path / "weights"), "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["logits"]["fp32"]["cosine"] > 0.999
    torch.nn.init.normal_(model.lm_head.weight)
    model.save_pretrained(tmp_path / "others")
    result = cli(trained_checkpoint, tmp_path / "wrong", *options, str(tmp_path / "others"))
    assert result.exit_code == 1
    assert "--weights" in result.stderr
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("place", ["alone", "in a batch"])
def test_a_graph_that_gives_nan_for_one_query_is_refused(
    trained_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    whole = verify_graph.open_session

    class Sometimes:
        def __init__(self, session: Any) -> None:
            self.session, self.n = session, 0

        def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            (found,) = self.session.run(names, inputs)
            self.n += 1
            if len(found) > 1 if place == "in a batch" else self.n == 5:
                found[-1] = np.nan
            return [found]

    monkeypatch.setattr(verify_graph, "open_session", lambda *given: Sometimes(whole(*given)))
    with pytest.raises(BundleError, match="inf"):
        export(trained_checkpoint, tmp_path / "bundle", precisions=["fp32"])
    assert not (tmp_path / "bundle").exists()


def test_a_run_is_verified_with_its_own_rows(trained_checkpoint: Path, tmp_path: Path, tiny_rows: Path) -> None:
    rows = [json.loads(line)["input"] for line in tiny_rows.read_text().splitlines()]
    assert set(run_queries(trained_checkpoint)) == set(rows)
    assert run_queries(trained_checkpoint / "checkpoint") == []
    moved = shutil.copytree(trained_checkpoint, tmp_path / "run")
    record = (moved / "run.json").read_text().replace(tiny_rows.name, "gone.jsonl")
    (moved / "run.json").write_text(record)
    assert run_queries(moved) == []
    export(moved, tmp_path / "bundle", precisions=["fp32"])


def test_the_report_as_json(trained_checkpoint: Path, tmp_path: Path) -> None:
    result = cli(trained_checkpoint, tmp_path / "bundle", "--precisions", "fp16, int8", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["graphs"].keys() == {"int8", "fp16"}
    assert report["files"].keys() == Bundle(tmp_path / "bundle").manifest.files.keys()
    assert all(len(graph["cosine_by_layer"]) == 3 for graph in report["graphs"].values())


def test_layers_that_are_never_steered_have_no_cosine(job: TrainingJob, tmp_path: Path) -> None:
    run_training(replace(job, layers=(2, 2), hold_out=False), tmp_path / "run")
    result = cli(tmp_path / "run", tmp_path / "bundle", "--json")
    assert result.exit_code == 0, result.stderr
    layers = json.loads(result.stdout)["graphs"]["int8"]["cosine_by_layer"]
    assert (layers[0], layers[2]) == (None, None)
    assert layers[1] > 0.99


def test_an_untrained_generator_is_exported(job: TrainingJob, tmp_path: Path) -> None:
    """Its vectors are zero: there is nothing to be near to, and nothing to divide by."""
    run_training(replace(job, settings=replace(job.settings, epochs=1, learning_rate=0.0)), tmp_path / "run")
    report = export(tmp_path / "run", tmp_path / "bundle")
    assert report.graphs["int8"].fidelity.error == 0
    assert not Generator(Bundle(tmp_path / "bundle"))("fig").array.any()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"precisions": []}, "precisions"),
        ({"precisions": "int8,int4"}, "precisions"),
        ({"processor": "abacus"}, "processor"),
        ({"processor": "avx2", "precisions": "fp32"}, "precisions"),
        ({"through": False}, "model"),
        ({"weights": "folder"}, "weights"),
        ({"layer0": "drop"}, "layer0"),
        ({"queries": [""]}, "query"),
    ],
)
def test_an_invalid_option_is_named(
    trained_checkpoint: Path, tmp_path: Path, options: dict[str, Any], name: str
) -> None:
    with pytest.raises(UsageError, match=name):
        export(trained_checkpoint, tmp_path / "bundle", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_gguf_is_opened_once_for_its_metadata_and_once_with_its_weights(
    trained_checkpoint: Path, tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    load = Model.__init__

    def counted(self: Model, path: Path, **options: Any) -> None:
        opened.append(bool(options.get("vocab_only")))
        load(self, path, **options)

    monkeypatch.setattr(Model, "__init__", counted)
    report = export(str(trained_checkpoint), str(tmp_path / "bundle"), precisions="fp32", model=str(tiny_gguf))
    assert sorted(opened) == [False, True]
    assert report.logits.keys() == report.graphs.keys() == {"fp32"}
    assert Bundle(tmp_path / "bundle").manifest == report.manifest
