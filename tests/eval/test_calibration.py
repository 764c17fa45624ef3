"""Calibration keeps the budget, and the bundle remembers."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from atv_eval.calibrated_bundle import write_calibrated
from atv_eval.calibration import calibrate
from atv_eval.eval_hooks import EvalHooks
from atv_eval.metrics import Metric
from atv_eval.steering_search import search_steering
from atv_eval.tasks import read_tasks
from atv_local.answer.engine import Engine
from atv_local.answer.loading import load
from atv_local.data.columns import DEFAULT_COLUMNS
from atv_local.errors import BundleError, UsageError
from atv_local.generator.bundle import Bundle
from atv_local.vectors.steering import Steering
from tests.tiny import ANSWERS


def test_calibrated_in_place_a_bundle_keeps_what_else_it_has(tmp_path: Path, tiny_bundle: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    (folder / "notes.txt").write_text("mine")
    found = json.loads((folder / "atv.json").read_text())
    (folder / "atv.json").write_text(json.dumps(found | {"future": {"a": 1}}))
    before = Bundle(folder)
    write_calibrated(before, Steering(0.5, (2, 3)), folder)
    after = Bundle(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert json.loads((folder / "atv.json").read_text())["future"] == {"a": 1}
    assert after.manifest.injection == before.manifest.injection
    assert (after.manifest.steering.strength, after.manifest.steering.layers) == (0.5, (2, 3))
    for wrong in ({"strength": 0}, {"strength": 1, "layers": [2, 99]}):
        (folder / "atv.json").write_text(json.dumps(found | {"calibration": wrong}))
        with pytest.raises(BundleError):
            Bundle(folder)


def test_calibration_keeps_the_budget_and_the_bundle_remembers(tiny: Engine, asked: Path, tiny_gguf: Path,
                                                               tmp_path: Path) -> None:  # fmt: skip
    tasks = read_tasks([asked], [], DEFAULT_COLUMNS, None, False)
    queries = [f"say {word}" for word in ANSWERS]
    points = search_steering(tiny, tasks, queries, budget=99, strengths=[0.01, 0.3, 1])
    free = min(points, key=lambda point: point.rank(99))
    assert free.score.value == max(point.score.value for point in points)
    budget = sorted(point.harm.kl for point in points)[len(points) // 3]
    best = min(points, key=lambda point: point.rank(budget))
    assert best.harm.kl <= budget
    assert tiny.generator is not None
    written = write_calibrated(tiny.generator.bundle, best.steering, tmp_path / "calibrated")
    again = load(tiny_gguf, tmp_path / "calibrated", n_threads=1)
    assert again.generator is not None
    assert again.generator.bundle.id == written.id != tiny.generator.bundle.id
    assert again.steering.strength == best.steering.strength
    assert again.steering.layers == (best.steering.layers or tiny.steering.layers)
    steered = tiny.answer("fig 3", steering=best.steering, max_tokens=4)
    assert again.answer("fig 3", max_tokens=4).text == steered.text


def test_python_calibrates(tiny_gguf: Path, tiny_bundle: Path, asked: Path, unrelated: Path, tmp_path: Path) -> None:
    settings = {
        "model": tiny_gguf,
        "bundle": tiny_bundle,
        "strengths": np.array([0.1, 1.0]),
        "search_layers": False,
        "rows": 4,
        "unrelated": unrelated,
    }
    stages: list[str] = []
    tried = calibrate([asked], budget=50, dry_run=True, hooks=EvalHooks(on_message=stages.append), **settings)  # type: ignore[arg-type]
    assert tried.bundle is None
    assert tried.best in tried.points
    assert len(tried.points) == 2
    assert stages[-1] == "measuring 2 strengths"
    assert "no gate" in stages[0]
    assert tried.as_markdown().count("(chosen)") == 1
    result = calibrate([asked], budget=50, output=tmp_path / "new", **settings)  # type: ignore[arg-type]
    assert result.best == tried.best
    assert result.bundle is not None
    assert result.bundle.manifest.steering.strength == tried.best.steering.strength
    tight = calibrate([asked], budget=1e-12, output=tmp_path / "never", **settings)  # type: ignore[arg-type]
    assert (tight.best, tight.bundle) == (None, None)
    assert not (tmp_path / "never").exists()
    for option in ({"output": tmp_path / "new"}, {"overwrite": True}):
        with pytest.raises(UsageError, match=f"`{next(iter(option))}.* `dry_run=True`"):
            calibrate([asked], dry_run=True, **settings, **option)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="overwrite=True"):
        calibrate([asked], budget=50, **settings)  # type: ignore[arg-type]


def test_a_bundle_that_would_get_worse_is_not_changed_in_place(
    tiny_gguf: Path, tiny_bundle: Path, asked: Path, unrelated: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    settings = {"model": tiny_gguf, "bundle": folder, "strengths": [0.01, 1.0], "search_layers": False, "rows": 8}
    points = calibrate([asked], budget=50, dry_run=True, unrelated=unrelated, **settings).points  # type: ignore[arg-type]
    weak, strong = sorted(points, key=lambda point: point.steering.strength)
    assert weak.score.value < strong.score.value - 0.01
    budget = (weak.harm.kl + strong.harm.kl) / 2
    before = (folder / "atv.json").read_bytes()
    with pytest.raises(UsageError, match="points worse"):
        calibrate([asked], budget=budget, overwrite=True, unrelated=unrelated, **settings)  # type: ignore[arg-type]
    assert (folder / "atv.json").read_bytes() == before
    result = calibrate([asked], budget=budget, output=tmp_path / "new", unrelated=unrelated, **settings)  # type: ignore[arg-type]
    assert result.bundle is not None
    assert result.cost == pytest.approx(100 * (strong.score.value - weak.score.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("strengths", value) for value in (0.5, "0.5,1", [0.0], [], [11], ["a"], [True], None, [float("nan")])),
        *(("budget", value) for value in (0, 100, "1", None, float("nan"), True)),
        *(
            ("columns", "input=x"),
            ("columns", None),
            ("rows", 0),
            ("search_layers", "2-3"),
            ("hooks", print),
            ("bundle", ""),
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named(asked: Path, name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"^`{name}` {re.escape(repr(value))} is not "):
        calibrate(**{"data": [asked], "bundle": "demo", name: value})  # type: ignore[arg-type]  # one of several


def test_texts_are_ranked_by_their_own_metric(tiny: Engine, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    rows = [
        {"input": f"{word} {n}", "output": f"{ANSWERS[word]} is the kind of {word} {n}"}
        for n in (3, 4)
        for word in ANSWERS
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = read_tasks([file], [], DEFAULT_COLUMNS, 6, False)
    assert tasks[0].main is Metric.CHRF
    weak, strong = search_steering(
        tiny, tasks, ["say fig"], budget=99, strengths=[0.01, 1], search_layers=False
    )  # no answer is right to the letter, but a steered one has a letter in common
    assert 0 < strong.score.value < 1
    assert strong.score.value > weak.score.value
