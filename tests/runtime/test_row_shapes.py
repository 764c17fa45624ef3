"""Rows in the shapes of other data sets, and what is said about columns that are read in another way or not at all."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from atv_local.data.request_rows import read_requests
from atv_local.data.rows import Row, read_queries, read_row_files, read_rows
from atv_local.errors import DataError


def read(tmp_path: Path, *records: dict[str, Any], columns: dict[str, str] | None = None) -> tuple[list[Row], str]:
    """The rows, and the notes about them."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    notes: list[str] = []
    return read_rows(file, columns or {}, notes.append).rows, "\n".join(notes)


def message(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


ASKED = [message("user", "the lamp is late"), message("assistant", "shipping")]
LATE = Row(input="the lamp is late", output="shipping", task="rows")


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "the lamp is late", "completion": "shipping"},
        {"Text": "the lamp is late", "Label": "shipping"},
        {"question": "the lamp is late", "answer": "shipping"},
        {"query": "the lamp is late", "response": "shipping"},
        {"INPUT": "the lamp is late", "Output ": "shipping"},
        {"instruction": "the lamp is late", "output": "shipping"},
        {"instruction": "the lamp is late", "input": "", "output": "shipping"},
        {"instruction": "the lamp is late", "input": " ", "output": "shipping", "system": "", "history": []},
        {"instruction": "the lamp is late", "response": "shipping"},
        {"messages": ASKED},
        {"messages": [{"role": turn["role"].title(), "content": turn["content"]} for turn in ASKED]},
        {"prompt": ASKED[:1], "completion": ASKED[1:]},
        {"messages": [message("user", [{"type": "text", "text": "the lamp is late"}]), ASKED[1]]},
        {"conversations": [{"from": "human", "value": "the lamp is late"}, {"from": "gpt", "value": "shipping"}]},
        {"input": "the lamp is late", "output": "shipping", "task": None, "choices": [], "system": None},
    ],
)
def test_one_row_in_many_shapes(tmp_path: Path, record: dict[str, Any]) -> None:
    rows, _ = read(tmp_path, record)
    assert rows == [LATE]
    assert read_queries(tmp_path / "rows.jsonl") == ["the lamp is late"]
    (request,) = read_requests(io.BytesIO(json.dumps(record).encode()), Path("rows.jsonl"))
    assert (request.query, request.error) == ("the lamp is late", "")


def test_an_instruction_of_each_row_goes_before_the_input(tmp_path: Path) -> None:
    record = {"instruction": "Give the opposite.", "input": "warm", "output": "cold"}
    (row, _), notes = read(tmp_path, record, record | {"instruction": "Give the plural.", "output": "warms"})
    assert (row.input, row.instruction) == ("Give the opposite.\n\nwarm", None)
    assert "'instruction' is put before the input" in notes
    (request,) = read_requests(io.BytesIO(json.dumps(record).encode()), Path("x.jsonl"))
    assert request.query == row.input


def test_an_instruction_that_most_rows_share_is_the_task_s(tmp_path: Path) -> None:
    record = {"instruction": "Give the opposite.", "input": "warm", "output": "cold"}
    other = record | {"instruction": "Give the plural.", "output": "warms"}
    rows, notes = read(tmp_path, record, record | {"input": "big", "output": "small"}, other)
    assert [(row.input, row.instruction) for row in rows] == [
        ("warm", "Give the opposite."),
        ("big", "Give the opposite."),
        ("warm", "Give the plural."),
    ]
    assert "instruction" not in notes


@pytest.mark.parametrize("more", [{"task": "t"}, {"choices": ["cold", "hot"]}, {"references": ["cool"]}])
def test_an_instruction_of_a_task_is_not_in_the_query(tmp_path: Path, more: dict[str, Any]) -> None:
    record = {"instruction": "Give the opposite.", "input": "warm", "output": "cold"} | more
    (row, _), _ = read(tmp_path, record, record | {"instruction": "Give its opposite."})
    assert (row.input, row.instruction) == ("warm", "Give the opposite.")
    (request,) = read_requests(io.BytesIO(json.dumps(record).encode()), Path("x.jsonl"))
    assert (request.query, request.instruction) == ("warm", "Give the opposite.")


def test_a_named_instruction_is_the_task_s(tmp_path: Path) -> None:
    record = {"instruction": "Give the opposite.", "input": "warm", "output": "cold"}
    (row,), notes = read(tmp_path, record, columns={"instruction": "instruction"})
    assert (row.input, row.instruction, notes) == ("warm", "Give the opposite.", "")
    (row,), notes = read(tmp_path, record, columns={"instruction": ""})
    assert (row.input, row.instruction, notes) == ("warm", None, "")


def test_earlier_turns_and_the_system_message_of_a_conversation(tmp_path: Path) -> None:
    turns = [message("system", "Be brief."), message("user", "hello"), message("assistant", "hi"), *ASKED]
    (row,), _ = read(tmp_path, {"messages": turns})
    assert (row.system, row.history, row.input, row.output) == ("Be brief.", (("hello", "hi"),), LATE.input, "shipping")
    (row,), _ = read(
        tmp_path, {"input": "x", "output": "y", "history": [["hello", "hi"]], "system_prompt": "Be brief."}
    )
    assert (row.system, row.history) == ("Be brief.", (("hello", "hi"),))
    content = json.dumps({"messages": turns[:-1]}).encode()
    (request,) = read_requests(io.BytesIO(content), Path("x.jsonl"))
    assert (request.system, request.history, request.query) == ("Be brief.", (("hello", "hi"),), LATE.input)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (ASKED[:1], "messages: the last message is not the assistant's"),
        (ASKED[1:], "messages: .*turns"),
        ([*ASKED[:1], *ASKED], "messages: .*turns"),
        ([message("tool", "x"), *ASKED], "messages: the role 'tool' is not"),
        ([message("user", None), ASKED[1]], "messages: a message of the user is not text"),
        ([message("user", [{"type": "image"}]), ASKED[1]], "messages: a message of the user is not text"),
        ([message("system", "x")], "messages: .*turns"),
        ([message("system", ""), *ASKED[1:]], "messages: .*turns"),
    ],
)
def test_a_conversation_that_cannot_be_read(tmp_path: Path, messages: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(tmp_path, {"messages": messages})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"system": "Be kind."}, "messages: it has its own system, and there is 'system' too; leave one out"),
        ({"system_prompt": "Be kind."}, "own system, and there is 'system_prompt' too"),
        ({"history": [["hello", "hi"]]}, "own history, and there is 'history' too"),
    ],
)
def test_what_is_in_the_messages_and_beside_them(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    turns = [message("system", "Be brief."), *ASKED, *ASKED]
    with pytest.raises(DataError, match=words):
        read(tmp_path, {"messages": turns} | more)
    (request,) = read_requests(io.BytesIO(json.dumps({"messages": turns[:-1]} | more).encode()), Path("x.jsonl"))
    assert words.partition("own ")[2] in request.error
    assert read_queries(tmp_path / "rows.jsonl") == [LATE.input]
    (row,), _ = read(tmp_path, {"messages": ASKED} | more)
    assert row.system or row.history


def test_a_blank_system_message_is_none(tmp_path: Path) -> None:
    for blank in ("", " \n"):
        assert read(tmp_path, {"messages": [message("system", blank), *ASKED]})[0] == [LATE]
        (row,), _ = read(tmp_path, {"messages": [message("system", blank), *ASKED], "system": "Be kind."})
        assert row.system == "Be kind."


def test_what_is_not_read_in_messages_is_named(tmp_path: Path) -> None:
    more = {"weight": 0, "tool_calls": [{"id": "1"}], "name": None, "value": "x"}
    rows, notes = read(tmp_path, {"messages": [ASKED[0], ASKED[1] | more]}, {"messages": [ASKED[0], ASKED[1] | more]})
    assert rows == [LATE, LATE]
    for key in ("weight", "tool_calls", "value"):
        assert notes.count(f"not read in the messages of 'messages': {key!r}") == 1
    assert "'name'" not in notes
    assert "not read" not in read(tmp_path, {"messages": [ASKED[0], ASKED[1] | {"weight": 1}]})[1]


@pytest.mark.parametrize(
    "records",
    [
        [{"instruction": "Say it.", "input": "x", "output": "y"}, {"instruction": LATE.input, "output": "shipping"}],
        [{"input": "x", "output": "y"}, {"messages": ASKED}],
        [{"input": "x", "output": "y"}, {"instruction": LATE.input, "output": "shipping"}],
    ],
)
def test_rows_are_read_the_same_in_any_order(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    (first, second), notes = read(tmp_path, *records)
    assert second == LATE
    (second_first, first_second), others = read(tmp_path, *reversed(records))
    assert (first_second, second_first) == (first, LATE)
    assert sorted(notes.splitlines()) == sorted(others.splitlines())
    assert read_queries(tmp_path / "rows.jsonl")[0] == LATE.input


def test_a_text_in_the_column_of_messages_is_not_taken_for_the_input(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("conversation,output\nlate?,x\n")
    with pytest.raises(DataError, match=r"conversation: it must be a list of messages"):
        read_rows(file)
    assert read_rows(file, {"input": "conversation"}).rows[0].input == "late?"


def test_cells_hold_lists_as_json(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    cells = {
        "messages": json.dumps(ASKED),
        "choices": '["refund", "shipping"]',
        "references": '["sent", "on its way"]',
    }
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, cells)
        table.writeheader()
        table.writerows([cells, cells | {"references": "[1]", "choices": "shipping|refund"}])
    full, short = read_rows(file).rows
    assert full == LATE.model_copy(update={"choices": ("refund", "shipping"), "references": ("sent", "on its way")})
    assert short == LATE.model_copy(update={"choices": ("shipping", "refund"), "references": ("[1]",)})
    assert read_queries(file, {"input": "messages"})[0] == cells["messages"]


def test_numbers_are_labels_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    values = ["1", "2.50", "1e3", "-0.0", "true", "12345678901234567890"]
    file.write_text("".join(f'{{"input": {value}, "output": {value}, "choices": [{value}]}}\n' for value in values))
    rows = read_rows(file).rows
    assert [(row.input, row.output, row.choices) for row in rows] == [(value, value, (value,)) for value in values]


def test_other_columns_with_text_are_named_once(tmp_path: Path) -> None:
    fine = {"input": "x", "output": "y", "id": 7, "score": "0.5", "blank": " ", "none": None}
    _, notes = read(tmp_path, fine)
    assert notes == ""
    _, notes = read(tmp_path, fine | {"question": "what?"}, fine | {"question": "who?"}, fine | {"extra": ["a"]})
    assert [line.partition(": not read: ")[2].partition(";")[0] for line in notes.splitlines()] == [
        "'question'",
        "'extra'",
    ]


def test_one_of_two_possible_columns_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'input', found 'text', 'question'"):
        read(tmp_path, {"text": "a", "question": "b", "output": "y"})
    (row,), notes = read(tmp_path, {"text": "a", "question": "b", "output": "y"}, columns={"input": "question"})
    assert row.input == "b"
    assert "not read: 'text'" in notes


def test_all_bad_rows_are_named_at_once(tmp_path: Path) -> None:
    one, other = tmp_path / "one.csv", tmp_path / "other.jsonl"
    one.write_text("input,output\na,\nb,x\nc,\nd\n")
    other.write_text('{"input": "a"}\n{"input": "b", "output": "x"}\nno\n')
    with pytest.raises(DataError) as caught:
        read_row_files([one], [other])
    text = str(caught.value)
    assert text.startswith(f"{one}:2, :4: output: it is blank; :5: 1 fields")
    assert f"{other}:1: no column 'output'" in text
    assert "; :3: not JSON" in text
    assert text.endswith("these 5 rows, or pass `skip_bad_rows=True`")
    notes: list[str] = []
    ((first,), (second,)) = read_row_files([one], [other], skip_bad_rows=True, on_note=notes.append)
    assert [row.input for row in (*first.rows, *second.rows)] == ["b", "b"]
    assert "5 bad rows left out: " in notes[-1]


def test_a_file_of_bad_rows_only_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("input,output\na,\n")
    with pytest.raises(DataError, match=r"no row that is not bad: .*:2: output"):
        read_row_files([file], skip_bad_rows=True)


def test_many_bad_rows_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("input,output\n" + "a,\n" * 1000)
    with pytest.raises(DataError, match="and 980 more rows; correct these 1000 rows"):
        read_rows(file)


def test_a_file_has_a_part_by_one_name(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"input": "a", "output": "b"}\n{"text": "c", "output": "d"}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2: no column 'input', which other rows"):
        read_rows(file)


def test_that_earlier_answers_are_no_outputs_is_said(tmp_path: Path) -> None:
    rows, notes = read(tmp_path, {"messages": [*ASKED, *ASKED]})
    assert rows == [LATE.model_copy(update={"history": (("the lamp is late", "shipping"),)})]
    assert "only the last answer in 'messages' is an output" in notes
    assert "last answer" not in read(tmp_path, {"messages": ASKED})[1]


def test_columns_of_which_several_could_be_meant_are_named(tmp_path: Path) -> None:
    record = {"prompt": "is it late?", "completion": "yes", "label": True}
    with pytest.raises(DataError, match=r":1: no column 'output', .* of which 'completion' and 'label' could be it"):
        read(tmp_path, record)
    assert read(tmp_path, record, columns={"output": "completion"})[0][0].output == "yes"


def test_references_may_be_json_lists_as_the_output_is(tmp_path: Path) -> None:
    (row,), _ = read(tmp_path, {"input": "tags?", "output": '["a", "b"]', "references": '["b", "a"]'})
    assert row.references == ('["b", "a"]',)
    (row,), _ = read(tmp_path, {"input": "tags?", "output": "a", "references": '["b", "a"]'})
    assert row.references == ("b", "a")
