"""How often steering is right, against what else one could do, and what it does elsewhere: from files to results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, InstanceOf

from atv_eval.answer_records import answer_plan, check_folder, fingerprint
from atv_eval.asked_rows import asked_row
from atv_eval.bundle_counts import count_bundles
from atv_eval.eval_hooks import EvalHooks
from atv_eval.eval_plan import EvalPlan, left_out, possible_methods
from atv_eval.first_token import first_token_ms
from atv_eval.gate_counts import count_gated
from atv_eval.harm import Harm, measure_harm
from atv_eval.instructions import Instructions
from atv_eval.learned_vectors import check_learned_vectors, with_learned_vectors
from atv_eval.methods import Method
from atv_eval.metrics import Metric, check_metric_packages
from atv_eval.report import EvalResult
from atv_eval.scores import differences, score_methods
from atv_eval.tasks import read_tasks, read_unrelated
from atv_eval.wordings import choose_wordings
from atv_local.answer import Asked, Engine, load
from atv_local.data import (
    DEFAULT_COLUMNS,
    ColumnNames,
    Count,
    CountOrZero,
    DataPaths,
    Expected,
    FilePath,
    FilePaths,
    PathOrName,
    PathsOrNames,
    Switch,
    TemplateVariables,
    WholeNumber,
    checked_arguments,
    holding,
    read_instructions,
)
from atv_local.errors import AtvError, UsageError
from atv_local.generator import Generator, Precision, Provider, ReadingSummary, alike_rows
from atv_local.text import shorten
from atv_local.vectors import OFF, GateValue, LayerRange, Positions, PositionsName, Steering, StrengthNumber

MethodNames = Annotated[
    Sequence[Annotated[Method | str, AfterValidator(Method)]], Expected(f"a list of methods, of {', '.join(Method)}")
]
MetricNames = Annotated[
    Sequence[Annotated[Metric | str, AfterValidator(Metric)]], Expected(f"a list of metrics, of {', '.join(Metric)}")
]


@checked_arguments
def evaluate(
    data: DataPaths,
    *,
    model: PathOrName | None = None,
    bundle: PathsOrNames | None = None,
    output: FilePath | None = None,
    columns: ColumnNames = DEFAULT_COLUMNS,
    skip_bad_rows: Switch = False,
    rows: Count | None = None,
    labels: Switch = False,
    strength: StrengthNumber | None = None,
    layers: LayerRange | None = None,
    positions: PositionsName | None = None,
    gate: GateValue | None = None,
    control_vectors: Annotated[Sequence[Any], Expected("a list of control-vector files or vectors")] = (),
    methods: MethodNames = (),
    metrics: MetricNames = (),
    shots_from: FilePaths = (),
    static: FilePath | None = None,
    shots: Count = 16,
    instructions: FilePath | None = None,
    max_tokens: Count | None = None,
    whole: Switch = False,
    harm: Switch = True,
    unrelated: FilePath | None = None,
    timed: CountOrZero = 8,
    seed: CountOrZero = 0,
    n_ctx: Count | None = None,
    n_threads: Count | None = None,
    n_gpu_layers: WholeNumber = -1,
    provider: Provider | None = None,
    precision: Precision | None = None,
    template_variables: TemplateVariables | None = None,
    hooks: Annotated[EvalHooks, InstanceOf()] | None = None,
) -> EvalResult:
    """Score answers to rows with known outputs, for the base model, steering, prompts, and what needs no model.

    Args:
        data: JSON or CSV files of rows, or folders of them.
        model: the target's GGUF: a path or a name; by default `ATV_MODEL`, then the config file, then the embedded one.
        bundle: a path or a name; by default `ATV_BUNDLE`, then the config file, then the embedded one. Of a list, each
            row has the bundle that it fits best, as in `atv_local.load`; the classifier reads the states of the first.
        output: folder for answers and results. Answers that it has of the same evaluation are not asked for again.
        columns: the names of a row's parts in the data, such as `{"input": "question"}`.
        skip_bad_rows: go on without the rows that cannot be read.
        rows: how many rows of each task to read; by default all.
        labels: take the outputs of a task as the choices of its rows that have none of their own.
        strength: factor on the vector; by default the bundle's, as `layers` and `positions` are.
        layers: first and last layer to steer, 1-based.
        positions: which tokens to steer.
        gate: the score that a query needs to be steered, where the bundle has a gate: `auto`, which is 0.5, `off`,
            which is 0, or a number up to 1.
        control_vectors: steer with these too, or in place of a bundle that is only the default, as in `atv_local.load`.
        methods: ways to answer, of `Method`; by default all that are possible with these rows.
        metrics: ways to score answers, of `Metric`, of which each task has those that suit it; the first is its main
            metric. By default they are chosen by the kind of the task's outputs.
        shots_from: files of rows for the methods `k-shot` and `bm25`, which show them in their prompts, and `nearest`,
            `static` and `classifier`. One task in `data` and one here are the same, whatever their names.
        static: learned vectors for the method `static`, in place of the mean of the bundle's: a control-vector GGUF for
            all tasks, or the folder `baselines` of a run with `baselines=True`, where a task has the vector of its
            name. They steer as they were trained: at strength 1, at their own layers and positions.
        shots: how many rows a prompt shows.
        instructions: JSON file with a sentence for each task, for the prompts of `zero-shot`, `k-shot` and `bm25`, or
            with a list of sentences, of which one is chosen on rows of `shots_from`. By default the prompts say what
            the rows have as `instruction`, and always the labels or keys of an answer.
        max_tokens: limit of an answer; by default a few more than the longest right answer of its task has, and a
            quarter more where answers are texts.
        whole: generate every answer to its end, instead of stopping once its score is known; only answers with labels
            are ever stopped.
        harm: measure how steering changes answers to unrelated queries.
        unrelated: text file of such queries, one per line; by default a packaged list.
        timed: measure the time to the first token of this many queries.
        seed: seed of the demonstrations and the random vectors.
        n_ctx: size of the context in tokens; this and the next five are those of `atv_local.load`.
        hooks: called while the evaluation runs.

    Raises:
        NotFoundError: a file, model or bundle that does not exist.
        UsageError: an option that is out of its range or has no effect with these methods, or an output that holds
            another evaluation or cannot be written.
        DataError: rows or queries that cannot be read.
        AtvError: what `atv_local.load` raises.
    """
    hooks = hooks or EvalHooks()
    if unrelated is not None and not harm:
        raise UsageError("`unrelated` has no effect with `harm=False`; leave one of them out")
    _check_effect(methods, [Method.STEERED], unrelated=unrelated)
    vectors = [method for method in Method if method.needs_bundle]
    _check_effect(methods, vectors, provider=provider, precision=precision)
    _check_effect(
        methods,
        [Method.STEERED, Method.STATIC],
        strength=strength,
        layers=layers,
        positions=positions,
        control_vectors=control_vectors or None,
    )
    _check_effect(methods, [Method.STEERED], gate=gate)
    _check_effect(methods, [Method.STATIC], static=static)
    _check_effect(methods, [method for method in Method if method.needs_pool], shots_from=shots_from or None)
    _check_effect(methods, [method for method in Method if method.may_take_instruction], instructions=instructions)
    sentences = {} if instructions is None else read_instructions(Path(instructions))
    first_wordings = Instructions({name: wordings[0] for name, wordings in sentences.items()})
    tasks = read_tasks(
        data,
        shots_from,
        columns,
        rows,
        labels,
        [Metric(metric) for metric in metrics],
        skip_bad_rows,
        hooks.on_message,
    )
    tasks = with_learned_vectors(tasks, Path(static) if static else None, hooks.on_message)
    check_metric_packages(metric for task in tasks for metric in task.metrics)
    if instructions is not None and (without := [task.name for task in tasks if task.name not in first_wordings.given]):
        hooks.on_message(f"{instructions} has no instruction for {shorten(', '.join(map(repr, without)))}")
    every = [Method(method) for method in dict.fromkeys(methods)] or list(Method)
    if not methods and control_vectors and bundle is None:  # no generator, so nothing differs from query to query
        unread = {Method.CLASSIFIER} | ({Method.STATIC} if static is None else set())
        every = [method for method in every if method not in unread]
    possible = possible_methods(tasks, first_wordings)
    chosen = every if methods else [method for method in every if method in possible]
    plan = EvalPlan(tasks, chosen, OFF, shots, seed, max_tokens, whole, first_wordings)
    for line in left_out(every, tasks, first_wordings):
        hooks.on_message(line)
    if any(method.takes_instruction for method in chosen) and (unlisted := first_wordings.without_labels(tasks)):
        hooks.on_message(f"prompts do not list the labels of {shorten(', '.join(map(repr, unlisted)))}: too many")
    steered = any(method.needs_bundle for method in chosen if static is None or method is not Method.STATIC)
    queries = read_unrelated(unrelated) if Method.STEERED in chosen and harm else []
    folder = None if output is None else Path(output)
    if folder is not None:
        check_folder(folder)
    with (
        nullcontext() if folder is None else holding(folder),
        load(
            model,
            bundle,
            off=not steered,
            control_vectors=control_vectors if steered else (),
            n_ctx=n_ctx,
            n_threads=n_threads,
            n_gpu_layers=n_gpu_layers,
            provider=provider if steered else None,
            precision=precision if steered else None,
            template_variables=template_variables,
        ) as engine,
    ):
        check_learned_vectors(tasks, engine.target.spec)
        if steered:
            plan = replace(plan, steering=_steering(engine, strength, layers, positions, gate, hooks.on_message))
        if any(method.takes_instruction for method in chosen):
            plan = replace(plan, instructions=choose_wordings(sentences, tasks, engine, seed))
        reading = _reading(plan, engine)
        for line in reading:
            hooks.on_message(line)
        hooks.on_plan(plan)
        records = answer_plan(plan, engine, folder, hooks.on_record)
        if timed:
            hooks.on_message("timing the first token")
        about = fingerprint(plan, engine)
        result = EvalResult(
            about=about | {"model": engine.target.path.name, "threads": engine.target.n_threads},
            records=records,
            scores=score_methods(records, tasks),
            differences=differences(records, tasks),
            first_token_ms=first_token_ms(plan, engine, timed),
            harm=_harm(engine, queries, plan, hooks.on_message),
            reading=reading,
            gate=count_gated(records),
            bundles=count_bundles(plan, engine, records),
        )
        if folder is not None:
            result.write(folder)
        return result


def _check_effect(methods: Sequence[str], needed: Sequence[Method], **options: object) -> None:
    """Raise UsageError for an option that is given and that none of the methods reads; no methods are all."""
    given = [name for name, value in options.items() if value is not None]
    if given and methods and not set(needed) & set(methods):
        one = "the method" if len(needed) == 1 else "one of the methods"
        raise UsageError(
            f"`{given[0]}` has no effect without {one} {', '.join(needed)}; leave it out, or add one with `methods`"
        )


def _steering(
    engine: Engine,
    strength: float | None,
    layers: tuple[int, int] | str | None,
    positions: Positions | str | None,
    gate: float | str | None,
    on_message: Callable[[str], None],
) -> Steering:
    """The bundle's own but for what is given."""
    if gate and engine.generators and not engine.has_gate:
        on_message("`gate` has no effect: the bundle has no gate and steers every query")
    given: dict[str, Any] = {"strength": strength, "layers": layers, "positions": positions, "gate": gate}
    steering = replace(engine.steering, **{name: value for name, value in given.items() if value is not None})
    steering.range(engine.target.n_rows)  # raises if the target lacks a layer
    return steering


def _reading(plan: EvalPlan, engine: Engine) -> list[str]:
    """What the generator does not read of the rows' queries, and which rows it cannot tell apart, as sentences."""
    if Method.STEERED not in plan.methods or plan.steering.off:
        return []

    def generator_of(asked: Asked) -> Generator | None:
        several = len(engine.generators) > 1
        return engine.chosen_generator(engine.gated(asked).gate if several else None)

    given = plan.instructions.given
    every = ((task.name, row) for task in plan.tasks for row in task.rows)
    asked = ((row, asked_row(engine, plan.steering, task, row, given)) for task, row in every)
    read = ((row, said.text, generator_of(said)) for row, said in asked)
    rows = [(text, row.output, generator.read(text)) for row, text, generator in read if generator is not None]
    sentences = ReadingSummary.of((query, reading) for query, _, reading in rows).sentences()
    return [sentence for sentence in (*sentences, alike_rows(rows)) if sentence]


def _harm(
    engine: Engine, queries: Sequence[str], plan: EvalPlan, on_message: Callable[[str], None]
) -> Mapping[str, Harm]:
    if not queries or plan.steering.off:
        return {}
    on_message(f"measuring harm on {len(queries)} unrelated queries")
    try:
        steered, random = measure_harm(engine, queries, [plan.steering], plan.seed)
    except AtvError as error:
        on_message(f"harm is not measured: {error}")
        return {}
    return {"steered": steered, "random vectors of the same norms": random}
