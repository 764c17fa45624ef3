"""A file of rows means the same to every verb, whatever its format and whatever it calls its columns."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from atv_cli.main import app
from atv_cli.queries_of_file import queries_of_file
from atv_eval.tasks import read_tasks
from atv_local.data import read_requests, read_rows
from atv_local.names import embedded_bundle

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
rows = st.lists(
    st.fixed_dictionaries(
        {"question": texts, "label": texts, "note": texts | st.just("")},
        optional={"task": texts.map(lambda text: text[:200]), "system": texts, "max_tokens": st.integers(1, 1 << 40)},
    ),
    min_size=1,
    max_size=4,
)
lines = texts.map(str.strip).filter(lambda text: "\n" not in text and not text.startswith("\ufeff"))


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """As JSON Lines or CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
    return path


def read_by_every_verb(path: Path) -> dict[str, Any]:
    both = {"input": "question", "output": "label"}
    with path.open("rb") as file:
        requests = list(read_requests(file, path, {"input": "question"}))
    return {
        "train": [row.model_dump() for row in read_rows(path, both).rows],
        "eval": read_tasks([path], [], both, None, labels=False),
        "batch": [(request.query, request.system, request.max_tokens, request.error) for request in requests],
        "vector": queries_of_file(path, ["input=question"]),
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(rows=rows)
def test_json_lines_and_csv_are_the_same_to_every_verb(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    read = read_by_every_verb(written(tmp_path / "rows.jsonl", rows))
    assert read == read_by_every_verb(written(tmp_path / "rows.csv", rows))
    assert [(row["input"], row["output"], row["task"]) for row in read["train"]] == [
        (row["question"], row["label"], row.get("task", "rows")) for row in rows
    ]
    assert read["batch"] == [(row["question"], row.get("system"), row.get("max_tokens"), "") for row in rows]
    assert read["vector"] == [row["question"] for row in rows]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(queries=st.lists(lines, min_size=1, max_size=4))
def test_lines_of_text_are_rows_with_an_input(tmp_path: Path, queries: list[str]) -> None:
    assume(queries[0].strip() not in ("{", "[", "[{"))  # the first line of a file of JSON, which is refused
    file = tmp_path / "rows.txt"
    file.write_text("\n".join(queries), encoding="utf-8")
    with file.open("rb") as opened:
        assert [request.query for request in read_requests(opened, file)] == queries
    assert queries_of_file(file, None) == queries


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval", "{rows}", "-m", "{gguf}", "--method", "base"],
        ["calibrate", "{rows}", "-m", "{gguf}", "-g", "{bundle}", "--dry-run"],
        ["batch", "{rows}", "out.jsonl", "-m", "{gguf}", "--off", "--strict"],
        ["vector", "-f", "{rows}", "-g", "{bundle}", "-o", "out.gguf"],
        ["inspect", "{bundle}", "-f", "{rows}"],
    ],
)
def test_a_nul_is_refused_by_every_verb(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "rows.jsonl"
    file.write_text('{"input": "a\\u0000b", "output": "y"}\n')
    filled = [argument.format(rows=file, gguf=tiny_gguf, bundle=embedded_bundle()) for argument in arguments]
    result = CliRunner().invoke(app, filled)
    assert result.exit_code == 1
    assert f"{file}:1: input: it has a NUL" in result.stderr


def test_columns_without_a_file_are_refused(tmp_path: Path) -> None:
    for arguments in (["vector", "hi", "-o", str(tmp_path / "v.gguf")], ["inspect", str(embedded_bundle())]):
        result = CliRunner().invoke(app, [*arguments, "--column", "input=question"])
        assert (result.exit_code, "--column" in result.stderr) == (2, True)
