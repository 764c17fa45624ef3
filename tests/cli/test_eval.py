"""`atv-local eval`: its table, its files, and mistakes in one sentence."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_eval.answer_records import RECORDS
from tests.eval.tasks import write_task


@pytest.fixture
def cli(pair: list[str]) -> Callable[..., Result]:
    """The program on the tiny target."""
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments), *pair])


def test_a_row_that_cannot_be_asked_spoils_nothing(cli: Callable[..., Result], tmp_path: Path) -> None:
    rows = write_task(tmp_path / "kinds.jsonl", ["cat " * 400, "fig 1", "cat 1"], ["a", "b"])
    text = rows.read_text().replace("fig 1", "fig\\u2028 1")
    rows.write_text(text)
    command = ["eval", rows, "--no-harm", "--timed", "2", "-o", tmp_path / "out"]
    first, again = cli(*command), cli(*command)
    assert first.exit_code == again.exit_code == 0, first.stderr + again.stderr
    assert "| among the choices, % |" in first.stdout
    lines = [result.stdout.split(" | ")[:10] for result in (first, again)]
    assert lines[0] == lines[1]


def test_the_command_writes_results_and_resumes(
    cli: Callable[..., Result], asked: Path, shown: Path, unrelated: Path, tmp_path: Path
) -> None:
    command = ["eval", asked, "--shots-from", shown, "-o", tmp_path / "out"]
    first = cli(*command, "--timed", "2", "--unrelated", unrelated)
    assert first.exit_code == 0, first.stderr
    assert "| kinds: steered | 20 |" in first.stdout
    assert (tmp_path / "out" / "results.md").read_text() == first.stdout
    assert (tmp_path / "out" / "results.png").read_bytes()[:4] == b"\x89PNG"
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["harm"]) == {"steered", "random vectors of the same norms"}
    assert first.stdout.endswith(f"\n{results['verdict']}\n")
    assert set(results["first_token_ms"]) == {"base", "steered", "zero-shot", "k-shot", "bm25", "static"}
    kept = (tmp_path / "out" / RECORDS).read_bytes()
    again = cli(*command, "--timed", "0", "--no-harm", "--format", "csv")
    assert again.exit_code == 0, again.stderr
    assert (tmp_path / "out" / RECORDS).read_bytes() == kept
    assert again.stdout.startswith("task,method,rows,metric,main,")
    other = cli(*command, "--strength", "0.5")
    assert other.exit_code == 2
    assert "strength" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--method", "k-shot"], "--shots-from"), (["--layers", "3-99"], "steerable layers"),
     (["--shots-from", "SELF"], "also in --shots-from"), (["--column", "input=nothing"], "no column"),
     (["--unrelated", "/nothing"], "--no-harm")],
)  # fmt: skip
def test_mistakes_are_said_in_a_sentence(
    cli: Callable[..., Result], asked: Path, arguments: list[str], words: str
) -> None:
    result = cli("eval", asked, *(str(asked) if a == "SELF" else a for a in arguments), "--timed", "0", "--no-harm")
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_row_that_fails_counts_as_wrong(cli: Callable[..., Result], tmp_path: Path) -> None:
    rows = write_task(tmp_path / "kinds.jsonl", ["fig 1", "cat " * 400, "cat 1"])
    result = cli("eval", rows, "--timed", "0", "--no-harm", "--format", "csv", "--method", "steered")
    assert "1 answers failed" in result.stderr
    assert "row 2 of 'kinds'" in result.stderr
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["rows"], row["errors"]) == ("3", "1")
    assert float(row["exact"]) <= 2 / 3


def test_texts_are_scored_as_texts(cli: Callable[..., Result], tmp_path: Path) -> None:
    rows = tmp_path / "slots.jsonl"
    rows.write_text("".join(json.dumps({"input": f"q {n}", "output": json.dumps({"n": n})}) + "\n" for n in range(4)))
    command = ["eval", rows, "--timed", "0", "--no-harm", "--format", "json"]
    told = tmp_path / "told.json"
    told.write_text('{"other": "Do it."}')
    first = cli(*command, "--instructions", told)
    assert "'slots'" in first.stderr  # has no instruction
    assert "nearest" in first.stderr  # is left out
    assert "--shots-from" in first.stderr
    base, *_ = json.loads(first.stdout)["scores"]
    assert (base["metric"], set(base["scores"])) == ("slot_f1", {"exact", "json_valid", "slot_f1"})
    base, *_ = json.loads(cli(*command, "--metric", "chrf", "--metric", "bleu").stdout)["scores"]
    assert (base["metric"], set(base["scores"])) == ("chrf", {"chrf", "bleu"})
    refused = cli(*command, "--metric", "choice")
    assert refused.exit_code == 2
    assert "'slots'" in refused.stderr
    assert "--metric" in refused.stderr


def test_a_metric_without_its_package_is_said_before_anything_is_loaded(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atv_eval.metrics.metric_packages.find_spec", lambda _: None)
    result = CliRunner().invoke(app, ["eval", str(asked), "--metric", "chrf", "-m", "missing.gguf"])
    assert result.exit_code == 2
    assert "missing.gguf" not in result.stderr
    assert "sacrebleu" in result.stderr
    assert "atv-local[eval]" in result.stderr


def test_the_gate_is_an_option_and_a_table(tiny_gguf: Path, gated_bundle: Path, tmp_path: Path) -> None:
    rows = write_task(tmp_path / "kinds.jsonl", ["fig 1", "cat 1"])
    command = ["eval", str(rows), "--no-harm", "--timed", "0", "--method", "steered", "-t", "1"]
    pair = ["-m", str(tiny_gguf), "-g", str(gated_bundle)]
    for gate, steered in (("auto", 2), ("off", 2), ("1", 0)):
        result = CliRunner().invoke(app, [*command, *pair, "--gate", gate])
        assert result.exit_code == 0, result.stderr
        assert f"| kinds | 2 | {steered} | {50 * steered:.1f} |" in result.stdout
    wrong = CliRunner().invoke(app, [*command, *pair, "--gate", "2"])
    assert (wrong.exit_code, "--gate" in wrong.stderr) == (2, True)


def test_a_gate_that_the_bundle_does_not_have_is_said(tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    rows = write_task(tmp_path / "kinds.jsonl", ["fig 1"])
    command = ["eval", str(rows), "--no-harm", "--timed", "0", "--method", "steered", "-t", "1"]
    result = CliRunner().invoke(app, [*command, "-m", str(tiny_gguf), "-g", str(tiny_bundle), "--gate", "0.9"])
    assert result.exit_code == 0
    assert "--gate has no effect" in result.stderr
