"""The strength and the layers that answer best without much harm, and a bundle that has them as its defaults."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from atv_eval.harm import Harm, measure_harm
from atv_eval.match import AnswerMatcher
from atv_eval.methods import Method
from atv_eval.questions import Asker, EvalPlan, Task
from atv_eval.statistics import Estimate, mean_over_tasks
from atv_local.answer import Engine
from atv_local.batch import Batch, SteeredPrompt
from atv_local.data import replacing, replacing_folder
from atv_local.errors import UsageError
from atv_local.generator import MANIFEST, Bundle
from atv_local.vectors import Steering

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Point:
    """What one steering gives: mean accuracy over the tasks, and the harm outside them."""

    steering: Steering
    accuracy: Estimate
    harm: Harm


def calibrate(
    engine: Engine,
    tasks: Sequence[Task],
    queries: Sequence[str],
    *,
    budget: float,
    strengths: Sequence[float] = STRENGTHS,
    search_layers: bool = True,
    on_stage: Callable[[str], None] = lambda _: None,
) -> tuple[Point | None, list[Point]]:
    """(The best point with a KL of at most `budget` nats a token, none if there is none; all points).

    First all strengths with the layers of training; then, at the two best of them, ranges that leave out the first
    or last quarters. Best is the highest accuracy, and of those alike the smallest KL.

    Raises:
        AtvError: a query that cannot be evaluated.
    """
    on_stage(f"{len(strengths)} strengths")
    layers = engine.generator.bundle.manifest.injection.layers if engine.generator else None
    trained = replace(engine.steering, layers=layers)
    points = _measure(engine, tasks, queries, [replace(trained, strength=s) for s in strengths])
    if search_layers:
        whole = layers or (1, engine.target.n_rows)
        ranges = [found for found in _ranges(whole) if found != whole]
        likely = sorted(points, key=_rank(budget))[:2]
        on_stage(f"{len(ranges)} ranges of layers at {len(likely)} strengths")
        tried = [replace(point.steering, layers=found) for point in likely for found in ranges]
        points += _measure(engine, tasks, queries, tried)
    best = min(points, key=_rank(budget))
    return (best if best.harm.kl <= budget else None), points


def write(bundle: Bundle, steering: Steering, output: Path) -> str:
    """Write the bundle with this strength and these layers as its defaults; returns its new id.

    In place only the manifest is replaced. All that it says stays, also what this version does not know.

    Raises:
        UsageError: `output` cannot be written, or is a folder of something else.
        BundleError: the bundle is damaged.
    """
    found = json.loads(bundle.manifest_bytes)
    layers = None if steering.layers == bundle.manifest.injection.layers else steering.layers
    found["calibration"] = {"strength": steering.strength, "layers": layers}
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if output.is_dir() and output.samefile(bundle.path):
        with replacing(output / MANIFEST) as manifest:
            manifest.write_text(text, encoding="utf-8")
    else:
        with replacing_folder(output, marker=MANIFEST) as folder:
            for name in bundle.manifest.files:
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(bundle.read(name))
            (folder / MANIFEST).write_text(text, encoding="utf-8")
    return Bundle(output).id


def _rank(budget: float) -> Callable[[Point], tuple[bool, float, float]]:
    """Within the budget first; then accuracy, then KL. Beyond it the smallest KL is the nearest."""

    def rank(point: Point) -> tuple[bool, float, float]:
        kl = point.harm.kl
        return (False, -point.accuracy.value, kl) if kl <= budget else (True, kl, 0.0)

    return rank


def _ranges(layers: tuple[int, int]) -> list[tuple[int, int]]:
    """Ranges of at least half the layers, by quarters."""
    first, last = layers
    quarter = (last - first + 1) / 4
    found = [
        (first + round(begin * quarter), first + round(end * quarter) - 1)
        for begin in range(3)
        for end in range(begin + 2, 5)
    ]
    return [pair for pair in dict.fromkeys(found) if pair[0] <= pair[1]]


def _measure(
    engine: Engine, tasks: Sequence[Task], queries: Sequence[str], steerings: Sequence[Steering]
) -> list[Point]:
    if not steerings:
        return []
    harms = measure_harm(engine, queries, steerings)
    plan = EvalPlan(tasks, [Method.STEERED], steerings[0])
    hits: list[dict[str, list[float]]] = [{} for _ in steerings]
    asked = (
        replace(
            question, options=(), ways=[SteeredPrompt.of(s, engine.vector(question.tag.row.input)) for s in steerings]
        )
        for question in Asker(plan, engine).questions({})
    )
    by_name = {task.name: task for task in tasks}
    for reply in Batch(engine).ask(asked):
        if reply.error:
            raise reply.error
        (key,), row = reply.question.tag.keys, reply.question.tag.row
        answers = AnswerMatcher(by_name[key.task].candidates(row))
        for found, outcome in zip(hits, reply.outcomes, strict=True):
            found.setdefault(key.task, []).append(float(answers.said(outcome.text) == row.output))
    return [
        Point(steering, mean_over_tasks({task: np.array(some) for task, some in found.items()}), harm)
        for steering, found, harm in zip(steerings, hits, harms, strict=False)
    ]


def check(strengths: Sequence[float], budget: float) -> None:
    """Raise UsageError for strengths or a budget that cannot be meant."""
    if not strengths or any(not 0 < strength <= 10 for strength in strengths):
        raise UsageError(f"strengths {', '.join(f'{s:g}' for s in strengths)} are not all above 0 and at most 10")
    if not 0 < budget < 100:
        raise UsageError(f"a budget of {budget:g} nats is not above 0 and below 100")
