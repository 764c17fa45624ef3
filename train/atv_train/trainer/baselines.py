"""Baselines of the generator, on the same rows with the same settings: static, averaged and random vectors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter, ValidationError

from atv_local.data import reading, replacing_folder
from atv_local.errors import BundleError, first_problem
from atv_local.vectors import Positions, TaskVector, write_control_vector
from atv_train.examples import Example
from atv_train.frozen_target import FrozenTarget
from atv_train.trainer.answer_sampler import AnswerSampler
from atv_train.trainer.trainer import StepReport, Trainer
from atv_train.trainer.trainer_state import TrainingMetrics
from atv_train.trainer.training_settings import TrainingSettings
from atv_train.trainer.validator import Validator
from atv_train.vector_sources import AdaptiveVectors, StaticVectors, VectorSource, averaged_vectors, random_vectors

RATE = 1e-2
"""Learning rate of a vector that is learned directly; of 1e-3, 1e-2 and 5e-2 the best on validation rows."""
MARKER, MEASURED = "README.txt", "metrics.json"


def static_trainer(
    names: Sequence[str],
    target: FrozenTarget,
    settings: TrainingSettings,
    layers: tuple[int, int] | None = None,
    sampler: AnswerSampler | None = None,
) -> Trainer:
    """A trainer of static vectors, one for each name, with the same loop as for generators."""
    static = StaticVectors(names, target.vector_shape, layers, target.n_vectors).to(target.device)
    settings = replace(settings, learning_rate=RATE, harmless=0.0, contrastive=0.0)
    return Trainer(static, target, settings, sampler=sampler)


def learn_static(
    names: Sequence[str],
    trainer: Trainer,
    layers: tuple[int, int],
    rows: Sequence[Sequence[Example]],
    valid: Sequence[Example],
    stopped: Callable[[], bool] = lambda: False,
    on_step: Callable[[StepReport], None] = lambda _: None,
    on_epoch: Callable[[TrainingMetrics], None] = lambda _: None,
) -> StaticVectors:
    """A static vector for each name, as they are after the best epoch, by the measure that the generator has too.

    Args:
        names: of tasks, or one name for all of them.
        trainer: of the generator, with the same target and settings.
        layers: first and last one that it steers.
        rows: to learn from.
        valid: rows that are measured after each epoch.
        stopped: once it is true, learning ends.
        on_step: called after each step.
        on_epoch: called after each epoch, with its metrics.
    """
    learner = static_trainer(names, trainer.target, trainer.settings, layers, trainer.validator.sampler)
    best_weights = learner.source.state_dict()
    for metrics in learner.epochs(rows, valid, on_step, stopped):
        on_epoch(metrics)
        if learner.state.best is metrics:
            best_weights = deepcopy(learner.source.state_dict())
    learner.source.load_state_dict(best_weights)
    return cast("StaticVectors", learner.source)


def measure_baselines(
    best: AdaptiveVectors,
    trainer: Trainer,
    rows: Sequence[Sequence[Example]],
    valid: Sequence[Example],
    folder: Path,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[str, TrainingMetrics]]:
    """Measure `best` and every baseline on `valid`, one after the other; write metrics and vectors to `folder`.

    If `stopped` becomes true while vectors are learned, nothing is measured or written.

    Yields:
        Name and metrics: `adaptive`, `averaged` (the mean of its vectors for each task), `random` (of the same norms),
        `per-task` (one learned vector for each task), `static` (one for all) and `none` (the base model).
    """
    target, settings, sampler = trainer.target, trainer.settings, trainer.validator.sampler
    first = [wordings[0] for wordings in rows]
    tasks = sorted({example.task for example in first})
    mean = averaged_vectors(best, first)
    sources: dict[str, VectorSource] = {
        "adaptive": best,
        "averaged": mean,
        "random": random_vectors(mean, settings.seed),
    }
    sources["none"] = StaticVectors(["none"], target.vector_shape).to(target.device)
    for name, names in (("per-task", tasks), ("static", ["static"])):
        sources[name] = learn_static(names, trainer, (best.generator.first, best.generator.last), rows, valid, stopped)
    if trainer.agreed(stopped()):
        return
    measured: dict[str, TrainingMetrics] = {}
    for name, source in sources.items():
        measured[name] = Validator(source, target, settings.batch_size, trainer.accelerator, sampler)(valid)
        yield name, measured[name]
    trainer.accelerator.wait_for_everyone()
    if not trainer.accelerator.is_main_process:
        return
    with replacing_folder(folder, marker=MARKER, overwrite=True) as temporary:
        (temporary / MARKER).write_text("Static vectors as llama.cpp control vectors (--control-vector).\n")
        (temporary / MEASURED).write_text(json.dumps(measured, indent=2) + "\n")
        for name in ("averaged", "per-task", "static"):
            save_static_vectors(sources[name], temporary, name, target)


def read_baselines(folder: Path) -> dict[str, TrainingMetrics]:
    """The metrics that `measure_baselines` has written; none if it has not.

    Raises:
        BundleError: they are damaged.
    """
    file = folder / MEASURED
    if not file.exists():
        return {}
    try:
        with reading(file, BundleError):
            return TypeAdapter(dict[str, TrainingMetrics]).validate_json(file.read_bytes())
    except ValidationError as error:
        raise BundleError(f"{file} is damaged: {first_problem(error)}") from error


def save_static_vectors(source: VectorSource, folder: Path, name: str, target: FrozenTarget) -> None:
    """Each vector of a static source as a control-vector GGUF, numbered where there are several.

    A control vector has no prompt vector, which is left out.
    """
    architecture = target.model.config.model_type
    positions = target.positions if target.n_vectors == 1 else Positions.DECODE
    if isinstance(source, StaticVectors):
        for label, index in source.names.items():
            vector = TaskVector(source.vectors[index, : target.n_rows].detach().float().cpu().numpy())
            plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in label)[:80]
            file = f"{name}.gguf" if len(source.names) == 1 else f"{name}-{index}-{plain}.gguf"
            write_control_vector(vector, folder / file, architecture, {"positions": positions.value})
