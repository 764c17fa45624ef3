"""`atv-local calibrate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_local.generator.bundle import Bundle


@pytest.fixture
def cli(pair: list[str]) -> Callable[..., Result]:
    """The program on the tiny target."""
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments), *pair])


def test_calibrate_prints_the_curve_and_writes(
    cli: Callable[..., Result], asked: Path, unrelated: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    calibrate = ["calibrate", asked, "--strengths", "0.1,1", "--no-search-layers", "--unrelated", unrelated]
    command = [*calibrate, "--budget", "50"]
    dry = cli(*command, "--dry-run")
    assert dry.exit_code == 0, dry.stderr
    result = cli(*command, "-o", tmp_path / "new")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == dry.stdout
    assert "measuring 2 strengths" in result.stderr.splitlines()
    assert result.stdout.count("(chosen)") == 1
    chosen = float(next(line for line in result.stdout.splitlines() if "(chosen)" in line).split()[1])
    assert Bundle(tmp_path / "new").manifest.steering.strength == chosen
    assert Bundle(tiny_bundle).manifest.steering.strength == 1
    tight = cli(*calibrate, "--budget", "1e-9", "-o", tmp_path / "never")
    assert tight.exit_code == 1
    assert "raise --budget" in tight.stderr
    assert not (tmp_path / "never").exists()
    assert cli(*command, "--strengths", "a").exit_code == 2
