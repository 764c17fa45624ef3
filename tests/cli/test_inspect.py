"""`atv-local inspect`: bundles, models, control vectors, and the vectors of queries."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_local import TaskVector
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator
from atv_local.vectors import write_control_vector
from tests.tiny import write_gguf


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def facts(*arguments: object) -> dict:
    result = cli(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def other_gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "other.gguf", n_layer=3)


def test_a_bundle(tiny_bundle: Path, tiny_gguf: Path, other_gguf: Path) -> None:
    found = facts(tiny_bundle, "-m", tiny_gguf)
    bundle = Bundle(tiny_bundle)
    assert (found["kind"], found["id"], found["fits"]) == ("bundle", bundle.id, "yes")
    assert found["target"]["licence"] == "apache-2.0"
    assert found["provenance"]["data"][0]["rows"] == 40
    assert found["files"].keys() == bundle.manifest.files.keys()
    assert found["fidelity"].keys() == {"int8", "fp32"}
    refused = facts(tiny_bundle, "-m", other_gguf)["fits"]
    assert refused.startswith("no: ")
    assert "n_layer" in refused


def test_the_gate_of_a_bundle(gated_bundle: Path, tiny_bundle: Path) -> None:
    told = cli(gated_bundle, "-q", "pear 7", "-q", "something else").stdout
    lines = [line.split(maxsplit=1) for line in told.splitlines()]
    assert [text for name, text in filter(None, lines) if name == "gate"] == ["kinds (30 rows, threshold 0.900)"]
    fits, does_not = facts(gated_bundle, "-q", "pear 7", "-q", "something else")["queries"]
    assert (fits["gate"]["task"], fits["gate"]["score"] > 0.5 > does_not["gate"]["score"]) == ("kinds", True)
    assert f"{fits['gate']['score']:.2f} as kinds: pear 7" in told
    assert "steers every query" in cli(tiny_bundle).stdout
    assert "gate" not in facts(tiny_bundle, "-q", "pear 7")["queries"][0]


def test_a_gate_that_was_measured_says_what_it_steers(gated_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(gated_bundle, tmp_path / "measured")
    manifest = json.loads((tmp_path / "measured" / "atv.json").read_text())
    manifest["provenance"]["metrics"] = {"gate_valid_recall": 0.975, "gate_outside_steered": 0.02}
    (tmp_path / "measured" / "atv.json").write_text(json.dumps(manifest))
    assert "steers 97.5% of the validation rows and 2.0% of the unrelated queries" in cli(tmp_path / "measured").stdout


def test_a_model(tiny_gguf: Path) -> None:
    found = facts(tiny_gguf)
    sizes = found["n_layer"], found["n_embd"], found["n_ctx"], found["steerable_layers"]
    assert (found["kind"], found["architecture"], *sizes) == ("model", "llama", 4, 64, 512, [1, 3])
    assert found["size"] == tiny_gguf.stat().st_size


def test_the_real_model(smollm2: Path) -> None:
    found = facts(smollm2)
    assert (found["quantisation"], found["licence"], found["chat_template"]) == ("Q4_1", "apache-2.0", True)


def test_a_control_vector(tiny_bundle: Path, tiny_gguf: Path, other_gguf: Path, tmp_path: Path) -> None:
    vector = Generator(Bundle(tiny_bundle))("fig")
    write_control_vector(vector, tmp_path / "v.gguf", "llama", {"bundle": "abc"})
    found = facts(tmp_path / "v.gguf", "-m", tiny_gguf)
    assert (found["kind"], found["layers"], found["fits"]) == ("control vector", [1, 2, 3], "yes")
    assert found["provenance"] == {"bundle": "abc"}
    assert np.allclose(list(found["norms"].values()), vector.norms())
    assert "1-2" in facts(tmp_path / "v.gguf", "-m", other_gguf)["fits"]


def test_what_a_file_says_cannot_command_the_terminal(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "atv.json").read_text())
    manifest["target"]["name"] = "\x1b[2J\nforged  row"
    manifest["provenance"]["versions"] = {"data": "x", "files": "y", "size": "z"}
    manifest["provenance"]["metrics"] = {"loss": float("nan")}
    (bundle / "atv.json").write_text(json.dumps(manifest))
    result = cli(bundle)
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.stdout
    assert not any(line.startswith("forged") for line in result.stdout.splitlines())
    assert facts(bundle)["provenance"]["metrics"] == {"loss": None}
    write_control_vector(TaskVector(np.ones((3, 64))), tmp_path / "v.gguf", "\x1b[2J", {"files": "x", "note": "\x07"})
    result = cli(tmp_path / "v.gguf")
    assert result.exit_code == 0
    assert not {"\x1b", "\x07"} & set(result.stdout)


def test_layers_with_a_gap_are_listed(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "controlvector")
    for layer in (3, 20):
        writer.add_tensor(f"direction.{layer}", np.ones(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert re.search(r"layers +3, 20", cli(tmp_path / "v.gguf").stdout)


def test_a_model_too_small_to_steer_is_refused(tmp_path: Path) -> None:
    result = cli(write_gguf(tmp_path / "flat.gguf", n_layer=1))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cannot be steered: n_layer" in result.stderr


def test_the_vectors_of_queries(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("words\ncow 1\nhen 2\n")
    generator = Generator(Bundle(tiny_bundle))
    queries = ["fig $1 \x1b[2J", "cow 1", "hen 2"]
    options = ["-q", queries[0], "-f", tmp_path / "q.csv", "--column", "input=words"]
    found = facts(tiny_bundle, *options)
    assert [entry["query"] for entry in found["queries"]] == queries
    assert np.allclose(found["queries"][1]["norms"], generator("cow 1").norms(), atol=1e-5)
    a, b = (generator(query).array.ravel() for query in queries[1:])
    assert found["cosines"][1][2] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-4)
    assert found["cosines"][1][2] > found["cosines"][0][1]  # two beasts are more alike than a beast and a fruit
    result = cli(tiny_bundle, *options, "--picture", tmp_path / "p.png")
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.stdout
    assert "cow 1" in result.stdout
    with Image.open(tmp_path / "p.png") as picture:
        assert len(set(picture.convert("L").tobytes())) > 50
    (tmp_path / "photo.png").write_bytes((tmp_path / "p.png").read_bytes().replace(b"atv-local", b"a-camera!"))
    for name, more, code in (("p.png", [], 2), ("p.png", ["--overwrite"], 0), ("photo.png", ["--overwrite"], 2)):
        assert cli(tiny_bundle, *options, "--picture", tmp_path / name, *more).exit_code == code


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (1, ["absent"], "absent"),
        (1, ["absent.gguf"], "absent.gguf"),
        (1, ["text.gguf"], "not a GGUF"),
        (1, ["text.zip"], "bundle (a folder or zip with atv.json), GGUF model or control vector"),
        (1, ["."], "bundle (a folder or zip with atv.json), GGUF model or control vector"),
        (2, ["{gguf}", "-q", "hi"], "is a GGUF"),
        (2, ["{gguf}", "-m", "{gguf}"], "leave out -m"),
        (2, ["{bundle}", "--picture", "p.png"], "-q or -f"),
        (2, ["{bundle}", "-q", " "], "empty"),
        (1, ["{bundle}", "-m", "absent.gguf"], "absent.gguf"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tiny_bundle: Path,
    tiny_gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.gguf", "text.zip"):
        Path(name).write_text("nothing of the kind")
    result = cli(*(argument.format(gguf=tiny_gguf, bundle=tiny_bundle) for argument in arguments))
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_path_is_never_broken(tiny_bundle: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("a folder " * 12).strip() / ("long" * 40)
    folder.mkdir(parents=True)
    shutil.copytree(tiny_bundle, folder / "bundle")
    shutil.copy(tiny_gguf, folder / "m.gguf")
    for path in (folder / "bundle", folder / "m.gguf"):
        for columns in ("20", "80"):
            result = CliRunner().invoke(app, ["inspect", str(path)], env={"COLUMNS": columns})
            assert str(path) in result.stdout


def test_names_in_a_list_are_never_broken(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "40")
    model = shutil.copy(tiny_gguf, tmp_path / ("long" * 30 + ".gguf"))
    runner, name = CliRunner(), "n" * 60
    assert runner.invoke(app, ["alias", name, str(model)]).exit_code == 0
    assert runner.invoke(app, ["config", "model", str(model)]).exit_code == 0
    listed = runner.invoke(app, ["ls"])
    assert re.search(f"^{name} +model", listed.stdout, re.MULTILINE), listed.output
    assert f"{name}  {model}\n" in runner.invoke(app, ["alias"]).stdout
    assert str(model) in runner.invoke(app, ["config"]).stdout
