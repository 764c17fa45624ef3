"""Training from Python, with the options of `atv-local train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, InstanceOf, Strict

from atv_local.data import (
    DEFAULT_COLUMNS,
    ColumnNames,
    Count,
    CountOrZero,
    DataPaths,
    Expected,
    FilePath,
    FilePaths,
    Number,
    NumberOrZero,
    PathOrName,
    Switch,
    TemplateVariables,
    as_instructions,
    checked_arguments,
    plain,
    read_instructions,
)
from atv_local.errors import UsageError
from atv_local.generator import Pooling
from atv_local.names import resolve_bundle, resolve_model
from atv_local.vectors import LayerRange, Positions, PositionsName, layer_range
from atv_train.examples import Templates, checked_templates, read_templates
from atv_train.job import TrainingJob
from atv_train.run_folder import RUN, read_run_record, restore_run
from atv_train.start import Start
from atv_train.trainer import TrainingSettings
from atv_train.training_choices import TargetDtype, Tuning
from atv_train.training_run import TrainingHooks, TrainingResult, run_training


def _range_of_strengths(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    if low > high:
        raise UsageError(f"`strength_range` {low:g} to {high:g}: the first is above the second; swap them")
    if not 0 <= low <= high <= _MAX_STRENGTH:
        raise UsageError(f"`strength_range` {low:g} to {high:g} is not within 0 to {_MAX_STRENGTH:g}")
    return limits


_MAX_STRENGTH, _MAX_CACHE_GB, _MAX_RANK = 10.0, 1e6, 65536
_RATE, _BACKBONE_RATE = 2e-3, 1e-4
_SLOWER = 0.2
"""Of the rates, beside rows of earlier tasks: faster, it forgets them before it has learned the new ones."""
_Strength = Annotated[float, Strict()]
StrengthRange = Annotated[
    tuple[_Strength, _Strength],
    plain,
    AfterValidator(_range_of_strengths),
    Expected(f"a range within 0 to {_MAX_STRENGTH:g}, such as (0.5, 1.5)"),
]
Gigabytes = Annotated[float, Strict(), Field(ge=0, le=_MAX_CACHE_GB), plain, Expected("a number of GB")]
Rank = Annotated[int, Strict(), Field(ge=1, le=_MAX_RANK), plain, Expected(f"a whole number from 1 to {_MAX_RANK}")]
Seed = Annotated[int, Strict(), Field(ge=0, lt=1 << 32), plain, Expected(f"a whole number from 0 to {(1 << 32) - 1}")]
RowTokens = Annotated[int, Strict(), Field(ge=4), plain, Expected("a whole number of 4 or more")]
QueryTokens = Annotated[int, Strict(), Field(ge=3), plain, Expected("a whole number of 3 or more")]
TemplatesOrPath = Annotated[
    FilePath | Templates, Expected('a path or a mapping such as {"task": ["wording with {input}", ...]}')
]
InstructionsOrPath = Annotated[
    FilePath | Mapping[str, str | Sequence[str]], Expected('a path or a mapping such as {"task": "What to do."}')
]


@checked_arguments
def train(
    data: DataPaths,
    output: FilePath,
    *,
    start: PathOrName | None = None,
    model: PathOrName | None = None,
    valid: FilePaths = (),
    hold_out: Switch = True,
    columns: ColumnNames = DEFAULT_COLUMNS,
    skip_bad_rows: Switch = False,
    templates: TemplatesOrPath | None = None,
    instructions: InstructionsOrPath | None = None,
    weights: PathOrName | None = None,
    positions: PositionsName | None = None,
    prompt_vector: Switch = False,
    layers: LayerRange | None = None,
    backbone: PathOrName | None = None,
    tuning: Tuning = "full",
    pooling: Pooling = "mean",
    rank: Rank | None = None,
    static_vector: Switch = False,
    scale: Number = 1.0,
    epochs: CountOrZero = 0,
    batch_size: CountOrZero = 0,
    learning_rate: NumberOrZero | None = None,
    backbone_learning_rate: NumberOrZero | None = None,
    patience: Count = 4,
    strength_range: StrengthRange = (1.0, 1.0),
    harmless: NumberOrZero = 0.0,
    unrelated: FilePath | None = None,
    contrastive: NumberOrZero = 0.3,
    baselines: Switch = False,
    max_row_tokens: RowTokens = 1024,
    max_query_tokens: QueryTokens | None = None,
    keep_rows: Switch = True,
    cache: Gigabytes | None = None,
    keep_prefixes: Switch = True,
    dtype: TargetDtype = "auto",
    template_variables: TemplateVariables | None = None,
    seed: Seed = 0,
    overwrite: Switch = False,
    hooks: Annotated[TrainingHooks, InstanceOf()] | None = None,
) -> TrainingResult:
    """Train a generator for a target on rows, and write the run to a folder.

    Args:
        data: JSON or CSV files of rows, or folders of them; one file is one task.
        output: folder of the run; `export` takes it.
        start: go on from this run or bundle instead of from a backbone alone. Everything that its generator is made of
            stays, and so do its target, templates and instructions where no others are given. A run has kept rows of
            its tasks, which are trained on again beside the new ones, so that they are not forgotten.
        model: the target: a path or a name; by default `ATV_MODEL`, then the config file, then the embedded one.
        valid: files of rows that are measured after every epoch and never trained on.
        hold_out: without `valid`, hold out a tenth of the rows for that.
        columns: the names of a row's parts in the data, such as `{"input": "question"}`.
        skip_bad_rows: train without the rows that cannot be read, which are named in a warning.
        templates: wordings of a task's inputs, `{"task": ["Classify: {input}"], "*": [...]}`, or a JSON file of them.
        instructions: what each task asks, `{"task": "What to do.", "other": ["In one way.", "In another."]}`, or a JSON
            file of it, in place of the `instruction` of its rows. Generator and target read it before the input.
        weights: the target's unquantised weights, a folder or hub id; by default the GGUF, dequantised.
        positions: which tokens are steered; by default `decode`, or `all` with a prompt vector.
        prompt_vector: make a second vector for each query, which steers the prompt's tokens before the last one.
        layers: first and last layer to steer, 1-based; by default all.
        backbone: model that reads the query, a folder or hub id; by default all-MiniLM-L6-v2.
        tuning: train all of the backbone, a low-rank change of it, or none of it.
        pooling: how a query's hidden states become one.
        rank: width of a bottleneck in the expansion; by default there is none.
        static_vector: learn one vector for all rows too, after the generator. It steers tasks that the bundle is told
            of and that are unlike those trained on. With `start`, that of the run or bundle is kept.
        scale: constant factor on the vector.
        epochs: passes over the rows; 0 chooses by their number.
        batch_size: rows per step and process; 0 chooses by their number.
        learning_rate: learning rate of the expansion; by default 0.002, or a fifth of it beside the rows of an earlier
            run.
        backbone_learning_rate: learning rate of the backbone; by default 0.0001, or a fifth of it in the same way.
        patience: epochs without better validation before training stops.
        strength_range: range that each row's strength is drawn from.
        harmless: weight of the loss for changed answers to unrelated queries.
        unrelated: text file of queries outside all tasks, one per line, for the gate and the loss for changed answers;
            by default a packaged list.
        contrastive: weight of the loss that draws queries of one task together and others apart, for the gate; with 0
            the run has no gate.
        baselines: measure static, averaged and random vectors too.
        max_row_tokens: longer rows are left out.
        max_query_tokens: tokens of a query that the generator reads, up to the positions of its backbone; by default
            256. The end of a longer query does not steer.
        cache: GB of memory for cached prefixes; by default half of what is free.
        keep_prefixes: save the evaluated prompts of the rows in the user's cache folder, up to 8 GB, so that resuming
            this run, or another run over the same rows and target, need not evaluate them again.
        dtype: data type of the target; `auto` is the faster one on this machine.
        template_variables: values for variables of the target's chat template. By default `enable_thinking` is False
            where answers would begin inside a thinking block; the bundle has them as its defaults.
        seed: seed of the order of rows and all random numbers; the same seed gives the same generator.
        overwrite: replace an earlier run in `output`, once this one has a checkpoint.
        hooks: called while training runs.

    Raises:
        NotFoundError: a file, model or backbone that does not exist.
        UsageError: an option out of its range, or an output that cannot be written.
        DataError: rows or templates that cannot be read.
        ModelError: a target or backbone that cannot be loaded.
        TrainingError: the loss is no longer finite.
    """
    if scale == 0:
        raise UsageError("`scale` 0 makes every vector zero; give another factor")
    positions = Positions(positions or (Positions.ALL if prompt_vector else Positions.DECODE))
    if prompt_vector and not positions.prefix:
        raise UsageError(f"`prompt_vector` has no effect with `positions` {positions}; leave one of them out")
    if unrelated is not None and not (harmless or contrastive):
        raise UsageError(
            "`unrelated` has no effect without `harmless` or `contrastive`; add a weight, such as `contrastive=0.3`"
        )
    if isinstance(templates, str | Path):
        templates = read_templates(Path(templates))
    elif templates is not None:
        templates = checked_templates(templates)
    if isinstance(instructions, str | Path):
        instructions = read_instructions(Path(instructions))
    elif instructions is not None:
        instructions = as_instructions(instructions)
    going_on = None if start is None else Start.open(_run_or_bundle(start))
    slower = _SLOWER if going_on is not None and going_on.replay.train else 1.0
    job = TrainingJob(
        model=_model(model, going_on),
        data=_absolute(data),
        valid=_absolute(valid),
        hold_out=hold_out,
        keep_rows=keep_rows,
        columns=dict(columns),
        skip_bad_rows=skip_bad_rows,
        templates=templates,
        instructions=instructions,
        weights=_folder_or_id(weights),
        positions=positions,
        prompt_vector=prompt_vector,
        layers=layer_range(layers) if layers is not None else None,
        backbone=_folder_or_id(backbone),
        tuning=tuning,
        pooling=pooling,
        rank=rank,
        static_vector=static_vector,
        scale=scale,
        max_row_tokens=max_row_tokens,
        max_query_tokens=max_query_tokens,
        unrelated=None if unrelated is None else Path(unrelated).absolute(),
        baselines=baselines,
        cache_bytes=None if cache is None else int(cache * 1e9),
        keep_prefixes=keep_prefixes,
        dtype=dtype,
        template_variables=template_variables or {},
        settings=TrainingSettings(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=_or(learning_rate, slower * _RATE),
            backbone_learning_rate=_or(backbone_learning_rate, slower * _BACKBONE_RATE),
            patience=patience,
            strength_range=strength_range,
            harmless=harmless,
            contrastive=contrastive,
            seed=seed,
        ),
    )
    if going_on is not None:
        if Path(output).resolve() == going_on.path.resolve():
            raise UsageError(f"{output} is the run that training goes on from; write to another folder")
        job = going_on.continued(job)
    return run_training(job, Path(output), hooks, overwrite=overwrite)


@checked_arguments
def resume(output: FilePath, hooks: Annotated[TrainingHooks, InstanceOf()] | None = None) -> TrainingResult:
    """Continue the run in a folder from its last saved state, bit for bit; of a finished run, return its result.

    Raises:
        NotFoundError: no run there.
        BundleError: a damaged one.
        DataError: its data or model has changed.
        AtvError: as `train`.
    """
    folder = Path(output)
    restore_run(folder)
    record = read_run_record(folder)
    return run_training(record.job, folder, hooks, record=record)


def _or(given: float | None, default: float) -> float:
    return default if given is None else given


def _run_or_bundle(name: str | Path) -> Path:
    """A run by its path, or a bundle by its path or name."""
    path = Path(name)
    return path.absolute() if (path / RUN).exists() else resolve_bundle(name).absolute()


def _model(name: str | Path | None, start: Start | None) -> Path:
    """The target by its name; by default that of the run that training goes on from."""
    if name is None and start is not None and start.job is not None and start.job.model.exists():
        return start.job.model
    return resolve_model(name).absolute()


def _absolute(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """The absolute paths, so that a run can be resumed from any folder."""
    return [Path(path).absolute() for path in ([paths] if isinstance(paths, str | Path) else paths)]


def _folder_or_id(name: str | Path | None) -> str | None:
    """A folder by its absolute path; anything else is a hub id."""
    if name is None:
        return None
    return str(Path(name).absolute()) if Path(name).is_dir() else str(name)
