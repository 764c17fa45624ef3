"""A bundle whose gate, default strength and layers fit rows, within a budget of harm."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, InstanceOf, Strict

from atv_eval.calibrated_bundle import write_calibrated
from atv_eval.calibration_result import CalibrationResult, cost_of
from atv_eval.eval_hooks import EvalHooks
from atv_eval.gate_refit import GateRefit, refit_gate
from atv_eval.metrics import check_metric_packages
from atv_eval.steering_search import STRENGTHS, search_steering
from atv_eval.tasks import read_tasks, read_unrelated
from atv_local.answer import Engine, load
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
)
from atv_local.errors import UsageError
from atv_local.generator import MANIFEST, RECALL, Bundle, Generator, Precision, Provider
from atv_local.names import choose_bundle, explain_defaults, is_managed
from atv_local.text import counted

BUDGET = 0.2
"""The most harm to unrelated queries by default, in nats per token."""
MAX_COST = 1.0
"""Points that a bundle may lose when it is changed in place."""


Strengths = Annotated[
    Sequence[Annotated[float, Strict(), Field(gt=0, le=10)]],
    Field(min_length=1),
    plain,
    Expected("a list of numbers above 0 and at most 10, such as [0.5, 1.0]"),
]
Budget = Annotated[
    float, Strict(), Field(gt=0, lt=100), plain, Expected("a number of nats per token, above 0 and below 100")
]
Recall = Annotated[float, Strict(), Field(gt=0, le=1), plain, Expected("a share of the rows, above 0 and at most 1")]
Part = Annotated[Literal["gate", "strength"], Expected("gate or strength")]


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
    gate_recall: Recall | None = None,
    only: Part | None = None,
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
    """Fit the gate of a bundle to rows, and choose the strength and layers that answer best within a budget of harm.

    The gate, if the bundle has one, gets the thresholds that a share of the rows passes, all of them read. Then all
    strengths are measured with the layers of training; then, at the two best of them, ranges that leave out
    the first or last quarters. The best has the highest mean of the tasks' main metrics, and of those alike
    the smallest KL.

    Args:
        data: validation rows, as for `evaluate`; not those that results are reported on.
        model: the target's GGUF: a path or a name; by default `ATV_MODEL`, then the config file, then the embedded one.
        bundle: a path or a name; by default `ATV_BUNDLE`, then the config file, then the embedded one.
        output: folder for the calibrated bundle; without it, `overwrite` changes the bundle itself.
        columns: the names of a row's parts in the data, such as `{"input": "question"}`.
        skip_bad_rows: go on without the rows that cannot be read.
        rows: how many rows of each task to answer; None is all.
        strengths: the strengths to measure.
        search_layers: whether to measure ranges of layers too.
        budget: the KL(base || steered) allowed on unrelated queries, in nats per token.
        unrelated: text file of queries unrelated to the tasks, one per line, which should not be steered: the gate is
            fitted to these too. By default a packaged list, with which harm is measured and steered queries counted.
        gate_recall: the share of the rows that should pass the gate at least; by default 0.97.
        only: `gate` loads no target and chooses no strength; `strength` leaves the gate as it is.
        dry_run: measure only, and write nothing.
        overwrite: replace a bundle in `output`, or change the bundle itself.
        n_ctx: size of the context in tokens; this and the next five are those of `atv_local.load`.
        hooks: called while the calibration runs.

    Raises:
        NotFoundError: a file, model or bundle that does not exist.
        UsageError: an option that is out of its range or has no effect, an output that cannot be written, or a bundle
            that would be more than a point worse if it were changed in place.
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
    hooks = hooks or EvalHooks()
    refits = _refits_gate(opened, only, gate_recall, hooks)
    place = opened.path if output is None else Path(output)
    if not dry_run:
        if place.is_file():
            raise UsageError(f"{place} is a file; name a folder for the calibrated bundle with `output=...`")
        check_replaceable(place, MANIFEST, overwrite=overwrite)
    tasks = read_tasks(data, (), columns, None, labels=False, skip_bad_rows=skip_bad_rows, on_message=hooks.on_message)
    mains = {task.main for task in tasks}
    if only != "gate":
        check_metric_packages(mains)
    metric = next(iter(mains)) if len(mains) == 1 else None
    queries = read_unrelated(unrelated)

    def refitted(generator: Generator) -> GateRefit:
        hooks.on_message(f"fitting the gate to {counted(sum(len(task.rows) for task in tasks), 'row')}")
        gate = refit_gate(
            generator,
            tasks,
            queries,
            recall=RECALL if gate_recall is None else gate_recall,
            separate=unrelated is not None,
            on_message=hooks.on_message,
        )
        if output is None and not dry_run and (gate.cost > MAX_COST or gate.opens):
            raise UsageError(f"{chosen.name} is not changed in place: {_gate_loss(gate)}")
        if gate.opens:
            hooks.on_message("the rows are too unlike the tasks that the gate was made for; train on such rows")
        return gate

    with nullcontext() if dry_run else holding(place):
        if only == "gate":
            with explain_defaults(None, chosen):
                alone = refitted(Generator(opened, provider=provider, precision=precision))
            written = None if dry_run else write_calibrated(opened, None, place, gate=alone, overwrite=overwrite)
            return CalibrationResult((), None, written, metric, alone)
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
            gate = refitted(engine.generator) if refits and engine.generator else None
            points = search_steering(
                engine if gate is None else _with_gate(engine, gate, template_variables),
                [replace(task, rows=task.rows[:rows]) for task in tasks],
                queries,
                budget=budget,
                strengths=strengths,
                search_layers=search_layers,
                on_message=hooks.on_message,
            )
        best = min(points, key=lambda point: point.rank(budget))
        if best.harm.kl > budget:
            return CalibrationResult(points, None, metric=metric, gate=gate)
        cost = cost_of(best, points)
        if output is None and not dry_run and cost > MAX_COST:
            raise UsageError(
                f"{chosen.name} would answer {cost:.1f} points worse than at its best, to keep within the `budget` of "
                f"{budget:g} nats, so it is not changed in place; raise `budget`, or write another with `output=...`"
            )
        written = None if dry_run else write_calibrated(opened, best.steering, place, gate=gate, overwrite=overwrite)
        return CalibrationResult(points, best, written, metric, gate)


def _refits_gate(bundle: Bundle, only: str | None, recall: float | None, hooks: EvalHooks) -> bool:
    """Whether there is a gate to fit; UsageError if it is asked for in vain."""
    if only == "strength":
        if recall is not None:
            raise UsageError("`gate_recall` has no effect with `only=strength`; leave one of them out")
        return False
    if bundle.manifest.gate is not None:
        return True
    no_gate = f"{bundle.path} has no gate: it steers every query; training makes one, unless `contrastive` is 0"
    if only == "gate" or recall is not None:
        raise UsageError(f"{no_gate}; without it, leave out `{'only' if only else 'gate_recall'}`")
    hooks.on_message(no_gate)
    return False


def _with_gate(engine: Engine, gate: GateRefit, template_variables: TemplateVariables | None) -> Engine:
    """The engine with the new gate, in place of that of its bundle."""
    generator = engine.generator
    assert generator is not None  # `gate` is that of its generator
    assert generator.gate is not None
    changed = generator.with_gate(generator.gate.with_thresholds(gate.spec))
    return Engine(engine.target, changed, template_variables=template_variables)


def _gate_loss(gate: GateRefit) -> str:
    rows, outside = gate.rows, gate.outside
    remedy = "give rows of its tasks" if gate.opens else "raise `gate_recall`"
    return (
        f"with these thresholds {rows.after} of {rows.n} rows pass its gate, now {rows.before}, and {outside.after} of "
        f"{outside.n} unrelated queries, now {outside.before}; {remedy}, or write another with `output=...`"
    )
