"""A bundle whose default strength and layers are chosen on rows, within a budget of harm."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, InstanceOf, Strict

from atv_eval.eval_hooks import EvalHooks
from atv_eval.markdown import table
from atv_eval.metrics import Metric, check_metric_packages
from atv_eval.steering_search import STRENGTHS, SteeringResult, search_steering
from atv_eval.tasks import read_tasks, read_unrelated
from atv_local.answer import load
from atv_local.data import (
    DEFAULT_COLUMNS,
    ColumnNames,
    Count,
    DataPaths,
    Expected,
    FilePath,
    PathOrName,
    Switch,
    TemplateVariables,
    WholeNumber,
    check_replaceable,
    checked_arguments,
    holding,
    plain,
    replacing,
    replacing_folder,
)
from atv_local.errors import UsageError
from atv_local.generator import MANIFEST, Bundle, Precision, Provider
from atv_local.names import choose_bundle, explain_defaults, is_managed
from atv_local.vectors import Steering

BUDGET = 0.2
"""The most harm to unrelated queries by default, in nats per token."""
MAX_COST = 1.0
"""Points that a bundle may lose when it is changed in place."""


@dataclass(frozen=True)
class CalibrationResult:
    """What was measured, and whether a bundle was written.

    Args:
        points: one for each steering measured, in order.
        best: the point chosen; None if all do more harm than the budget allows.
        bundle: the calibrated bundle; None if none was written.
        metric: that points are scored by; None if the tasks have different ones.
    """

    points: Sequence[SteeringResult]
    best: SteeringResult | None
    bundle: Bundle | None = None
    metric: Metric | None = None

    @property
    def cost(self) -> float:
        """What the budget costs: the points of 100 that the chosen setting answers worse than the best of all."""
        return 0.0 if self.best is None else cost_of(self.best, self.points)

    def as_markdown(self) -> str:
        """A table by strength and layers, in which the chosen point is marked."""
        rows = [
            [
                f"{point.steering.strength:g}{' (chosen)' if point is self.best else ''}",
                "-".join(map(str, point.steering.layers)) if point.steering.layers else "all",
                point.score.percent(),
                f"{point.harm.kl:.3f}",
                f"{100 * point.harm.agreement:.1f}",
                f"{100 * point.harm.same:.1f}",
            ]
            for point in self.points
        ]
        harm = ["KL, nats per token", "same token, %", "same answer, %"]
        score = self.metric.heading if self.metric else "main metric"
        return table(["strength", "layers", f"{score}, %", *harm], rows)


def cost_of(chosen: SteeringResult, points: Sequence[SteeringResult]) -> float:
    """How much worse a setting answers than the best of all, in points of 100."""
    return 100 * (max(point.score.value for point in points) - chosen.score.value)


Strengths = Annotated[
    Sequence[Annotated[float, Strict(), Field(gt=0, le=10)]],
    Field(min_length=1),
    plain,
    Expected("a list of numbers above 0 and at most 10, such as [0.5, 1.0]"),
]
Budget = Annotated[
    float, Strict(), Field(gt=0, lt=100), plain, Expected("a number of nats per token, above 0 and below 100")
]


@checked_arguments
def calibrate(
    data: DataPaths,
    *,
    model: PathOrName | None = None,
    bundle: PathOrName | None = None,
    output: FilePath | None = None,
    columns: ColumnNames = DEFAULT_COLUMNS,
    skip_bad_rows: Switch = False,
    rows: Count | None = 100,
    strengths: Strengths = STRENGTHS,
    search_layers: Switch = True,
    budget: Budget = BUDGET,
    unrelated: FilePath | None = None,
    dry_run: Switch = False,
    overwrite: Switch = False,
    n_ctx: Count | None = None,
    n_threads: Count | None = None,
    n_gpu_layers: WholeNumber = -1,
    provider: Provider | None = None,
    precision: Precision | None = None,
    template_variables: TemplateVariables | None = None,
    hooks: Annotated[EvalHooks, InstanceOf()] | None = None,
) -> CalibrationResult:
    """Choose the strength and the layers that answer best within a budget of harm, as a bundle's defaults.

    First all strengths are measured with the layers of training; then, at the two best of them, ranges that leave out
    the first or last quarters. The best has the highest mean of the tasks' main metrics, and of those alike
    the smallest KL.

    Args:
        data: validation rows, as for `evaluate`; not those that results are reported on.
        model: the target's GGUF: a path or a name; by default `ATV_MODEL`, then the config file, then the embedded one.
        bundle: a path or a name; by default `ATV_BUNDLE`, then the config file, then the embedded one.
        output: folder for the calibrated bundle; without it, `overwrite` changes the bundle itself.
        columns: the names of a row's parts in the data, such as `{"input": "question"}`.
        skip_bad_rows: go on without the rows that cannot be read.
        rows: how many rows of each task to read; None is all.
        strengths: the strengths to measure.
        search_layers: whether to measure ranges of layers too.
        budget: the KL(base || steered) allowed on unrelated queries, in nats per token.
        unrelated: text file of queries unrelated to the tasks, one per line; by default a packaged list.
        dry_run: measure only, and write nothing.
        overwrite: replace a bundle in `output`, or change the bundle itself.
        n_ctx: size of the context in tokens; this and the next five are those of `atv_local.load`.
        hooks: called while the calibration runs.

    Raises:
        NotFoundError: a file, model or bundle that does not exist.
        UsageError: an option that is out of its range or has no effect, an output that cannot be written, or a bundle
            that would answer more than a point worse if it were changed in place.
        DataError: rows or queries that cannot be read.
        AtvError: what `atv_local.load` raises, or a query that cannot be evaluated.
    """
    if dry_run and (output is not None or overwrite):
        name = "overwrite=True" if output is None else "output"
        raise UsageError(f"`{name}` has no effect with `dry_run=True`; leave one of them out")
    chosen = choose_bundle(bundle, model)
    if output is None and not dry_run and is_managed(chosen.name):
        raise UsageError(
            f"{chosen.name} belongs to a cache or to the installation and is not changed; "
            "name a folder to write to with `output=...`"
        )
    if output is None and not dry_run and not overwrite:
        raise UsageError(
            f"{chosen.name} would be changed; name another with `output=...`, "
            "or pass `overwrite=True` or `dry_run=True`"
        )
    path = chosen.path()
    with explain_defaults(None, chosen):
        opened = Bundle(path)
    place = opened.path if output is None else Path(output)
    if not dry_run:
        if place.is_file():
            raise UsageError(f"{place} is a file; name a folder for the calibrated bundle with `output=...`")
        check_replaceable(place, MANIFEST, overwrite=overwrite)
    hooks = hooks or EvalHooks()
    tasks = read_tasks(data, (), columns, rows, labels=False, skip_bad_rows=skip_bad_rows, on_message=hooks.on_message)
    mains = {task.main for task in tasks}
    check_metric_packages(mains)
    metric = next(iter(mains)) if len(mains) == 1 else None
    queries = read_unrelated(unrelated)
    with nullcontext() if dry_run else holding(place):
        with load(
            model,
            bundle,
            n_ctx=n_ctx,
            n_threads=n_threads,
            n_gpu_layers=n_gpu_layers,
            provider=provider,
            precision=precision,
            template_variables=template_variables,
        ) as engine:
            points = search_steering(
                engine,
                tasks,
                queries,
                budget=budget,
                strengths=strengths,
                search_layers=search_layers,
                on_message=hooks.on_message,
            )
        best = min(points, key=lambda point: point.rank(budget))
        if best.harm.kl > budget:
            return CalibrationResult(points, None, metric=metric)
        cost = cost_of(best, points)
        if output is None and not dry_run and cost > MAX_COST:
            raise UsageError(
                f"{chosen.name} would answer {cost:.1f} points worse than at its best, to keep within the `budget` of "
                f"{budget:g} nats, so it is not changed in place; raise `budget`, or write another with `output=...`"
            )
        written = None if dry_run else write_calibrated(opened, best.steering, place, overwrite=overwrite)
        return CalibrationResult(points, best, written, metric)


def write_calibrated(bundle: Bundle, steering: Steering, output: Path, *, overwrite: bool = False) -> Bundle:
    """Write the bundle with this strength and these layers as its defaults.

    In place only the manifest is replaced. It keeps all else, also what this version does not know.

    Raises:
        UsageError: `output` cannot be written, or is a folder of something else.
        BundleError: the bundle is damaged.
    """
    manifest = json.loads(bundle.manifest_bytes)
    layers = None if steering.layers == bundle.trained_layers else steering.layers
    manifest["calibration"] = {"strength": steering.strength, "layers": layers}
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    if output.is_dir() and output.samefile(bundle.path):
        with replacing(output / MANIFEST) as temporary:
            temporary.write_text(text, encoding="utf-8")
    else:
        with replacing_folder(output, marker=MANIFEST, overwrite=overwrite) as folder:
            for name in bundle.manifest.files:
                file = folder / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(bundle.read(name))
            (folder / MANIFEST).write_text(text, encoding="utf-8")
    return Bundle(output)
