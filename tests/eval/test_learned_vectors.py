"""Learned vectors in place of the bundle's mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from atv_cli.main import app
from atv_eval.eval_task import Task
from atv_eval.evaluation import evaluate
from atv_eval.learned_vectors import with_learned_vectors
from atv_eval.methods import Method
from atv_eval.questions import QuestionBuilder
from atv_local.answer.engine import Engine
from atv_local.data.rows import Row
from atv_local.errors import NotFoundError, UsageError, VectorError
from atv_local.vectors.control_vector import write_control_vector
from atv_local.vectors.steering import Positions
from atv_local.vectors.task_vector import TaskVector
from tests.eval.tasks import plan_of

ROWS = [Row(input=f"q{n}", output="ab"[n % 2]) for n in range(6)]


def write_vector(path: Path, value: float, shape: tuple[int, int] = (2, 4)) -> Path:
    write_control_vector(TaskVector(np.full(shape, value, dtype=np.float32)), path, "llama", {"positions": "last"})
    return path


def test_a_task_has_the_vector_of_its_name(tmp_path: Path) -> None:
    for n, name in enumerate(("per-task-0-one.gguf", "per-task-1-two--to-.gguf", "static.gguf", "averaged-0-one.gguf")):
        write_vector(tmp_path / name, n + 1)
    tasks = [Task.of(name, ROWS, []) for name in ("two (to)", "other", "one")]
    said: list[str] = []
    learned = [task.learned for task in with_learned_vectors(tasks, tmp_path, said.append)]
    assert [float(vector.vector().array[0, 0]) for vector in learned if vector] == [2, 3, 1]
    (line,) = said
    assert "'other'" in line
    assert "static.gguf" in line
    (tmp_path / "static.gguf").unlink()
    with pytest.raises(UsageError, match="'other'"):
        with_learned_vectors(tasks, tmp_path)
    write_vector(tmp_path / "per-task-2-two--to-.gguf", 9)
    with pytest.raises(UsageError, match=r"per-task-1-two--to-\.gguf, per-task-2"):
        with_learned_vectors(tasks[:1], tmp_path)
    with pytest.raises(NotFoundError):
        with_learned_vectors(tasks, tmp_path / "missing.gguf")


def test_a_learned_vector_steers_as_it_was_trained(
    tiny: Engine, asked: Path, tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    shape = (tiny.target.n_rows, tiny.target.spec.n_embd)
    file = write_vector(tmp_path / "learned.gguf", 0.5, shape)
    plan = plan_of(asked)
    tasks = with_learned_vectors(plan.tasks, file)
    (first, *_) = QuestionBuilder(type(plan)(tasks, [Method.STATIC], plan.steering), tiny).questions({})
    (way,) = first.ways
    assert way.rows is not None
    assert (way.rows.array == 0.5).all()
    assert (way.steering.strength, way.steering.positions) == (1, Positions.LAST)
    settings: dict[str, Any] = {"model": tiny_gguf, "rows": 4, "timed": 0, "harm": False}
    alone = evaluate(asked, methods=["base", "static"], static=file, **settings)
    assert alone.about["bundle"] is None
    assert "kinds" in alone.about["static"]
    assert any("learned" in note for note in alone.notes)
    default = evaluate(asked, bundle=tiny_bundle, static=file, output=tmp_path / "out", **settings)
    assert Method.STATIC in {score.method for score in default.scores}
    with pytest.raises(UsageError, match="static"):  # other answers than those in the folder
        evaluate(asked, bundle=tiny_bundle, output=tmp_path / "out", **settings)
    with pytest.raises(VectorError, match=r"wide\.gguf"):
        evaluate(asked, methods=["static"], static=write_vector(tmp_path / "wide.gguf", 1, (2, 5)), **settings)
    unread = CliRunner().invoke(app, ["eval", str(asked), "--static", str(file), "--method", "base"])
    assert unread.exit_code == 2
    assert "--static has no effect" in unread.stderr
