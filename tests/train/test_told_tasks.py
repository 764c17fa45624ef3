"""Training on tasks that are told in words: what is read, what the bundle says, and answers by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import atv_local
import atv_train
from atv_export import export
from atv_local.data import Row, tell
from atv_local.errors import AtvError, DataError, UsageError
from atv_train.examples import Wordings
from atv_train.outside_queries import as_asked

SORT = "Sort the word."
QUICK = {"epochs": 2, "batch_size": 8, "learning_rate": 2e-2}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "worded", "read"),
    [
        ({}, {}, ["cow 1"]),
        ({"instruction": SORT}, {}, [f"{SORT}\n\ncow 1"]),
        ({"choices": ["a", "b"]}, {}, ["cow 1"]),
        (
            {"instruction": SORT, "choices": ["a", "b"]},
            {},
            [f"{SORT}\nAnswer with one of these, and nothing else: a, b.\n\ncow 1"],
        ),
        ({"instruction": SORT}, {"instructions": {"t": ["Say it."]}}, ["Say it.\n\ncow 1"]),
        ({}, {"instructions": {"other": ["Say it."]}}, ["cow 1"]),
        (
            {},
            {"instructions": {"t": ["Say it.", "Tell it."]}, "templates": {"*": ["<{input}>"]}},
            ["Say it.\n\n<cow 1>", "Tell it.\n\n<cow 1>"],
        ),
    ],
)
def test_what_is_read_for_a_row(row: dict[str, Any], worded: dict[str, Any], read: list[str]) -> None:
    assert Wordings(**worded).of_row(Row.model_validate({"input": "cow 1", "output": "a", "task": "t"} | row)) == read


def test_a_task_has_the_instruction_that_most_rows_have_and_the_choices_of_all() -> None:
    rows = [Row(input="x", output="y", instruction=said) for said in ("One.", "Two.", "Two.", None)]
    assert Wordings().of_task(rows) == ("Two.", ())
    assert Wordings().of_task(rows[3:]) == (None, ())
    same = [Row(input="x", output="a", instruction="Do.", choices=tuple(order)) for order in ("ab", "ba")]
    assert Wordings().of_task(same) == ("Do.", ("a", "b"))
    other = Row(input="x", output="a", instruction="Do.", choices=("a", "c"))
    assert Wordings().of_task([*same, other]) == ("Do.", ())


def test_queries_outside_are_asked_with_and_without_instructions() -> None:
    queries = ["a", "b", "c", "d", "e"]
    assert as_asked(queries, []) == queries
    assert as_asked(queries, ["One.", "Two."]) == [tell("One.", "a"), "b", tell("Two.", "c"), "d", tell("One.", "e")]


def test_a_task_is_trained_told_and_answers_without_being_named(
    tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path
) -> None:
    instructions = {tiny_rows.stem: SORT, "of another file": "Never read."}
    result = atv_train.train(
        tiny_rows, tmp_path / "run", model=tiny_gguf, backbone=tiny_backbone, instructions=instructions, **QUICK
    )
    assert atv_train.resume(result.folder).history == result.history
    report = export(result, tmp_path / "bundle", precisions="fp32", model=tiny_gguf)
    assert (report.manifest.format_version, report.manifest.instructions) == (4, {tiny_rows.stem: SORT})
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert f"- `{tiny_rows.stem}`: {SORT}" in card
    with atv_local.load(tiny_gguf, tmp_path / "bundle", n_threads=1) as engine:
        told = engine.answer("a pear", task=tiny_rows.stem, max_tokens=2)
        assert told.instruction == SORT
        assert engine.answer("a pear", steering=atv_local.Steering(gate="off"), max_tokens=2).text == told.text


def test_two_tasks_of_one_input_are_no_contradiction(tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    rows = [{"input": f"cow {n}", "output": "a"} for n in range(12)]
    other = [row | {"output": "b"} for row in rows]
    data = [write(tmp_path / "one.jsonl", *rows), write(tmp_path / "two.jsonl", *other)]
    told = {"one": "Say a.", "two": "Say b."}
    warned = [
        atv_train.train(
            data, tmp_path / name, model=tiny_gguf, backbone=tiny_backbone, instructions=said, **QUICK
        ).warnings
        for name, said in (("bare", None), ("told", told), ("half", {"one": "Say a."}))
    ]
    assert [any("more than one output" in line for line in lines) for lines in warned] == [True, False, False]
    assert [any("no instruction for 'two'" in line for line in lines) for lines in warned] == [False, False, True]


@pytest.mark.parametrize(
    ("instructions", "error", "words"),
    [
        ({"nobody": "Do."}, UsageError, "none of the tasks"),
        ({"rows": " "}, DataError, "blank"),
        ({"rows": "x" * 9000}, DataError, "9000 characters"),
        ({"rows": []}, DataError, "no instructions"),
        ({"rows": 3}, AtvError, "instructions"),
        (["Do."], AtvError, "instructions"),
    ],
)
def test_instructions_that_cannot_be_read_are_refused(
    tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path, instructions: Any, error: type[AtvError], words: str
) -> None:
    data = write(tmp_path / "rows.jsonl", *({"input": f"cow {n}", "output": "a"} for n in range(12)))
    with pytest.raises(error, match=words):
        atv_train.train(
            data, tmp_path / "run", model=tiny_gguf, backbone=tiny_backbone, instructions=instructions, **QUICK
        )
    assert not (tmp_path / "run").exists()
