"""SetFit as a rival: the steps of one epoch, tasks that are there, and what is said where it is not installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import label_rows
from benchmarks.json_lines import json_lines
from benchmarks.paper_tasks import STUDIED
from benchmarks.setfit_labels import BATCH, MAX_STEPS, fine_tuned, n_steps


@pytest.mark.parametrize(("labels", "n_pairs"), [("aabb", 2 * 6), ("aaab", 2 * 7), ("abcd" * 8, 2 * 384)])
def test_pairs_of_one_label_are_as_many_as_of_two(labels: str, n_pairs: int) -> None:
    assert n_steps(labels) == -(-n_pairs // BATCH)


def test_many_rows_end_at_the_maximum() -> None:
    assert n_steps("abcdefgh" * 32) == MAX_STEPS


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "setfit", None)
    with pytest.raises(SystemExit, match=r"^SetFit needs \w+, which is not installed; run: pip install setfit$"):
        fine_tuned([], 42)


def test_each_task_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.json").write_text(json.dumps({task: {"group": "text"} for task in STUDIED}))
    monkeypatch.setattr(label_rows, "measured_setfit", lambda draw, task: {"task": task, "n": draw.n_rows})
    output = tmp_path / "out.jsonl"
    for n_rows in (16, 16, 64):
        label_rows.run(tmp_path, n_rows, 42, label_rows.SETFIT, output)
        output.write_text("".join(output.read_text().splitlines(keepends=True)[:6]))
    label_rows.run(tmp_path, 64, 42, label_rows.SETFIT, output)
    assert [(line["rows"], line["n"], line["task"]) for line in json_lines(output)] == [
        (n_rows, n_rows, task) for n_rows in (16, 64) for task in STUDIED
    ]
