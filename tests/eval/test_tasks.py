"""Rows of tasks, their labels, and the rows shown as demonstrations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atv_eval.demonstrations import BM25, balanced
from atv_eval.eval_task import Task
from atv_eval.tasks import read_tasks
from atv_local.data.columns import DEFAULT_COLUMNS
from atv_local.data.rows import Row
from atv_local.errors import DataError
from tests.eval.tasks import write_task
from tests.tiny import ANSWERS


def test_shown_rows_are_balanced_and_near() -> None:
    rows = [Row(input=f"{word} {n}", output=ANSWERS[word]) for n in range(3) for word in ANSWERS]
    picked = balanced(rows[::-1] + rows[:5], 6, 0)
    assert sorted(row.output for row in picked) == ["a"] * 3 + ["b"] * 3
    assert picked == balanced(rows[::-1] + rows[:5], 6, 0)
    assert [row.input.split()[0] for row in BM25(rows).nearest("a pig", 3)] == ["pig"] * 3
    assert BM25(rows).nearest("two", 99)


def test_labels_stand_in_for_choices(tmp_path: Path) -> None:
    bare = write_task(tmp_path / "bare.jsonl", ["cat 1", "fig 1"])
    (task,) = read_tasks([bare], [], DEFAULT_COLUMNS, None, True)
    assert all(set(row.choices or ()) == {"a", "b"} for row in task.rows)
    many = tmp_path / "many.jsonl"
    many.write_text("".join(json.dumps({"input": f"i{n}", "output": f"o{n}"}) + "\n" for n in range(300)))
    with pytest.raises(DataError, match="300 outputs"):
        read_tasks([many], [], DEFAULT_COLUMNS, None, True)
    assert Task.of("t", [Row(input=f"{n}", output=f"text {n}") for n in range(9)], []).labels == ()


def test_one_task_on_each_side_is_the_same_task(tmp_path: Path) -> None:
    asked, shown = write_task(tmp_path / "test.jsonl", ["cat 1"]), write_task(tmp_path / "train.jsonl", ["fig 1"])
    said: list[str] = []
    (task,) = read_tasks([asked], [shown], DEFAULT_COLUMNS, None, False, on_message=said.append)
    assert (task.name, [row.input for row in task.pool]) == ("test", ["fig 1"])
    assert len(said) == 1
    assert "'train'" in said[0]
    with pytest.raises(DataError, match="also in `shots_from`"):
        read_tasks([asked], [write_task(tmp_path / "train.jsonl", ["cat 1"])], DEFAULT_COLUMNS, None, False)
    words = [f"{word} {n}" for n in range(9) for word in ANSWERS]
    both = [write_task(tmp_path / name, words[::step]) for name, step in (("both.jsonl", 1), ("same.jsonl", -1))]
    with pytest.raises(DataError, match=f"such as '{words[0]}' .{len(words)} in all"):
        read_tasks(both[:1], both[1:], DEFAULT_COLUMNS, None, False)


def test_a_task_without_rows_to_show_is_named(tmp_path: Path) -> None:
    asked = [write_task(tmp_path / f"{name}.jsonl", ["cat 1"]) for name in ("one", "two")]
    (tmp_path / "shown").mkdir()
    shown = [write_task(tmp_path / "shown" / f"{name}.jsonl", ["fig 1"]) for name in ("one", "other")]
    said: list[str] = []
    tasks = read_tasks(asked, shown, DEFAULT_COLUMNS, None, False, on_message=said.append)
    assert [len(task.pool) for task in tasks] == [1, 0]
    without, unused = said
    assert "'two'" in without
    assert "'one'" not in without
    assert "'other'" in unused
    assert "'one'" not in unused


def test_bad_rows_of_all_files_are_named_and_can_be_skipped(tmp_path: Path) -> None:
    asked, shown = tmp_path / "one.csv", tmp_path / "two.csv"
    asked.write_text("input,output\nx,y\nz,\n")
    shown.write_text("input,output\na,y\n,y\n")
    with pytest.raises(DataError, match=r"one.csv:3: output.*two.csv:3: input"):
        read_tasks(asked, shown, DEFAULT_COLUMNS, None, False)
    said: list[str] = []
    (task,) = read_tasks(asked, shown, DEFAULT_COLUMNS, None, False, skip_bad_rows=True, on_message=said.append)
    assert [row.input for row in (*task.rows, *task.pool)] == ["x", "a"]
    assert any("2 bad rows left out" in line for line in said)


def test_labels_that_differ_in_writing_are_named(tmp_path: Path) -> None:
    file = tmp_path / "desks.csv"
    file.write_text("input,output\n" + "a,ship\n" * 4 + "b,Ship\n")
    said: list[str] = []
    read_tasks(file, [], DEFAULT_COLUMNS, None, False, on_message=said.append)
    assert "'ship' (4) and 'Ship' (1)" in said[0]
