"""Rows of training data: what is accepted, and the one sentence when it is not."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atv_local.data.columns import parse_columns
from atv_local.data.rows import Row, data_files, read_rows
from atv_local.data.text_lines import MAX_LINE_BYTES
from atv_local.errors import DataError, NotFoundError, UsageError

FINE = '{"input": "fine", "output": "yes"}\n'
HEADER = "input,output,task,choices\n"

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
options = st.lists(texts.filter(lambda text: "|" not in text), min_size=1, max_size=3)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    choices = draw(st.none() | options.map(tuple))
    output = draw(st.sampled_from(choices)) if choices else draw(texts)
    return Row(input=draw(texts), output=output, task=draw(texts)[:200], choices=choices)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(expected=st.lists(rows(), min_size=1, max_size=4), bom=st.booleans())
def test_csv_and_json_lines_read_the_same(tmp_path: Path, expected: list[Row], bom: bool) -> None:
    encoding = "utf-8-sig" if bom else "utf-8"
    with (tmp_path / "rows.jsonl").open("w", encoding=encoding) as file:
        file.writelines(row.model_dump_json() + "\n" for row in expected)
    with (tmp_path / "rows.csv").open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["input", "output", "task", "choices"])
        writer.writerows([row.input, row.output, row.task, "|".join(row.choices or ())] for row in expected)
    for name in ("rows.jsonl", "rows.csv"):
        read = read_rows(tmp_path / name)
        assert read.rows == expected
        assert (read.name, read.sha256) == (name, hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "not JSON: [^1]* column 2; a row is "),
        ("[1]", "not a JSON object"),
        pytest.param("[" * 10_000, "not JSON", id="deep"),
        ('{"input": "x"}', "no column 'output', found 'input'; .*`columns={'output': ...}`"),
        ('{"output": "x"}', "no column 'input'"),
        ('{"input": "x", "output": ""}', "output: "),
        ('{"input": "", "output": "x"}', "input: "),
        ('{"input": "x", "output": " \\n\\u00a0"}', "output: "),
        ('{"input": "x", "output": "a\\u0000"}', "output: .*NUL"),
        ('{"input": "x", "output": "\\ud800"}', "not JSON"),
        ('{"input": ["x"], "output": "y"}', "input: it must be a text"),
        ('{"input": "x", "output": null}', "output: it must be a text"),
        (
            '{"input": "x", "output": "y", "choices": {"a": "y"}}',
            "choices: .* list .* leave it out, pass `columns={'choi",
        ),
        ('{"input": "x", "output": "y", "choices": ["y", []]}', "choices.1: it must be a text"),
        ('{"input": "x", "output": "y", "history": [["a"]]}', "history: .* pairs"),
        ('{"input": "x", "output": "{y}", "choices": ["n"]}', "choices: the output '{y}' is not among them"),
        ('{"input": "x", "output": "' + "y" * 999 + '", "choices": ["n"]}', f"choices: the output '{'y' * 40}' is"),
        pytest.param('{"input": "' + "x" * MAX_LINE_BYTES + '", "output": "y"}', "the line is longer", id="long"),
        (b'{"input": "\xff", "output": "y"}', "not UTF-8"),
        (b'{"input": "\xed\xa0\x80", "output": "y"}', "not UTF-8"),
        (b'{"input": "\0", "output": "y"}', "a NUL byte"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str | bytes, words: str) -> None:
    content = line if isinstance(line, bytes) else line.encode()
    file = write(tmp_path / "rows.jsonl", FINE.encode() + content + b"\n")
    with pytest.raises(DataError, match=rf"rows\.jsonl:2: {words}") as caught:
        read_rows(file)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(file)) + 300


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("input,output\nx,y\nx\n", "3: 1 fields where the header has 2"),
        ("input,output\nx,y\nx,y,z\n", "3: 3 fields where the header has 2"),
        ("input,output\nx,\n", "2: output: "),
        ("input,output\n,x\n", "2: input: "),
        ('input,output\n"a\n\nb",y\n\nx, \n', "6: output: "),
        ('input,output\n\nx,y\n"x\n\n', "4: not CSV: unexpected end"),
        ('input,output\n"x"y,z\n', "2: not CSV: "),
        ("input,output\rx,y\r", "1: not CSV: new-line .*; .* line feeds"),
        pytest.param(f"input,output\n{'x' * 200_000},y\n", "2: not CSV: a cell has more than 131072", id="long field"),
        pytest.param(f"input,output\n{'x' * MAX_LINE_BYTES},y\n", "2: the line is longer", id="long line"),
        (HEADER + "x,y,,n|m\n", "2: choices: the output 'y' is not among them"),
        (HEADER + "x,y,,y||m\n", "2: choices.1: "),
        (b"input,output\nx,\xe4\n", "2: not UTF-8"),
        ("input,output\nx,y\n".encode("utf-16-le"), "1: a NUL byte"),
        (
            "inquiry,team\n",
            "1: no column 'input', found 'inquiry', 'team'; name yours with `columns={'input': ...}`",
        ),
        (",".join(f"column {n}" for n in range(99)), "1: no column 'input', found 'column 0', "),
        ("input,output,input\nx,y,z\n", "1: two columns are named 'input'"),
    ],
)
def test_a_bad_csv_is_named_by_the_line_where_its_row_begins(tmp_path: Path, content: str | bytes, words: str) -> None:
    file = write(tmp_path / "rows.csv", content)
    with pytest.raises(DataError, match=rf"rows\.csv:{words}") as caught:
        read_rows(file)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(file)) + 300


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", "\n \n"), ("a.csv", ""), ("a.csv", "\n"), ("a.csv", HEADER)])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(DataError, match=f"{name} has no rows"):
        read_rows(write(tmp_path / name, content))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, kind in (
        (tmp_path / "absent.jsonl", NotFoundError),
        (tmp_path / "absent.csv", NotFoundError),
    ):
        with pytest.raises(kind, match=f"cannot read {path}: "):
            read_rows(path)


def test_blank_lines_and_other_fields_are_fine(tmp_path: Path) -> None:
    json_lines = write(
        tmp_path / "fruit.jsonl",
        '\n{"input": "x", "output": "y", "id": 7}\r\n \n{"input": "x", "output": "y", "task": "t"}',
    )
    table = write(tmp_path / "fruit.CSV", "\r\nid,task,output,input\r\n\r\n7,,y,x\r\n \r\n8,t,y,x")
    for file in (json_lines, table):
        rows = read_rows(file).rows
        assert [(row.input, row.output, row.task, row.choices) for row in rows] == [
            ("x", "y", "fruit", None),
            ("x", "y", "t", None),
        ]


def test_a_task_named_after_a_long_file_name_is_cut(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path / f"{'n' * 230}.jsonl", FINE)).rows
    assert row.task == "n" * 200


def test_space_around_texts_is_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "input,output,choices\n x , y , y |n\n")
    assert read_rows(file).rows == [Row(input=" x ", output=" y ", task="a", choices=(" y ", "n"))]


def test_a_csv_may_come_through_a_pipe(tmp_path: Path) -> None:
    content = (HEADER + "x,y,,\n" * 20_000).encode()  # more than a pipe holds
    pipe = tmp_path / "rows.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(content))
    writer.start()
    read = read_rows(pipe)
    writer.join()
    assert (len(read.rows), read.sha256) == (20_000, hashlib.sha256(content).hexdigest())


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    columns = parse_columns(["input=question", "output=label", "choices=a=b"])
    assert columns == {"input": "question", "output": "label", "choices": "a=b"}
    record = {"question": "q", "label": "l", "a=b": ["l", "m"], "input": 5}
    json_lines = write(tmp_path / "rows.jsonl", json.dumps(record) + "\n")
    table = write(tmp_path / "rows.csv", "input,a=b,label,question\n5,l|m,l,q\n")
    for file in (json_lines, table):
        assert read_rows(file, columns).rows == [Row(input="q", output="l", task="rows", choices=("l", "m"))]


def test_complaints_use_the_names_in_the_file(tmp_path: Path) -> None:
    columns = {"input": "question", "task": "kind"}
    json_lines = write(tmp_path / "rows.jsonl", '{"question": " ", "output": "x", "kind": "k"}\n')
    with pytest.raises(DataError, match=r"jsonl:1: question: "):
        read_rows(json_lines, columns)
    named_but_absent = write(tmp_path / "rows.csv", "question,output,task\nx,y,z\n")
    with pytest.raises(DataError, match=r"csv:1: no column 'kind', found .*'task'"):
        read_rows(named_but_absent, columns)


@pytest.mark.parametrize("given", [["input"], ["input="], ["output="], ["=x"], ["input=x", "input=y"]])
def test_an_invalid_column_option(given: list[str]) -> None:
    with pytest.raises(UsageError, match=f"'{given[-1]}'; write PART=NAME"):
        parse_columns(given)


def test_a_part_that_rows_do_not_have(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'query'; .*input, output, task, choices"):
        read_rows(write(tmp_path / "a.jsonl", FINE), {"query": "x"})


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    (folder / "more.jsonl").mkdir(parents=True)
    for name in ("d.jsonl", "b.CSV", "e.csv", "a.jsonl", "c.jsonl", "notes.txt", "._a.jsonl", "more.jsonl/d.jsonl"):
        write(folder / name, FINE)
    single = write(tmp_path / "z.txt", FINE)
    absent = tmp_path / "absent.jsonl"  # for read_rows to name
    found = data_files([single, folder, absent])
    assert found == [single, *(folder / name for name in ("a.jsonl", "b.CSV", "c.jsonl", "d.jsonl", "e.csv")), absent]


def test_a_folder_without_files_of_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "rows.txt", FINE)
    with pytest.raises(DataError, match=rf"{tmp_path} has no file of rows"):
        data_files([tmp_path])
    with pytest.raises(DataError, match="cannot read"):
        data_files([tmp_path / ("n" * 300)])


def test_a_file_given_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.jsonl", FINE)
    (tmp_path / "link.jsonl").symlink_to(file)
    monkeypatch.chdir(tmp_path)
    for again in (file, Path("a.jsonl"), Path("link.jsonl"), tmp_path):
        with pytest.raises(UsageError, match="is given twice"):
            data_files([file, again])


def test_references_are_further_outputs(tmp_path: Path) -> None:
    lines = '{"input": "x", "output": "y", "references": ["z", "a|b"], "instruction": "Do."}\n' + FINE
    first, second = read_rows(write(tmp_path / "t.jsonl", lines)).rows
    assert (first.references, first.instruction) == (("z", "a|b"), "Do.")
    assert (second.references, second.instruction) == (None, None)
    (row,) = read_rows(write(tmp_path / "t.csv", "input,output,references\nx,y,a|b\n")).rows
    assert row.references == ("a|b",)
    for wrong in ('{"z": 1}', '["z", []]', '["z", " "]'):
        with pytest.raises(DataError, match="references"):
            read_rows(write(tmp_path / "t.jsonl", f'{{"input": "x", "output": "y", "references": {wrong}}}\n'))
