"""Options as llama.cpp's programs call them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from atv_cli.main import app
from atv_local import TaskVector
from atv_local.vectors import split_files, write_control_vector


def record(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["run", "--json", *map(str, arguments)])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def error(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["run", *map(str, arguments)])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    return result.stderr


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two control vectors for the tiny model."""
    folder = tmp_path_factory.mktemp("vectors")
    for seed, name in enumerate(("left.gguf", "right.gguf")):
        array = np.random.default_rng(seed).normal(size=(3, 64)).astype(np.float32)
        write_control_vector(TaskVector(array), folder / name)
    return folder


def test_names_of_llama_cpp_mean_the_same(tiny_gguf: Path) -> None:
    base = ("-m", tiny_gguf, "--off")
    ours = record(*base, "-n", 2, "-s", "a", "hello")["tokens"]
    for theirs in (["-p", "hello", "-sys", "a", "--n-predict", 2],
                   ["--prompt", "hello", "--system-prompt", "a", "--predict", 2]):  # fmt: skip
        assert record(*base, *theirs)["tokens"] == ours


def test_the_files_of_schemas_and_grammars(tiny_gguf: Path, tmp_path: Path) -> None:
    schema, grammar = tmp_path / "s.json", tmp_path / "g.gbnf"
    schema.write_text('{"const": 7}')
    grammar.write_text('root ::= "abc"')
    base = ("-m", tiny_gguf, "--off", "-p", "hello")
    assert [record(*base, flag, schema)["text"] for flag in ("-jf", "--json-schema-file")] == ["7", "7"]
    assert record(*base, "--grammar-file", grammar)["text"] == "abc"


def test_a_repository_without_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("user/repo-of-nobody:Q8_0", "hf:user/repo-of-nobody:Q8_0"):
        for flag in ("-hf", "--hf-repo"):
            result = CliRunner().invoke(app, ["run", flag, name, "-p", "hello", "--off"])
            assert (result.exit_code, "pull hf:user/repo-of-nobody:Q8_0" in result.stderr) == (1, True), result.output


def test_the_layers_of_control_vectors(tiny_gguf: Path, vectors: Path) -> None:
    base = ("-m", tiny_gguf, "--control-vector", vectors / "left.gguf", "-n", 1, "hello")
    assert record(*base, "--control-vector-layer-range", 2, 3)["layers"] == [2, 3]
    assert "9" in error(*base, "--control-vector-layer-range", 3, 9)


@pytest.mark.parametrize(
    "twice",
    [["-m", "a.gguf", "-hf", "user/repo"], ["-n", "3", "--n-predict", "4"], ["-p", "a", "b"],
     ["--layers", "1-2", "--control-vector-layer-range", "1", "2"]],
)  # fmt: skip
def test_one_thing_under_two_names_is_refused(twice: list[str]) -> None:
    assert "give one of them" in error(*twice)


def test_several_control_vectors_with_commas(tiny_gguf: Path, vectors: Path) -> None:
    left, right = vectors / "left.gguf", vectors / "right.gguf"
    base = ("-m", tiny_gguf, "-n", 1, "hello")
    repeated = record(*base, "--control-vector", left, "--control-vector", right)
    assert record(*base, "--control-vector", f"{left},{right}")["control_vectors"] == repeated["control_vectors"]
    assert split_files(f"{left}:2, {right}") == [f"{left}:2", str(right)]
    scaled = record(*base, "--control-vector-scaled", f"{left}:0.5,{right}:-0.3")["control_vectors"]
    assert [(one["name"], one["scale"]) for one in scaled] == [("left.gguf", 0.5), ("right.gguf", -0.3)]


def test_a_comma_in_the_name_of_a_file(tiny_gguf: Path, vectors: Path, tmp_path: Path) -> None:
    file = tmp_path / "calm,happy.gguf"
    file.write_bytes((vectors / "left.gguf").read_bytes())
    base = ("-m", tiny_gguf, "-n", 1, "hello")
    for given in (["--control-vector", file], ["--control-vector-scaled", f"{file}:1.0"]):
        assert [one["name"] for one in record(*base, *given)["control_vectors"]] == [file.name]
    assert "empty name" in error(*base, "--control-vector", f"{vectors / 'left.gguf'},")


def test_the_names_are_not_in_the_help() -> None:
    assert "--hf-repo" not in CliRunner().invoke(app, ["run", "--help"]).stdout


@pytest.mark.parametrize("option", ["-st", "-sysf", "-sm", "-fa", "-no-cnv", "-mu", "-hff", "-hft"])
def test_other_options_of_llama_cpp_are_not_values_of_ours(tiny_gguf: Path, option: str) -> None:
    assert f"{option} is not an option here" in error("-m", tiny_gguf, "--off", option, "hello")


def test_values_may_stand_right_behind_a_short_option_or_look_like_one(tiny_gguf: Path) -> None:
    expected = record("-m", tiny_gguf, "--off", "-n", 2, "-s", "be brief", "hello")["text"]
    assert record("-m", tiny_gguf, "--off", "-n2", "-sbe brief", "hello")["text"] == expected
    assert record("-m", tiny_gguf, "--off", "-n", 1, "-s", "-st", "hello")["finish_reason"] == "length"
    assert record("-m", tiny_gguf, "--off", "-n", 1, "--", "-st")["finish_reason"] == "length"


def test_s_is_not_the_seed(tiny_gguf: Path) -> None:
    assert "--seed" in error("-m", tiny_gguf, "--off", "-s", 42, "hello")
