"""Rows to be answered: from files of any size and any content, bad rows with their error, the others as they are."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atv_local.data.request_rows import RowRequest, read_requests
from atv_local.data.text_lines import MAX_LINE_BYTES
from atv_local.errors import DataError, UsageError


def read(content: str | bytes, name: str, columns: dict[str, str] | None = None) -> list[RowRequest]:
    data = content if isinstance(content, bytes) else content.encode()
    return list(read_requests(io.BytesIO(data), Path(name), columns or {}))


def test_the_parts_of_a_row_in_each_format() -> None:
    rows = [{"q": "one", "system": "Be kind.", "max_tokens": 5, "id": "a"}, {"q": "two", "id": "b"}]
    from_json = read("".join(json.dumps(row) + "\n" for row in rows), "x.jsonl", {"input": "q"})
    from_csv = read("id,q,system,max_tokens\na,one,Be kind.,5\nb,two,,\n", "x.csv", {"input": "q"})
    for requests in (from_json, from_csv):
        assert [(r.query, r.system, r.max_tokens) for r in requests] == [("one", "Be kind.", 5), ("two", None, None)]
    assert [request.fields for request in from_json] == rows
    assert [request.line for request in from_csv] == [2, 3]
    assert from_csv[1].fields == {"id": "b", "q": "two", "system": "", "max_tokens": ""}
    assert [(r.line, r.query, r.fields) for r in read("one\n\n two \n", "x.txt")] == [
        (1, "one", {"input": "one"}),
        (3, "two", {"input": "two"}),
    ]


def test_a_limit_reads_the_same_in_each_format() -> None:
    limits = ["-1", "3", "3.0", '"3"', '""']
    from_json = read("".join(f'{{"input": "a", "max_tokens": {limit}}}\n' for limit in limits), "x.jsonl")
    from_csv = read("input,max_tokens\n" + "".join(f"a,{limit}\n" for limit in limits), "x.csv")
    for requests in (from_json, from_csv):
        assert [(request.max_tokens, request.error) for request in requests] == [(n, "") for n in (-1, 3, 3, 3, None)]


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("x.jsonl", '{"input": "a\\u0000b"}', 1, "input: .*NUL"),
        ("x.csv", "input\na\0b\n", 2, "NUL"),
        ("x.txt", "a\0b\n", 1, "NUL"),
        ("x.jsonl", '{"input": "a", "system": "\\u0000"}', 1, "system: .*NUL"),
        ("x.jsonl", '{"input": "a", "max_tokens": "five"}', 1, "max_tokens: .*integer"),
        ("x.jsonl", '{"input": "a", "max_tokens": 2.5}', 1, "max_tokens: .*integer"),
        ("x.jsonl", '{"input": "a", "max_tokens": true}', 1, "max_tokens: .*number"),
        ("x.jsonl", '{"input": "a", "max_tokens": -2}', 1, "max_tokens: .*-1 for no limit"),
        ("x.jsonl", '{"input": "a", "n": 1e999}', 1, "not JSON"),
        ("x.jsonl", '{"input": "a", "n": NaN}', 1, "not JSON"),
        ("x.csv", "input,max_tokens\na,x\n", 2, "max_tokens: .*integer"),
        ("x.csv", "input,max_tokens\na,0\n", 2, "max_tokens: .*1"),
        ("x.csv", "input,max_tokens\na\n", 2, "1 fields where the header has 2"),
        ("x.csv", "input,b\n,x\n", 2, "input: "),
        ("x", "a query\n", 1, r"not JSON: .*\.csv .*\.txt"),
    ],
)
def test_a_bad_row_has_its_error(name: str, content: str, line: int, words: str) -> None:
    (request,) = read(content, name)
    assert request.line == line
    assert (request.query, request.fields) == ("", {})
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(request.error)


def test_after_a_bad_row_come_the_next() -> None:
    rows = 'input,id\n"a"b,1\nc,2\n"d\ne\xff",3\nf,4\n"g\n"h",5\ni,6\n"j\n\n'
    requests = read(rows.encode("latin-1"), "x.csv")
    assert [(request.line, request.query, bool(request.error)) for request in requests] == [
        (2, "", True),
        (3, "c", False),
        (5, "", True),  # the line that is not UTF-8, in the row that begins before it
        (6, "f", False),
        (7, "", True),
        (9, "i", False),
        (10, "", True),
    ]
    assert "(lines 7 to 8)" in requests[4].error
    assert requests[-1].end == len(rows)


def test_a_row_over_many_lines_takes_no_memory() -> None:
    """Each field is short, so the csv module alone would read on."""
    endless = b"input\n" + b'"x\n",' * (MAX_LINE_BYTES // 5 + 1000) + b'\n"q"\nfine\n'
    first, *_, last = read(endless, "x.csv")
    assert "longer than" in first.error
    assert last.query == "fine"


@pytest.mark.parametrize(
    "header", ["note\n", "input,a,a\n", 'input,"a\n', "input,\xff\n", "x" * MAX_LINE_BYTES + "x\n"]
)
def test_a_header_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(DataError, match=r"^x\.csv:1: "):
        read(header.encode("latin-1") + b"a,b,c\n", "x.csv")


def test_columns_without_a_name_get_one_where_they_have_cells() -> None:
    (request,) = read("input,,\na,,b\n", "x.csv")
    assert request.fields == {"input": "a", "column 3": "b"}


def test_a_part_that_no_row_has_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"'output'; .*input, system, history, max_tokens"):
        read_requests(io.BytesIO(), Path("x.csv"), {"output": "x"})


@given(content=st.binary(max_size=200) | st.text('",\n\r\0 ax{}[]:\\', max_size=60).map(str.encode))
def test_no_content_is_too_strange(content: bytes) -> None:
    for name in ("x.jsonl", "x.csv", "x.txt"):
        header = b"input\n" if name == "x.csv" else b""
        try:
            requests = read(header + content, name)
        except DataError:
            assert not content.isascii() or content.lstrip().startswith(
                (b"PAR1", b"ARROW1", b"Obj", b"PK", b"[", b"{")
            )  # other programs' files, and JSON in a file of queries
            continue
        lines = (header + content).count(b"\n") + 1
        assert all(1 <= request.line <= lines for request in requests)
        assert all(bool(request.error) is not bool(request.query) for request in requests)
        ends = [request.end for request in requests]
        assert ends == sorted(ends)
        assert all(end <= len(header + content) for end in ends)


def test_numbers_are_written_back_as_they_were_read() -> None:
    (request,) = read('{"input": 2.50, "n": 1e3, "b": true}', "x.jsonl")
    assert request.query == "2.50"
    assert json.dumps(request.fields) == '{"input": 2.5, "n": 1000.0, "b": true}'
    assert pickle.loads(pickle.dumps(request)) == request
