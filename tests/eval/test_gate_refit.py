"""Thresholds of a gate that are fitted again: what passes before and after, and that no bundle gets worse unnoticed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import atv_eval
from atv_cli.main import app
from atv_eval import CalibrationResult, EvalHooks
from atv_local.errors import UsageError
from atv_local.generator import MANIFEST, NEIGHBOURS, OUTSIDE_STEERED, VALID_RECALL, Bundle, Generator
from tests.tiny import BEASTS, FRUITS

Change = Callable[[dict[str, Any]], None]


def write_task(path: Path, words: tuple[str, ...], n: int = 4) -> Path:
    rows = [{"input": f"{word} {number}", "output": "a"} for number in range(n) for word in words]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def with_thresholds(gated_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the bundle whose gate has a task of fruits and one of beasts, with these thresholds."""

    def write(fruits: float, beasts: float) -> Path:
        folder = tmp_path / "gated"
        shutil.copytree(gated_bundle, folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        (task,) = manifest["gate"]["tasks"]
        both = {"fruits": (fruits, len(FRUITS)), "beasts": (beasts, len(BEASTS))}
        manifest["gate"]["tasks"] = [
            task | {"name": name, "prototypes": NEIGHBOURS * n, "threshold": threshold, "note": "mine"}
            for name, (threshold, n) in both.items()
        ]
        (folder / MANIFEST).write_text(json.dumps(manifest))
        return folder

    return write


def refit(folder: Path, data: list[Path] | Path, **more: Any) -> CalibrationResult:
    return atv_eval.calibrate(data, bundle=folder, only="gate", **more)


def thresholds(folder: Path) -> dict[str, float]:
    gate = Bundle(folder).manifest.gate
    assert gate is not None
    return {task.name: task.threshold for task in gate.tasks}


def test_rows_that_did_not_pass_do_so_afterwards(with_thresholds: Callable[..., Path], tmp_path: Path) -> None:
    folder = with_thresholds(5.0, 5.0)
    data = [write_task(tmp_path / "fruits.jsonl", FRUITS), write_task(tmp_path / "beasts.jsonl", BEASTS)]
    result = refit(folder, data, output=tmp_path / "new")
    assert result.gate is not None
    assert result.gate.rows == atv_eval.GateChange(40, 0, 40)
    assert set(result.gate.tasks) == {"fruits", "beasts"}
    assert result.gate.outside.before == 0
    assert result.gate.outside.after < 0.1 * result.gate.outside.n
    assert result.points == ()
    assert set(thresholds(folder).values()) == {5.0}
    generator = Generator(tmp_path / "new", tried=True)
    scores = [generator.scored(query)[1] for query in ("pear 3", "cow 1", "something else")]
    assert [score is not None and (score.task, score.score >= 0.5) for score in scores[:2]] == [
        ("fruits", True),
        ("beasts", True),
    ]
    assert scores[2] is not None
    assert scores[2].score < 0.5
    manifest = json.loads((tmp_path / "new" / MANIFEST).read_text())
    assert manifest["provenance"]["metrics"][VALID_RECALL] == 1
    outside = result.gate.outside
    assert manifest["provenance"]["metrics"][OUTSIDE_STEERED] == outside.after / outside.n
    assert all(task["note"] == "mine" for task in manifest["gate"]["tasks"])
    assert "calibration" not in {name for name, value in manifest.items() if value}


def test_a_task_without_rows_moves_with_the_others(with_thresholds: Callable[..., Path], tmp_path: Path) -> None:
    folder, said = with_thresholds(5.0, 5.5), list[str]()
    data = write_task(tmp_path / "fruits.jsonl", FRUITS)
    refit(folder, data, output=tmp_path / "new", hooks=EvalHooks(on_message=said.append))
    moved = thresholds(tmp_path / "new")
    assert moved["fruits"] < 1
    assert moved["beasts"] == pytest.approx(moved["fruits"] + 0.5)
    assert any("'beasts'" in line for line in said)


def test_rows_of_a_task_that_the_gate_does_not_have_count_for_the_nearest(
    with_thresholds: Callable[..., Path], tmp_path: Path
) -> None:
    folder, said = with_thresholds(0.9, 0.9), list[str]()
    data = write_task(tmp_path / "mine.jsonl", BEASTS)
    result = refit(folder, data, output=tmp_path / "new", hooks=EvalHooks(on_message=said.append))
    assert result.gate is not None
    assert set(result.gate.tasks) == {"mine"}
    assert any("'mine'" in line and "'fruits'" in line for line in said)
    assert any("no rows of 'fruits'" in line for line in said)


def test_queries_outside_set_the_threshold_where_they_are_given(
    with_thresholds: Callable[..., Path], tmp_path: Path
) -> None:
    folder = with_thresholds(0.2, 0.2)
    data = [write_task(tmp_path / "fruits.jsonl", (*FRUITS, "say")), write_task(tmp_path / "beasts.jsonl", BEASTS)]
    outside = tmp_path / "outside.txt"
    outside.write_text("".join(f"ask {n}\n" for n in range(20)))
    alone = refit(folder, data, dry_run=True, gate_recall=0.5).gate
    both = refit(folder, data, dry_run=True, gate_recall=0.5, unrelated=outside).gate
    assert alone is not None
    assert both is not None
    assert both.rows.after > alone.rows.after >= 0.5 * both.rows.n - 1
    assert both.outside.n == 20
    assert both.rows.after - both.outside.after >= alone.rows.after


def test_in_place_a_bundle_only_changes_for_the_better(with_thresholds: Callable[..., Path], tmp_path: Path) -> None:
    data = [write_task(tmp_path / "fruits.jsonl", FRUITS), write_task(tmp_path / "beasts.jsonl", BEASTS)]
    folder = with_thresholds(5.0, 5.0)
    with pytest.raises(UsageError, match="overwrite=True"):
        refit(folder, data)
    refit(folder, data, overwrite=True)
    assert max(thresholds(folder).values()) < 1
    before = (folder / MANIFEST).read_bytes()
    words = [f"{word} {'x' * n}" for n in range(60) for word in ("pear", "cow")]
    (tmp_path / "fruits.jsonl").write_text("".join(json.dumps({"input": w, "output": "a"}) + "\n" for w in words))
    generous = refit(folder, data[0], output=tmp_path / "all", gate_recall=1.0)
    assert generous.gate is not None
    assert generous.gate.rows.after == generous.gate.rows.n
    with pytest.raises(UsageError, match=r"not changed in place: .* `gate_recall`"):
        refit(tmp_path / "all", data[0], gate_recall=0.5, overwrite=True)
    assert (folder / MANIFEST).read_bytes() == before
    fewer = refit(tmp_path / "all", data[0], gate_recall=0.5, output=tmp_path / "half")
    assert fewer.gate is not None
    assert fewer.gate.cost > 1


def test_rows_unlike_the_tasks_do_not_open_the_gate_of_a_bundle_in_place(
    with_thresholds: Callable[..., Path], tmp_path: Path
) -> None:
    folder, said = with_thresholds(0.9, 0.9), list[str]()
    data = write_task(tmp_path / "fruits.jsonl", ("say", "ask", "tell"), 40)
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(UsageError, match=r"not changed in place: .* give rows of its tasks"):
        refit(folder, data, overwrite=True)
    assert (folder / MANIFEST).read_bytes() == before
    opened = refit(folder, data, output=tmp_path / "new", hooks=EvalHooks(on_message=said.append)).gate
    assert opened is not None
    assert opened.outside.after > 0.1 * opened.outside.n
    assert any("too unlike" in line for line in said)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def test_the_command_prints_what_changes(with_thresholds: Callable[..., Path], tmp_path: Path) -> None:
    folder, data = with_thresholds(5.0, 5.0), write_task(tmp_path / "fruits.jsonl", FRUITS)
    result = run(data, "-g", folder, "--only", "gate", "-o", tmp_path / "new")
    assert result.exit_code == 0, result.stderr
    assert "| fruits | 20 | 0.0 | 100.0 |" in result.stdout
    assert re.search(r"\| unrelated queries \| \d+ \| 0\.0 \| \d\.\d \|", result.stdout)
    assert Bundle(tmp_path / "new").id in result.stderr
    many = write_task(tmp_path / "fruits.jsonl", FRUITS, 30)
    less = run(many, "-g", tmp_path / "new", "--only", "gate", "--gate-recall", "0.5", "--dry-run")
    assert "raise --gate-recall" in less.stderr
    for options, words in (
        (["--only", "gate", "--strengths", "1"], ["--strengths", "--only gate"]),
        (["--only", "strength", "--gate-recall", "0.9"], ["--gate-recall", "--only strength"]),
        (["--gate-recall", "2"], ["--gate-recall", "2"]),
        (["--only", "both"], ["both"]),
    ):
        wrong = run(data, "-g", folder, "--dry-run", *options)
        assert wrong.exit_code == 2
        assert all(word in wrong.stderr for word in words), wrong.stderr


@pytest.mark.parametrize("option", [["--only", "gate"], ["--gate-recall", "0.9"]])
def test_a_bundle_without_a_gate_says_how_to_get_one(tiny_bundle: Path, tmp_path: Path, option: list[str]) -> None:
    result = run(write_task(tmp_path / "kinds.jsonl", FRUITS), "-g", tiny_bundle, "--dry-run", *option)
    assert result.exit_code == 2
    assert "has no gate" in result.stderr
    assert option[0] in result.stderr


def test_strengths_are_measured_behind_the_new_gate(
    with_thresholds: Callable[..., Path], tiny_gguf: Path, unrelated: Path, tmp_path: Path
) -> None:
    data = write_task(tmp_path / "fruits.jsonl", FRUITS, 1)
    how = {"model": tiny_gguf, "strengths": [1.0], "search_layers": False, "rows": 3, "n_threads": 1, "budget": 50.0}
    folder = with_thresholds(5.0, 5.0)
    result = atv_eval.calibrate(data, bundle=folder, unrelated=unrelated, output=tmp_path / "new", **how)  # type: ignore[arg-type]
    assert result.gate is not None
    assert result.best is not None
    assert result.best.score.value == 1  # each row is steered
    assert result.best.harm.n_steered == result.gate.outside.after < 6
    assert result.as_markdown().count("\n| --- |") == 2
    kept = atv_eval.calibrate(data, bundle=folder, unrelated=unrelated, only="strength", dry_run=True, **how)  # type: ignore[arg-type]
    assert kept.gate is None
    assert kept.points[0].score.value < 1
