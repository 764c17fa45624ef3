"""Evaluations from Python: the same results as the command's."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from atv_cli.main import app
from atv_eval.answer_records import EvalRecord
from atv_eval.calibration import calibrate
from atv_eval.eval_hooks import EvalHooks
from atv_eval.evaluation import evaluate
from atv_local.answer import load
from atv_local.errors import UsageError


def test_python_measures_what_the_command_does(tiny_gguf: Path, tiny_bundle: Path, asked: Path, tmp_path: Path) -> None:
    options = ["--timed", "0", "--no-harm", "--format", "json", "--rows", "6", "--strength", "0.5"]
    command = CliRunner().invoke(app, ["eval", str(asked), *options, "-m", str(tiny_gguf), "-g", str(tiny_bundle)])
    seen: list[EvalRecord] = []
    settings = {"model": tiny_gguf, "bundle": tiny_bundle, "rows": 6, "strength": 0.5, "timed": 0, "harm": False}
    result = evaluate(asked, output=tmp_path / "out", hooks=EvalHooks(on_record=seen.append), **settings)  # type: ignore[arg-type]
    assert json.loads(result.as_json()) == json.loads(command.stdout)
    assert result.failures == []
    assert {record.key for record in seen} == {record.key for record in result.records}
    assert len(seen) == 18
    assert (tmp_path / "out" / "results.md").read_text() == result.as_markdown()
    with pytest.raises(UsageError, match=r"`methods`.*base, steered"):
        evaluate(asked, methods=["best"], model=tiny_gguf, bundle=tiny_bundle)
    with pytest.raises(UsageError, match="`harm=False`"):
        evaluate(asked, unrelated="x.txt", harm=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("rows", 0), ("rows", -1), ("rows", True), ("max_tokens", 0), ("shots", 0), ("timed", -1), ("seed", -1)),
        *(
            ("seed", "a"),
            ("shots", 2.5),
            ("strength", "1"),
            ("strength", float("nan")),
            ("strength", 5000),
            ("layers", 5),
        ),
        *(("positions", "nowhere"), ("methods", "steered"), ("methods", ["best"]), ("methods", None)),
        *(("columns", "input=x"), ("columns", None), ("data", []), ("shots_from", None), ("output", "")),
        *(("harm", 1), ("provider", "gpu"), ("precision", "int4"), ("n_threads", 0), ("n_ctx", "512"), ("hooks", 1)),
    ],
)
def test_a_value_that_does_not_fit_is_named(asked: Path, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^`{name}` {re.escape(repr(value))} is not "):
        evaluate(**{"data": asked, name: value})  # type: ignore[arg-type]  # one of several


@pytest.mark.parametrize(
    ("name", "value", "methods"),
    [
        *((name, value, ["base", "bm25"]) for name, value in (("strength", 2), ("layers", (9, 10)))),
        *((name, value, ["base"]) for name, value in (("positions", "last"), ("unrelated", "x.txt"))),
        *((name, value, ["base"]) for name, value in (("provider", "cpu"), ("precision", "fp32"))),
        ("shots_from", "x.jsonl", ["base", "steered"]),
        ("instructions", "x.json", ["base", "nearest"]),
    ],
)
def test_an_option_that_no_method_reads_is_refused(asked: Path, name: str, value: object, methods: list[str]) -> None:
    with pytest.raises(UsageError, match=f"`{name}` has no effect without .* with `methods`"):
        evaluate(asked, methods=methods, **{name: value})  # type: ignore[arg-type]  # one of several
    flag = "--" + name.replace("_", "-")
    words = [flag, "9-10" if name == "layers" else str(value), *(word for m in methods for word in ("--method", m))]
    refused = CliRunner().invoke(app, ["eval", str(asked), *words])
    assert refused.exit_code == 2
    assert f"{flag} has no effect without" in refused.stderr
    assert "with --method" in refused.stderr


@pytest.mark.parametrize("function", [evaluate, calibrate])
def test_no_option_takes_just_any_value(asked: Path, function: Callable[..., object]) -> None:
    for name in inspect.signature(function).parameters:
        with pytest.raises(UsageError, match=f"^`{name}` <object .* is not "):
            function(**{"data": asked, "bundle": "demo", name: object()})


@pytest.mark.parametrize("measure", [evaluate, calibrate])
def test_target_and_bundle_are_named(measure: Callable[..., object], asked: Path) -> None:
    with pytest.raises(TypeError, match="positional"):
        measure(asked, "demo")


def test_an_output_that_cannot_be_used_is_refused_before_the_target_is_loaded(asked: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.json").write_text("{}")
    for name in ("file", "other"):
        with pytest.raises(UsageError, match=name):
            evaluate([asked], model="missing.gguf", bundle="missing", output=tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"


def test_control_vectors_steer_alone_or_beside_a_bundle(
    tiny_gguf: Path, tiny_bundle: Path, asked: Path, tmp_path: Path
) -> None:
    with load(tiny_gguf, tiny_bundle, n_threads=1) as engine:
        engine.control_vector(["apple 1"]).save(tmp_path / "fruit.gguf")
        (-engine.vector("apple 1")).save(tmp_path / "minus.gguf")
    settings: dict[str, Any] = {"model": tiny_gguf, "rows": 6, "timed": 0, "harm": False, "methods": ["steered"]}
    given = [tmp_path / "fruit.gguf", (tmp_path / "minus.gguf", 0.5)]
    alone = evaluate(asked, control_vectors=given, **settings)
    assert alone.about["bundle"] is None
    assert [(one["name"], one["scale"]) for one in alone.about["control_vectors"]] == [
        ("fruit.gguf", 1.0),
        ("minus.gguf", 0.5),
    ]
    flags = ["--control-vector", tmp_path / "fruit.gguf", "--control-vector-scaled", f"{tmp_path / 'minus.gguf'}:0.5"]
    options = ["--timed", 0, "--no-harm", "--format", "json", "--rows", 6, "--method", "steered", *flags]
    command = CliRunner().invoke(app, ["eval", str(asked), *map(str, options), "-m", str(tiny_gguf)])
    assert json.loads(command.stdout) == json.loads(alone.as_json())
    beside = evaluate(asked, bundle=tiny_bundle, control_vectors=given, **settings)
    plain = evaluate(asked, bundle=tiny_bundle, output=tmp_path / "out", **settings)
    assert "control_vectors" not in plain.about
    assert len({result.as_json() for result in (alone, beside, plain)}) == 3
    with pytest.raises(UsageError, match="control_vectors"):
        evaluate(asked, bundle=tiny_bundle, output=tmp_path / "out", control_vectors=given, **settings)
