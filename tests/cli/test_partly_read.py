"""Queries that the generator does not read whole: said on stderr, and in the record."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from atv_cli.main import app
from atv_local.batch.row_results import skip_answered
from atv_local.data.request_rows import read_requests
from atv_local.data.resumable_output import ResumableOutput
from tests.cli.batch_runs import batch, records, written

LONG = "apple " * 80
"""More than the 64 tokens that the tiny generator reads."""


def cli(*arguments: object, stdin: str = "") -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], input=stdin)


@pytest.mark.parametrize("form", [[], ["--json"], ["--no-stream"]])
def test_run_says_that_a_query_is_cut(pair: list[str], form: list[str]) -> None:
    result = cli("run", *pair, *form, "-n", 4, LONG)
    assert result.exit_code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("atv-local: ")
    assert f"of {len(LONG.strip())} characters" in line
    if form == ["--json"]:
        read = json.loads(result.stdout)["generator_read"]
        assert 0 < read["chars"] < read["of"] == len(LONG.strip())
        assert f"first {read['chars']} of" in line


def test_run_says_what_is_unknown(pair: list[str]) -> None:
    result = cli("run", *pair, "--json", "apple 👍")
    assert "'👍'" in result.stderr
    assert json.loads(result.stdout)["generator_read"] == {"chars": 7, "of": 7, "unknown": 1}


def test_nothing_is_said_of_what_does_not_steer(pair: list[str]) -> None:
    for query in (LONG, "apple 👍"):
        result = cli("run", *pair, "--off", "--json", "-n", 2, query)
        assert result.stderr == ""
        assert "generator_read" not in json.loads(result.stdout)
    result = cli("run", *pair, "--json", "apple 1")
    assert (result.stderr, "generator_read" in json.loads(result.stdout)) == ("", False)


def test_compare_says_it_once(pair: list[str]) -> None:
    result = cli("run", *pair, "--compare", "--json", "-n", 2, LONG)
    assert len(result.stderr.splitlines()) == 1
    both = json.loads(result.stdout)
    assert ["generator_read" in both[name] for name in ("without", "with")] == [False, True]


def test_chat_says_it_below_the_answer(pair: list[str]) -> None:
    result = cli("chat", *pair, "-n", 2, stdin=f"{LONG}\napple 1\n")
    assert result.stderr.count("the generator read only the first") == 1


def test_vector_says_it_of_one_query_and_of_a_file(pair: list[str], tmp_path: Path) -> None:
    bundle = pair[2:4]
    one = cli("vector", *bundle, LONG, "-o", tmp_path / "one.gguf")
    assert f"of {len(LONG)} characters" in one.stderr
    queries = tmp_path / "queries.txt"
    queries.write_text(f"apple 1\n{LONG}\npear 👍\n", encoding="utf-8")
    cut, unknown = cli("vector", *bundle, "-f", queries, "-o", tmp_path / "mean.gguf").stderr.splitlines()
    assert "1 of 3" in cut
    assert "1 of 3" in unknown


def test_inspect_has_it_in_its_facts(pair: list[str], tmp_path: Path) -> None:
    queries = tmp_path / "queries.txt"
    queries.write_text(f"apple 1\n{LONG}\n")
    facts = json.loads(cli("inspect", pair[3], "-f", queries, "--json").stdout)["queries"]
    assert [query.get("generator_read", {}).get("of") for query in facts] == [None, len(LONG.strip())]


def test_batch_says_it_in_the_record_and_once_in_the_end(pair: list[str], tmp_path: Path) -> None:
    rows = written(tmp_path / "in.jsonl", [{"input": text} for text in (LONG, "apple 1", "cow 👍", LONG)])
    result = batch(rows, tmp_path / "out.jsonl", *pair, "-n", 2)
    assert result.exit_code == 0
    assert sum("generator_read" in line for line in result.stderr.splitlines()) == 1
    assert "3 queries" in result.stderr
    read = [record.get("generator_read") for record in records(tmp_path / "out.jsonl")]
    assert read[1] is None
    assert read[0] == read[3]
    assert read[0]["chars"] < read[0]["of"] == len(LONG)
    assert read[2] == {"chars": 5, "of": 5, "unknown": 1}


def test_batch_to_csv_and_without_steering(pair: list[str], tmp_path: Path) -> None:
    rows = written(tmp_path / "in.jsonl", [{"input": text} for text in ("apple 1", LONG)])
    assert batch(rows, tmp_path / "out.csv", *pair, "-n", 2).exit_code == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["generator_read"] == ""
    assert json.loads(second["generator_read"])["of"] == len(LONG)
    off = batch(rows, tmp_path / "off.jsonl", *pair, "--off", "-n", 2)
    assert "generator_read" not in off.stderr + (tmp_path / "off.jsonl").read_text()


def test_a_record_with_it_is_still_that_of_its_row(tmp_path: Path) -> None:
    row = next(read_requests(io.BytesIO(json.dumps({"input": LONG}).encode()), tmp_path / "in.jsonl"))
    record = {"input": LONG, "line": 1, "text": "a", "generator_read": {"chars": 1, "of": 2, "unknown": 0}}
    with ResumableOutput(tmp_path / "out.jsonl", {}) as output:
        output.append(record)
        assert skip_answered(iter([row]), output) == (1, 0)


def test_eval_reports_it(pair: list[str], tmp_path: Path) -> None:
    data = [("apple " * 70 + "a", "a"), ("apple " * 70 + "b", "b"), ("cow 👍", "a"), ("cow 👎", "b")]
    rows = written(tmp_path / "kinds.jsonl", [{"input": text, "output": output} for text, output in data])
    arguments = ["eval", rows, *pair, "--method", "steered", "--no-harm", "--timed", 0, "-n", 2]
    result = cli(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "2 of 4 queries is not read" in result.stderr
    assert "cannot tell 4 of 4 rows apart" in result.stderr
    assert "annot tell 4 of 4 rows apart" in result.stdout
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["reading"]) == 3
    base = cli(*arguments[:-7], "--method", "base", "--no-harm", "--timed", 0, "-n", 2)
    assert "generator" not in base.stderr
