"""Rows as other programs write them: separators, marks, documents, compressed files."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest

from atv_local.data.rows import Row, data_files, read_queries, read_row_files, read_rows
from atv_local.errors import DataError

ROWS = [("the lamp is late", "shipping"), ("a bill, please; now", "invoice")]
EXPECTED = [Row(input=input, output=output, task="rows") for input, output in ROWS]
JSON = [{"input": input, "output": output} for input, output in ROWS]
LINES = "".join(json.dumps(row) + "\n" for row in JSON)


def table(separator: str, end: str = "\n") -> str:
    lines = [("input", "output"), *((f'"{input}"', output) for input, output in ROWS)]
    return end.join(separator.join(line) for line in lines) + end


def read(tmp_path: Path, name: str, content: str | bytes) -> list[Row]:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_queries(file) == [row.input for row in read_rows(file).rows]
    return read_rows(file).rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *[("rows.csv", table(separator)) for separator in ",;\t|"],
        ("rows.csv", "\ufeff" + table(";", "\r\n")),
        ("rows.csv", "sep=;\r\n" + table(";", "\r\n")),
        ("rows.csv", '"sep=^"\n' + table("^")),
        ("rows.csv", table(", ")),
        ("rows.csv", "input , Output\n".replace("O", "o") + table(",").partition("\n")[2]),
        ("rows.csv", table(",") + ",\n,\n"),
        ("rows.csv", table(",").replace("\n", ",,\n")),
        ("rows.tsv", table("\t")),
        ("rows.TAB", "input\toutput\nthe lamp is late\tshipping\na bill, please; now\tinvoice"),
        ("rows.jsonl", "\ufeff" + LINES.replace("\n", "\n\ufeff", 1)),
        ("rows.csv", "\ufeff" + table(",").replace('\n"a', '\n\ufeff"a')),
        ("rows.ndjson", LINES),
        ("rows.jsonlines", "\n" + LINES),
        ("rows.json", LINES),
        ("rows.json", json.dumps(JSON)),
        ("rows.json", json.dumps(JSON, indent=1)),
        ("rows.jsonl", "\n " + json.dumps(JSON, indent=1)),
        ("rows.json", json.dumps({"version": 2, "data": JSON}, indent=1)),
        ("rows.json", json.dumps({"rows": JSON})),
        ("rows.json", json.dumps({"train": JSON, "split": "all"})),
        ("rows.tsv", table(",")),
        (
            "rows.csv",
            "\ufeffinput\u200b;output;remark, if any\n"
            + "".join(
                f"{a};{b};\n" for a, b in [("the lamp is late", "shipping"), ('"a bill, please; now"', "invoice")]
            ),
        ),
        ("rows.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("rows.csv.bz2", bz2.compress(table(";").encode())),
        ("rows.tsv.XZ", lzma.compress(table("\t").encode())),
        ("rows.json.gz", gzip.compress(json.dumps(JSON).encode(), mtime=0)),
        ("rows.jsonl", gzip.compress(LINES.encode(), mtime=0)),
    ],
)
def test_the_same_rows_in_every_format(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert read(tmp_path, name, content) == EXPECTED


def test_one_row_is_a_document_too(tmp_path: Path) -> None:
    assert read(tmp_path, "rows.json", json.dumps(JSON[0], indent=2)) == EXPECTED[:1]


def test_a_column_named_data_is_a_column(tmp_path: Path) -> None:
    rows = [row | {"data": [{"id": 1}]} for row in JSON]
    assert read(tmp_path, "rows.json", "".join(json.dumps(row) + "\n" for row in rows)) == EXPECTED
    assert read(tmp_path, "rows.json", json.dumps(rows[0], indent=1)) == EXPECTED[:1]


def test_a_comma_in_the_text_of_a_lone_column_separates_nothing(tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    file.write_text("input\nyes; no | maybe\n")
    assert read_queries(file) == ["yes; no | maybe"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.xlsx", b"PK\x03\x04" + b"\0" * 40, "workbook.* CSV"),
        ("rows.csv", b"\xd0\xcf\x11\xe0" + b"\0" * 40, "workbook"),
        ("rows.parquet", b"PAR1" + b"\0" * 40, "Parquet.* JSON Lines"),
        ("rows.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"\0" * 40, "zstd"),
        ("rows.csv", table(",").encode("utf-16"), "UTF-16.* UTF-8"),
        ("rows.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:-12], "damaged"),
        ("rows.jsonl.gz", b"\x1f\x8b" + b"x" * 90, "damaged"),
        ("rows.jsonl.xz", lzma.compress(LINES.encode())[:-20], "damaged"),
        ("rows.json", json.dumps(JSON, indent=1)[:-4], "not JSON.* line "),
        ("rows.json", "[1, 2]", "rows.json:1, :2: not a JSON object"),
        ("rows.jsonl", LINES + '{"input": "x", "output": "a", "output": "b"}', ":3: .*'output'.* twice"),
        ("rows.jsonl", '{"messages": [{"role": "user", "content": "a", "content": "b"}]}', ":1: .*'content'.* twice"),
        ("rows.json", '[{"input": "x", "input": "y", "output": "b"}]', ":1: .*'input'.* twice"),
    ],
)
def test_what_cannot_be_read_is_named_for_what_it_is(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, name, content)
    assert name in str(caught.value)


def test_an_unpacked_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atv_local.data.packed_files.MAX_UNPACKED_BYTES", 1 << 20)
    with pytest.raises(DataError, match="larger than 1048576 bytes when unpacked"):
        read(tmp_path, "rows.jsonl.gz", gzip.compress(LINES.encode() * 20_000, mtime=0))


def test_a_header_in_the_middle_is_no_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(table(",") + "\ufeff" + table(","))
    notes: list[str] = []
    assert read_rows(file, on_note=notes.append).rows == EXPECTED * 2
    (note,) = notes
    assert f"{file}:4: the header" in note


def test_a_header_by_other_names_in_the_middle_is_no_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("id,text,label\n1,late?,yes\nnr,Question,answer\n2,lost?,no\n3,answer,question\n")
    notes: list[str] = []
    rows = read_rows(file, on_note=notes.append).rows
    assert [(row.input, row.output) for row in rows] == [("late?", "yes"), ("lost?", "no"), ("answer", "question")]
    assert f"{file}:3: a header by other names, nr, Question, answer, which is not a row" in notes
    file.write_text("input\nlate?\nquestion\n")
    assert read_queries(file) == ["late?", "question"]


def test_the_other_files_of_a_folder_are_named(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.csv.gz", "c.json", "d.ndjson", "e.tsv", "notes.md", "f.parquet", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    notes: list[str] = []
    assert [file.name for file in data_files([tmp_path], notes.append)] == [
        "a.jsonl",
        "b.csv.gz",
        "c.json",
        "d.ndjson",
        "e.tsv",
    ]
    (note,) = notes
    assert "f.parquet, more, notes.md" in note


def test_several_lists_of_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"several lists of rows, train, test"):
        read(tmp_path, "rows.json", json.dumps({"train": JSON, "test": JSON}))
    with pytest.raises(DataError, match=r"several lists of rows, train, Dev split"):
        read(tmp_path, "rows.json", json.dumps({"train": JSON, "Dev split": JSON}))


def test_what_else_a_document_has_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"train": JSON, "labels": ["a"], "more": {"dev": JSON}, "n": 2, "test": [], "by": "me"}))
    notes: list[str] = []
    assert read_rows(file, on_note=notes.append).rows == EXPECTED
    assert f"{file}: not read beside 'train': 'labels', 'more'" in notes


@pytest.mark.parametrize(
    "content",
    [
        *(LINES, table(","), table("\t"), '{"prompt": "late?", "id": 1}\n'),
        *(json.dumps(JSON), json.dumps(JSON, indent=1), json.dumps(JSON[0], indent=1), '[{"input": "late?"},\n'),
        *("text\nlate?\n", "\ufeffInput\n\nlate?\n", "id\ttext\n1\tlate?\n", "id,prompt\n1,late?\n"),
    ],
)
def test_rows_in_a_text_file_are_not_taken_for_queries(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rows.txt"
    file.write_text(content)
    with pytest.raises(DataError, match=r"rows\.txt: its first line is that of a \.(jsonl|json|csv|tsv) file"):
        read_queries(file)


@pytest.mark.parametrize(
    "line", ["input, please", '{"a": 1}', "{x", "a question\tan answer of some words", "text", "[1]", "[x"]
)
def test_lines_of_text_may_look_a_little_like_rows(tmp_path: Path, line: str) -> None:
    file = tmp_path / "rows.txt"
    file.write_text(line + "\n")
    assert read_queries(file) == [line]


def test_a_header_in_another_order_is_not_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, "rows.csv", table(",") + "Input,OUTPUT\n") == EXPECTED
    with pytest.raises(DataError, match=r"rows\.csv:4: the header again, in another order"):
        read(tmp_path, "rows.csv", table(",") + "output,input\nshipping,the lamp is late\n")


def test_a_quote_that_is_not_closed_swallows_no_rows_of_a_table_with_tabs(tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    rows = 'input\toutput\nfig\ta\n"Where is it\tb\nI want it back\tc\nprint it"\td\ncow\te\n'
    file.write_text(rows)
    with pytest.raises(DataError, match=r"a cell in double quotes goes on over tabs and line ends.*\(lines 3 to 5\)"):
        read_rows(file)
    (good,) = read_row_files([file], skip_bad_rows=True)
    assert [row.output for row in good[0].rows] == ["a", "e"]
    file.write_text('input\toutput\n"two\nlines"\ta\n')
    assert read_rows(file).rows[0].input == "two\nlines"
