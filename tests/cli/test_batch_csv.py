"""`atv-local batch` from and to CSV: every column of every row is there, in its order, and nothing is half written."""

from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from atv_cli.main import app
from atv_local.batch import ADDED, ADDED_COLUMNS, AnswerSettings, as_csv_row
from atv_local.data import ResumableOutput, read_requests, resumable_output
from atv_local.data.record_table import MAX_COLUMNS, read_header, write_table
from atv_local.errors import UsageError
from atv_local.target import Sampling
from atv_local.vectors import ControlVector, TaskVector
from tests.cli.batch_runs import batch, one_sentence, records, written


@pytest.fixture
def base(tiny_gguf: Path) -> list[str]:
    return ["-m", str(tiny_gguf), "--off", "-t", "1", "-n", "3"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_csv_to_csv_keeps_the_columns_and_their_order(base: list[str], tmp_path: Path) -> None:
    file, output = tmp_path / "in.csv", tmp_path / "out.CSV"
    file.write_bytes(
        '\ufeffid,question,note\r\n7,apple 1,"a, ""b""\nc"\r\n8,"pear\r\n2",=1+1\r\n'.encode()  # as Excel saves it
    )
    result = batch(file, output, *base, "--column", "input=question")
    assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.stderr
    first, second = table(output)
    assert list(first) == ["id", "question", "note", *ADDED_COLUMNS]
    assert [first["note"], second["question"], second["note"]] == ['a, "b"\nc', "pear\r\n2", "=1+1"]
    assert [first["line"], second["line"]] == ["2", "4"]
    assert batch(file, tmp_path / "out.jsonl", *base, "--column", "input=question").exit_code == 0
    for row, record in zip((first, second), records(tmp_path / "out.jsonl"), strict=True):
        assert (row["text"], row["finish_reason"]) == (record["text"], record["finish_reason"])
        assert {kind: int(row[f"{kind}_tokens"]) for kind in ("prompt", "generated")} == record["tokens"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.CSV", "out.jsonl"]


def test_json_lines_to_csv_has_the_columns_of_all_rows(base: list[str], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"input": "apple 1", "n": 1.5, "ok": True},
        {"input": "bad"},
        {"id": ["x", "é"], "input": "cat", "n": None},
    ]
    file = written(tmp_path / "in.jsonl", rows)
    file.write_text(file.read_text().replace('{"input": "bad"}', "bad"))
    assert batch(file, tmp_path / "out.csv", *base).exit_code == 0
    first, second = table(tmp_path / "out.csv")
    assert list(first) == ["input", "n", "ok", *ADDED_COLUMNS, "id"]
    assert [first["n"], first["ok"], first["id"]] == ["1.5", "true", ""]
    assert [second["n"], second["ok"], json.loads(second["id"])] == ["", "", ["x", "é"]]


def test_columns_without_a_name_get_one(base: list[str], tmp_path: Path) -> None:
    file = tmp_path / "in.csv"
    file.write_text(",input,column 1,\n0,apple 1,x,\n1,cat,y,\n")  # as pandas writes an index, and a comma at the ends
    assert batch(file, tmp_path / "out.csv", *base).exit_code == 0
    assert [list(row)[:4] for row in table(tmp_path / "out.csv")] == [["column 1_", "input", "column 1", "line"]] * 2
    assert [row["column 1_"] for row in table(tmp_path / "out.csv")] == ["0", "1"]
    (tmp_path / "named.csv").write_text("id,\n7,apple 1\n")
    result = batch(tmp_path / "named.csv", tmp_path / "named.jsonl", *base, "--column", "input=column 2")
    assert result.exit_code == 0, result.stderr
    assert records(tmp_path / "named.jsonl")[0]["column 2"] == "apple 1"


def test_an_empty_row_is_a_blank_line_and_one_without_a_query_is_said(base: list[str], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("input,id\napple 1,1\n,\n,3\ndog 1,4\n")
    result = batch(tmp_path / "in.csv", tmp_path / "out.csv", *base)
    assert [row["id"] for row in table(tmp_path / "out.csv")] == ["1", "4"]
    assert [line.split(": ")[0] for line in result.stderr.splitlines() if "in.csv" in line] == [
        f"{tmp_path / 'in.csv'}:4"
    ]


def test_a_column_that_is_replaced_is_said(base: list[str], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,prompt_tokens\napple 1,x\ncat 1,y\n")
    result = batch(tmp_path / "in.csv", tmp_path / "out.csv", *base, "--column", "input=text")
    assert result.exit_code == 0
    assert sorted(line.split("'")[1] for line in result.stderr.splitlines() if "replaces" in line) == [
        "prompt_tokens",
        "text",
    ]
    assert table(tmp_path / "out.csv")[0]["prompt_tokens"] != "x"


def test_the_answers_so_far_are_used_again(base: list[str], tiny_gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("input,id\n" + "".join(f"apple {n},{n}\n" for n in range(6)))
    output = tmp_path / "out.csv"
    assert batch(tmp_path / "in.csv", tmp_path / "whole.csv", *base).exit_code == 0
    chosen = AnswerSettings(tiny_gguf, off=True, max_tokens=3, n_threads=1, sampling=Sampling(seed=0))
    earlier = [{"input": f"apple {n}", "id": str(n), "line": n + 2, "text": "earlier"} for n in range(2)]
    with ResumableOutput(output, chosen.identity(), fields=ADDED_COLUMNS, as_row=as_csv_row) as partial:
        for record in earlier:
            partial.append(record | {"finish_reason": "stop", "tokens": {"prompt": 1, "generated": 2}})
    with partial.path.open("a") as file:
        file.write('{"input": "apple 2", "id": "2\n')  # torn
    partial.path.write_bytes(partial.path.read_bytes()[:-1])
    result = batch(tmp_path / "in.csv", output, *base)
    assert (result.exit_code, "after 2 rows" in result.stderr) == (0, True), result.stderr
    assert [row["text"] for row in table(output)[:2]] == ["earlier"] * 2
    assert table(output)[2:] == table(tmp_path / "whole.csv")[2:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv", "whole.csv"]


def test_a_table_that_could_not_be_written_needs_no_new_answers(
    base: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.csv").write_text("input\napple 1\ncat 1\n")
    output = tmp_path / "out.csv"

    def full(path: Path, *_: object) -> None:
        path.write_text("line,te")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(resumable_output, "write_table", full)
        failed = batch(tmp_path / "in.csv", output, *base)
    assert (failed.exit_code, output.exists()) == (2, False)
    assert "out.csv" in failed.stderr.splitlines()[-1]
    assert len(records(tmp_path / "out.csv.partial")) == 2
    result = batch(tmp_path / "in.csv", output, *base)
    assert (result.exit_code, "after 2 rows" in result.stderr) == (0, True), result.stderr
    assert [row["input"] for row in table(output)] == ["apple 1", "cat 1"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_only_tables_of_answers_are_replaced(base: list[str], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("input\napple 1\n")
    output = tmp_path / "out.csv"
    assert batch(tmp_path / "in.csv", output, *base).exit_code == 0
    one_sentence(batch(tmp_path / "in.csv", output, *base), 2, "exists", "--overwrite")
    assert batch(tmp_path / "in.csv", output, *base, "-n", "1", "--overwrite").exit_code == 0
    assert table(output)[0]["generated_tokens"] in "01"
    output.write_text("line,text\n1,mine\n")
    one_sentence(batch(tmp_path / "in.csv", output, *base, "--overwrite"), 2, "no answers of this program")
    assert output.read_text() == "line,text\n1,mine\n"


def test_control_vectors_steer_and_are_named(base: list[str], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("input,control_vectors\napple 1,x\n")
    TaskVector(np.full((3, 64), 0.5)).save(tmp_path / "half.gguf")
    steered = [*base[:2], *base[3:], "--control-vector-scaled", f"{tmp_path / 'half.gguf'}:3"]
    result = batch(tmp_path / "in.csv", tmp_path / "out.csv", *steered)
    assert result.exit_code == 0, result.stderr
    assert "'control_vectors'" in result.stderr
    (row,) = table(tmp_path / "out.csv")
    sha256 = ControlVector.load(tmp_path / "half.gguf").sha256[:12]
    assert json.loads(row["control_vectors"]) == [{"name": "half.gguf", "sha256": sha256, "scale": 3.0}]
    alone = CliRunner().invoke(app, ["run", *steered, "--json", "apple 1"], input="")
    record = json.loads(alone.stdout)
    assert (record["text"], record["control_vectors"]) == (row["text"], json.loads(row["control_vectors"]))
    assert batch(tmp_path / "in.csv", tmp_path / "off.csv", *base).exit_code == 0
    assert table(tmp_path / "off.csv")[0]["text"] != row["text"]
    off = batch(tmp_path / "in.csv", tmp_path / "off.jsonl", *steered, "--off")
    assert (off.exit_code, records(tmp_path / "off.jsonl")[0]["control_vectors"]) == (0, "x")


def test_other_control_vectors_do_not_continue_an_output(base: list[str], tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    TaskVector(np.full((3, 64), 0.5)).save(path)
    chosen = AnswerSettings(tiny_gguf, control_vectors=[(path, 1.0)], max_tokens=3, sampling=Sampling(seed=0))
    with ResumableOutput(tmp_path / "out.csv", chosen.identity(), as_row=as_csv_row) as partial:
        partial.append({"input": "apple 1", **dict.fromkeys(ADDED, 2)})
    (tmp_path / "in.csv").write_text("input\napple 1\n")
    TaskVector(np.full((3, 64), 0.25)).save(path, overwrite=True)
    steered = [*base[:2], *base[3:], "--control-vector", path]
    one_sentence(batch(tmp_path / "in.csv", tmp_path / "out.csv", *steered), 2, "control_vectors")


def test_without_any_answer_there_is_no_table(base: list[str], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("input,system\n  ,\n,x\n")
    result = batch(tmp_path / "in.csv", tmp_path / "out.csv", *base)
    assert (result.exit_code, [path.name for path in tmp_path.iterdir()]) == (1, ["in.csv"])


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=5)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.dictionaries(names.filter(lambda name: name and name == name.strip("\ufeff").strip()), texts), max_size=4
    )
)
def test_what_is_written_is_what_is_read(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    path = tmp_path / "rows.csv"
    rows = [row | {"input": "x", "last": "y"} for row in rows]
    write_table(path, lambda: rows, ["input", "last"])
    columns = list(dict.fromkeys(name for row in rows for name in row)) or ["input", "last"]
    with path.open("rb") as file:
        read = [request.fields for request in read_requests(file, path)]
    assert read == [{name: row.get(name, "") for name in columns} for row in rows]


def test_more_columns_than_a_spreadsheet_has(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    with ResumableOutput(output, {}, as_row=dict) as partial:
        for record in ({"line": n, **dict.fromkeys(map(str, range(n, n + 9000)), 0)} for n in (0, 9000)):
            partial.append(record)
        with pytest.raises(UsageError, match=str(MAX_COLUMNS)):
            partial.finish()
    assert not output.exists()
    assert len(records(partial.path)) == 2


@pytest.mark.parametrize("content", ["", '"', "a\0b", "\xff"])
def test_files_without_a_header(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.csv").write_text(content, encoding="latin-1")
    assert not {*ADDED_COLUMNS} & {*read_header(tmp_path / "x.csv")}


def test_the_counts_are_columns() -> None:
    record = {"id": 1, **dict.fromkeys(ADDED, "x"), "tokens": {"prompt": 3, "generated": 4}}
    columns = {"id": 1, **dict.fromkeys(ADDED_COLUMNS, "x"), "prompt_tokens": 3, "generated_tokens": 4}
    assert as_csv_row(record) == columns
