"""The library's messages in the words of a command."""

# ruff: noqa: ARG001  # the parameters are there for their flags

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from atv_cli import app as main_app
from atv_cli.error_messages import for_command_line


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("`max_tokens` 0 is below 1", "--max-tokens 0 is below 1"),
        ("name one with `model=...`", "name one with --model"),
        ("pass `overwrite=True`", "pass --overwrite"),
        ("pass `verify=False`", "pass --no-verify"),
        ("train with `positions=all`", "train with --positions all"),
        ("load it with `off=True`", "load it with --off"),
        ("pass it in `control_vectors`", "pass it in --control-vector"),
        ("`offline=True` downloads nothing", "--offline downloads nothing"),
        ("raise `n_ctx`", "raise --n-ctx"),
        ("name yours with `columns={'input': ...}`", "name yours with --column input=NAME"),
        ("one of `methods`", "one of --method"),
        ("`data` is empty", "DATA is empty"),
        ("`unknown` has no flag, `overwrite=False` neither", "unknown has no flag, overwrite=False neither"),
        (
            "not here; get it with `atv_local.names.pull_name('hf:a/b:Q4_0')`",
            "not here; get it with atv-local pull hf:a/b:Q4_0",
        ),
        ("run `atv-local ls`", "run `atv-local ls`"),
        (
            "name one with `model=...`, or pass `off=True`; it is embedded",
            "name one with --model, or pass --off; it is embedded",
        ),
        ("name one with `model=...`, or pass `provider=cpu`; it is embedded", "name one with --model; it is embedded"),
        ("name one with `model=...` or use `hold_out`", "name one with --model"),
    ],
)
def test_backticked_parameters_become_flags_of_the_command(message: str, expected: str) -> None:
    app = typer.Typer()

    @app.callback()
    def program(offline: Annotated[bool, typer.Option("--offline")] = False) -> None:
        pass

    @app.command()
    def train(
        context: typer.Context,
        data: str,
        model: Annotated[str, typer.Option("-m", "--model")] = "",
        max_tokens: Annotated[int, typer.Option("-n", "--max-tokens")] = 1,
        size: Annotated[int, typer.Option("-c", "--ctx-size", "--n-ctx")] = 1,
        positions: str = "",
        control_vector: str = "",
        column: str = "",
        method: str = "",
        overwrite: Annotated[bool, typer.Option("--overwrite")] = False,
        off: Annotated[bool, typer.Option("--off")] = False,
        verify: Annotated[bool, typer.Option("--verify/--no-verify")] = True,
    ) -> None:
        print(for_command_line(message, context))

    assert CliRunner().invoke(app, ["train", "x"]).stdout.strip() == expected


@pytest.fixture
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


MISTAKES = [
    ["run", "MODEL", "hi"],
    ["run", "MODEL", "--off", "--strength", "5000", "hi"],
    ["run", "MODEL", "-g", "BUNDLE", "--layers", "4", "hi"],
    ["run", "MODEL", "-g", "BUNDLE", "--temperature", "-1", "hi"],
    ["run", "MODEL", "-c", "999999", "--off", "hi"],
    ["run", "MODEL", "--control-vector-scaled", "x:y", "hi"],
    ["chat", "MODEL", "-g", "BUNDLE"],
    ["chat", "MODEL"],
    ["batch", "ROWS", "out.jsonl", "MODEL"],
    ["batch", "ROWS", "out.jsonl", "MODEL", "-g", "BUNDLE", "--column", "x=y"],
    ["eval", "ROWS", "MODEL"],
    ["eval", "ROWS", "MODEL", "-g", "BUNDLE", "--method", "bm25"],
    ["eval", "ROWS", "MODEL", "-g", "BUNDLE", "--column", "input=q"],
    ["calibrate", "ROWS", "MODEL", "-o", "cal"],
    ["calibrate", "ROWS", "MODEL", "-g", "BUNDLE"],
    ["calibrate", "ROWS", "MODEL", "-g", "BUNDLE", "-o", "cal", "--budget", "0"],
    ["vector", "-g", "BUNDLE", "-o", "v.gguf", "--layers", "7", "hi"],
    ["vector", "-g", "MISSING", "-o", "v.gguf", "hi"],
    ["bench", "MODEL", "--rounds", "0"],
    ["bench", "MODEL", "--only", "x"],
    ["inspect", "BUNDLE", "--picture", "x.png"],
    ["serve", "MODEL", "--port", "0"],
    ["serve", "MODEL", "--off", "--timeout", "-1"],
    ["train", "MISSING", "MODEL", "-o", "run"],
    ["export", "MISSING", "out"],
    ["alias", "x.gguf", "demo"],
    ["config", "model", "demo"],
]


@pytest.mark.usefixtures("_in_empty_folder")
@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_no_parameter_of_python_reaches_the_user(
    words: list[str],
    tiny_gguf: Path,
    tiny_bundle: Path,
    tiny_rows: Path,
) -> None:
    files = {"BUNDLE": [tiny_bundle], "ROWS": [tiny_rows], "MODEL": ["-m", tiny_gguf], "MISSING": ["missing"]}
    arguments = [str(part) for word in words for part in files.get(word, [word])]
    result = CliRunner().invoke(main_app, arguments, input="/layers 9\n/set strength nan\n/set top_p 0\n")
    assert result.exit_code in (1, 2), result.output
    assert result.stderr.strip()
    assert re.findall(r"`[a-z_]+(?:=[^`]*)?`", result.stderr) == []
    if "--off" in result.stderr:
        assert "--off" in CliRunner().invoke(main_app, [words[0], "--help"]).stdout
