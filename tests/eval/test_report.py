"""Tables, CSV and JSON of one evaluation agree."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from atv_eval.answer_records import answer_plan
from atv_eval.eval_plan import EvalPlan
from atv_eval.methods import Method
from atv_eval.report import EvalResult
from atv_eval.scores import MEAN, differences, score_methods
from atv_eval.tasks import read_tasks
from atv_local.answer.engine import Engine
from atv_local.data.columns import DEFAULT_COLUMNS
from atv_local.vectors.steering import Steering
from tests.eval.tasks import write_task


def test_tables_agree(tiny: Engine, asked: Path, tmp_path: Path) -> None:
    second = write_task(tmp_path / "more.jsonl", ["cat 1", "fig 1", "dog 1", "lime 1"])
    tasks = read_tasks([asked, second], [], DEFAULT_COLUMNS, 3, False)
    records = answer_plan(EvalPlan(tasks, (Method.BASE, Method.STEERED), Steering()), tiny, None)
    result = EvalResult({}, records, score_methods(records, tasks), differences(records, tasks), {Method.BASE: 3.5}, {})
    rows = list(csv.DictReader(io.StringIO(result.as_csv())))
    assert [(row["task"], row["method"]) for row in rows] == [
        (task, method) for method in ("base", "steered") for task in ("kinds", "more", MEAN)
    ]
    text = result.as_markdown()
    for row in rows:
        line = next(line for line in text.splitlines() if line.startswith(f"| {row['task']}: {row['method']} |"))
        assert f" {100 * float(row['exact']):.1f} [" in line
    assert result.as_dict()["scores"][0]["scores"]["exact"]["value"] == float(rows[0]["exact"])
    assert json.loads(result.as_json()) == json.loads(json.dumps(result.as_dict()))
