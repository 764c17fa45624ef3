"""`-g a -g b`: each query goes to the bundle that it fits, and records say to which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_local.generator import Bundle
from tests.cli.batch_runs import batch, one_sentence, records, written
from tests.cli.chat_lines import chat

FRUIT, BEAST, OUTSIDE = "pear 7", "a cow", "something else"


@pytest.fixture
def target(tiny_gguf: Path) -> list[str]:
    return ["-m", str(tiny_gguf), "-t", "1"]


@pytest.fixture
def both(target: list[str], fruits_bundle: Path, beasts_bundle: Path) -> list[str]:
    return [*target, "-g", str(fruits_bundle), "-g", str(beasts_bundle)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def record(*arguments: object) -> dict[str, Any]:
    result = run("--json", "-n", "6", *arguments)
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


def test_run_answers_as_the_bundle_that_fits(
    target: list[str], both: list[str], fruits_bundle: Path, beasts_bundle: Path
) -> None:
    for query, bundle in ((FRUIT, fruits_bundle), (BEAST, beasts_bundle)):
        routed, alone = record(*both, query), record(*target, "-g", bundle, query)
        assert routed["gate"].pop("bundle") == routed["bundle"] == Bundle(bundle).id
        assert routed | {"timings_ms": None} == alone | {"timings_ms": None}
    base, routed = record(*target, "--off", OUTSIDE), record(*both, OUTSIDE)
    assert (routed["text"], routed["bundle"], routed["strength"]) == (base["text"], None, 0)
    assert "at best" in run(*both, OUTSIDE).stderr


def test_the_vector_that_is_shown_and_compared_is_that_of_the_bundle(both: list[str]) -> None:
    shown = run(*both, "--show-vector", BEAST)
    assert (shown.exit_code, shown.stdout) == (0, run(*both, BEAST).stdout)
    compared = run(*both, "--compare", "--json", BEAST)
    assert json.loads(compared.stdout)["with"]["layers"] == [1, 2]


def test_a_batch_says_which_bundle_steered(
    both: list[str], fruits_bundle: Path, beasts_bundle: Path, tmp_path: Path
) -> None:
    file = written(tmp_path / "in.jsonl", [{"input": query} for query in (FRUIT, OUTSIDE, BEAST)])
    result = batch(file, tmp_path / "out.jsonl", *both, "-n", "6")
    assert result.exit_code == 0, result.output
    rows = records(tmp_path / "out.jsonl")
    assert [row["bundle"] for row in rows] == [Bundle(fruits_bundle).id, None, Bundle(beasts_bundle).id]
    assert [row["text"] for row in rows] == [record(*both, row["input"])["text"] for row in rows]
    turned = [*both[:4], "-g", str(beasts_bundle), "-g", str(fruits_bundle)]
    one_sentence(batch(file, tmp_path / "out.jsonl", *turned, "-n", "6"), 2, "--overwrite")


def test_a_batch_says_that_the_bundle_has_no_gate(target: list[str], tiny_bundle: Path, tmp_path: Path) -> None:
    file = written(tmp_path / "in.jsonl", [{"input": FRUIT}])
    result = batch(file, tmp_path / "out.jsonl", *target, "-g", str(tiny_bundle), "--gate", "0.9", "-n", "2")
    assert result.exit_code == 0
    assert "--gate has no effect" in result.stderr


def test_a_column_that_is_named_bundle_is_replaced_and_noted(both: list[str], tmp_path: Path) -> None:
    file = written(tmp_path / "in.jsonl", [{"input": FRUIT, "bundle": "mine"}])
    assert "has a column 'bundle'" in batch(file, tmp_path / "out.jsonl", *both).stderr
    assert "has a column 'bundle'" not in batch(file, tmp_path / "one.jsonl", *both[:6]).stderr
    assert records(tmp_path / "one.jsonl")[0]["bundle"] == "mine"


def test_two_bundles_without_a_gate_are_refused(target: list[str], tiny_bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for file in sorted(tiny_bundle.rglob("*.*")):
        copy = other / file.relative_to(tiny_bundle)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes() + b"\n" * (file.name == "atv.json"))
    one_sentence(run(*target, "-g", tiny_bundle, "-g", other, FRUIT), 2, "gate", str(tiny_bundle), str(other))
    one_sentence(run(*target, "-g", tiny_bundle, "-g", tiny_bundle, FRUIT), 2, "twice")


def test_off_checks_every_bundle(both: list[str]) -> None:
    assert run(*both, "--off", FRUIT).exit_code == 0
    one_sentence(run(*both, "-g", "./nothing", "--off", FRUIT), 1, "nothing")


def test_a_chat_names_the_bundle_of_each_turn(both: list[str]) -> None:
    result = chat([*both, "-n", "4"], "/set verbose on", FRUIT, BEAST, OUTSIDE, "/gate", "/show", FRUIT, "/show")
    assert result.exit_code == 2
    costs = [line for line in result.stderr.splitlines() if "tokens evaluated" in line]
    for cost, words in zip(costs, ("bundle fruits", "bundle beasts", "not steered", "bundle fruits"), strict=True):
        assert words in cost
    assert "bundle" not in costs[2]
    assert "was not steered" in result.stderr
    assert "/gate off" in result.stderr


@pytest.mark.parametrize(
    "command", [["calibrate", "x.jsonl", "--dry-run"], ["vector", "-o", "v.gguf", "x"], ["doctor"], ["bench"]]
)
def test_a_verb_of_one_bundle_refuses_several(
    command: list[str], fruits_bundle: Path, beasts_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["-g", str(fruits_bundle), f"--bundle={beasts_bundle}"]
    result = CliRunner().invoke(app, [command[0], *given, *command[1:]])
    assert result.exit_code == 2
    assert "2 bundles" in result.stderr
    assert not list(tmp_path.iterdir())
