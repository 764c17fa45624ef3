"""`atv-local batch` killed, interrupted, full disk: what was answered is neither lost nor asked again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atv_local.batch.row_results import ADDED, AnswerSettings
from atv_local.data.resumable_output import ResumableOutput
from atv_local.target.sampling import Sampling
from tests.cli.batch_runs import ROWS, batch, one_sentence, records, written


@pytest.fixture
def pair(pair: list[str]) -> list[str]:
    return [*pair, "-n", "6"]


@pytest.fixture
def settings(tiny_gguf: Path, tiny_bundle: Path) -> AnswerSettings:
    """What `pair` says, as `batch` records it."""
    return AnswerSettings(tiny_gguf, tiny_bundle, max_tokens=6, n_threads=1, sampling=Sampling(seed=0))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return written(tmp_path / "in.jsonl", ROWS)


@pytest.mark.parametrize("sampling", [[], ["--temp", "1.5", "--top-k", "0", "--seed", "3"]])
def test_killed_and_resumed_it_ends_in_the_same_bytes(
    pair: list[str], rows: Path, tmp_path: Path, sampling: list[str]
) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    options = [*pair, *sampling, "--parallel", "3"]
    assert batch(rows, whole, *options).exit_code == 0
    killed = begun(output, options, rows.read_bytes())
    killed.kill()
    killed.wait()
    assert not output.exists()
    done = len((tmp_path / "out.jsonl.partial").read_text().splitlines())
    assert 5 <= done <= len(ROWS)
    result = batch(rows, output, *options)
    assert (result.exit_code, output.read_bytes()) == (0, whole.read_bytes()), result.output
    assert f"{done} rows" in result.stderr.splitlines()[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "whole.jsonl"]


def begun(output: Path, options: list[str], rows: bytes) -> subprocess.Popen[bytes]:
    """A process that has answered some rows and waits for more: it cannot end by itself."""
    command = [sys.executable, "-m", "atv_cli", "batch", "-", str(output), *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(rows)
    process.stdin.flush()
    partial, deadline = output.with_name(f"{output.name}.partial"), time.monotonic() + 120
    while not (partial.exists() and partial.read_bytes().count(b"\n") >= 5):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_ctrl_c_says_how_to_go_on(pair: list[str], rows: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    process = begun(output, [*pair, "--parallel", "3"], rows.read_bytes())
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, b"")
    assert b"Traceback" not in stderr
    assert b"run the same command to resume" in stderr
    assert batch(rows, output, *pair).exit_code == 0
    assert [record["id"] for record in records(output)] == [row["id"] for row in ROWS]


@pytest.fixture
def answered(pair: list[str], rows: Path, tmp_path: Path) -> list[dict[str, Any]]:
    assert batch(rows, tmp_path / "whole.jsonl", *pair).exit_code == 0
    return records(tmp_path / "whole.jsonl")


def left(output: Path, settings: AnswerSettings, answered: list[dict[str, Any]], torn: bytes = b"") -> Path:
    """What a process that died leaves."""
    with ResumableOutput(output, settings.identity()) as partial:
        for record in answered:
            partial.append(record)
    with partial.path.open("ab") as file:
        file.write(torn)
    return partial.path


def test_a_torn_line_is_answered_again(
    pair: list[str], rows: Path, tmp_path: Path, settings: AnswerSettings, answered: list[dict[str, Any]]
) -> None:
    whole = (tmp_path / "whole.jsonl").read_bytes()
    line = whole.splitlines(keepends=True)[7]
    for length in (0, 1, len(line) // 2, len(line) - 1):
        output = tmp_path / f"out{length}.jsonl"
        left(output, settings, answered[:7], line[:length])
        result = batch(rows, output, *pair)
        assert (result.exit_code, output.read_bytes()) == (0, whole), result.output
        assert "after 7 rows" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--strength", "2"], ["strength", "'2.0'"]),
        (["-n", "7"], ["--max-tokens 6", "7 now"]),
        (["-s", "Be kind."], ["system", "Be kind."]),
        (["--temp", "1"], ["sampling", "greedy"]),
        (["--off"], ["bundle"]),
    ],
)
def test_it_does_not_go_on_with_other_settings(
    pair: list[str], rows: Path, tmp_path: Path, settings: AnswerSettings, options: list[str], words: list[str]
) -> None:
    output = tmp_path / "out.jsonl"
    partial = left(output, settings, [{**ROWS[0], "line": 1, "text": "a", "finish_reason": "stop", "tokens": {}}])
    before = partial.read_bytes()
    one_sentence(batch(rows, output, *pair, *options), 2, "--overwrite", *words)
    assert partial.read_bytes() == before
    assert batch(rows, output, *pair, *options, "--overwrite").exit_code == 0
    assert len(records(output)) == len(ROWS)


def test_off_goes_on_with_whatever_would_steer(
    pair: list[str], rows: Path, tmp_path: Path, settings: AnswerSettings
) -> None:
    output = tmp_path / "out.jsonl"
    first = {**ROWS[0], "line": 1, "text": "left alone", "finish_reason": "stop", "tokens": {}}
    left(output, replace(settings, bundle=None, off=True), [first])
    steering = ["--strength", "2", "--layers", "1-2", "--provider", "cpu", "--precision", "int8"]
    assert batch(rows, output, *pair, *steering, "--off").exit_code == 0
    assert [len(records(output)), records(output)[0]["text"]] == [len(ROWS), "left alone"]


def test_an_input_that_has_grown_and_one_that_has_changed(
    pair: list[str], tmp_path: Path, settings: AnswerSettings, answered: list[dict[str, Any]]
) -> None:
    grown, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    left(output, settings, answered)
    with grown.open("a") as file:
        file.write('{"input": "fig 1", "id": "late"}\n')
    for changed in (grown.read_text().replace("dog-1", "dog-x"), "\n" + grown.read_text(), ""):
        (tmp_path / "changed.jsonl").write_text(changed)
        one_sentence(batch(tmp_path / "changed.jsonl", output, *pair), 2, "of the input is not the row", "--overwrite")
    result = batch(grown, output, *pair)
    assert result.exit_code == 0
    assert records(output)[:-1] == answered
    assert records(output)[-1]["id"] == "late"


def test_rows_passed_over_before_are_counted_and_not_named_again(
    pair: list[str], tmp_path: Path, settings: AnswerSettings
) -> None:
    file, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"input": "apple 1"}\nbad\n{"input": "dog 1"}\nbad too\n{"input": "cat 1"}\n')
    assert batch(file, output, *pair).exit_code == 0
    whole = records(output)
    output.unlink()
    left(output, settings, whole[:2])
    result = batch(file, output, *pair, "--strict")
    assert result.exit_code == 1
    assert f"{file}:2" not in result.stderr
    assert f"{file}:4" in result.stderr
    assert "3 rows answered, 2 skipped" in result.stderr
    assert records(output) == whole


def test_what_is_there_is_not_replaced_unasked(pair: list[str], rows: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("precious")
    for options in ([], ["--overwrite"]):
        one_sentence(batch(rows, output, *pair, *options), 2, "exists", "no answers of this program")
        assert output.read_text() == "precious"
        assert not (tmp_path / "out.jsonl.partial").exists()
    output.unlink()
    assert batch(rows, output, *pair).exit_code == 0
    one_sentence(batch(rows, output, *pair), 2, "exists", "--overwrite")
    assert batch(rows, output, *pair, "--overwrite").exit_code == 0
    assert len(records(output)) == len(ROWS)
    one_sentence(batch(rows, tmp_path, *pair, "--overwrite"), 2, "exists")


def test_the_same_command_resumes_what_was_begun_with_overwrite(
    pair: list[str], rows: Path, tmp_path: Path, settings: AnswerSettings, answered: list[dict[str, Any]]
) -> None:
    output = tmp_path / "out.jsonl"
    assert batch(rows, output, *pair, "-n", "1").exit_code == 0
    before = output.read_bytes()
    with ResumableOutput(output, settings.identity(), overwrite=True, fields=ADDED) as partial:
        for record in answered[:7]:
            partial.append(record)
    assert output.read_bytes() == before
    one_sentence(batch(rows, output, *pair), 2, "exists", "--overwrite")
    result = batch(rows, output, *pair, "--overwrite")
    assert "after 7 rows" in result.stderr
    assert records(output) == answered
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == ["out.jsonl"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_is_written_through(pair: list[str], rows: Path, tmp_path: Path, answered: list[dict[str, Any]]) -> None:
    link, file = tmp_path / "link.jsonl", tmp_path / "elsewhere" / "file.jsonl"
    file.parent.mkdir()
    file.touch()
    link.symlink_to(file)
    assert batch(rows, link, *pair, "--overwrite").exit_code == 0
    assert link.is_symlink()
    assert records(file) == answered


def test_two_processes_do_not_write_one_output(
    pair: list[str], rows: Path, tmp_path: Path, settings: AnswerSettings
) -> None:
    output = tmp_path / "out.jsonl"
    with ResumableOutput(output, settings.identity()):
        one_sentence(batch(rows, output, *pair), 2, "another process is writing")
        one_sentence(batch(rows, output, *pair, "--overwrite"), 2, "another process is writing")
    assert batch(rows, output, *pair).exit_code == 0


def test_a_full_disk_is_one_sentence_and_loses_nothing(pair: list[str], rows: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert batch(rows, whole, *pair).exit_code == 0
    limited = "import resource, atv_cli.main as m; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); m.main()"
    command = [sys.executable, "-c", limited, "batch", str(rows), str(output), *pair]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(f"atv-local: .*{output}.partial.*File too large", result.stderr.splitlines()[-1])
    assert (tmp_path / "out.jsonl.partial").stat().st_size == 2000
    assert batch(rows, output, *pair).exit_code == 0
    assert output.read_bytes() == whole.read_bytes()


def test_an_output_that_is_no_file(pair: list[str], rows: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl.partial").symlink_to("/dev/full")
    one_sentence(batch(rows, tmp_path / "out.jsonl", *pair), 2, "is not a file")
    (tmp_path / "link.jsonl").symlink_to("/dev/full")
    one_sentence(batch(rows, tmp_path / "link.jsonl", *pair, "--overwrite"), 2, "exists")
