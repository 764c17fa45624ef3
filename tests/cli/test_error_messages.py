"""The library's messages in the words of a command."""

# ruff: noqa: ARG001  # the parameters are there for their flags

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

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
        ("`data` is empty", "DATA is empty"),
        ("`unknown` and `atv-local ls` stay, `overwrite=False` too", None),
    ],
)
def test_backticked_parameters_become_flags_of_the_command(message: str, expected: str | None) -> None:
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
        overwrite: Annotated[bool, typer.Option("--overwrite")] = False,
        off: Annotated[bool, typer.Option("--off")] = False,
        verify: Annotated[bool, typer.Option("--verify/--no-verify")] = True,
    ) -> None:
        print(for_command_line(message, context))

    assert CliRunner().invoke(app, ["train", "x"]).stdout.strip() == (expected or message)
