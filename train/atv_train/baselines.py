"""What adaptivity has to beat, on the same rows with the same settings: static, averaged and random vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from atv_local.data import replacing_folder
from atv_local.vectors import Positions, TaskVector, control_vector
from atv_train.examples import Example
from atv_train.frozen_target import FrozenTarget
from atv_train.trainer import Metrics, Settings, Trainer
from atv_train.vector_sources import Adaptive, Source, Static, averaged, random_like

RATE = 1e-2
"""Learning rate of a vector that is learned directly; the best of 1e-3, 1e-2 and 5e-2 on validation rows."""
MARKER = "README.txt"


def learned(
    names: Sequence[str], target: FrozenTarget, settings: Settings, layers: tuple[int, int] | None = None
) -> Trainer:
    """A trainer of static vectors, one for each name, with the loop that trains generators."""
    static = Static(names, (target.n_rows, target.n_embd), layers).to(target.device)
    return Trainer(static, target, replace(settings, learning_rate=RATE, harmless=0.0, contrastive=0.0))


def compare(
    best: Adaptive,
    trainer: Trainer,
    rows: Sequence[Sequence[Example]],
    valid: Sequence[Example],
    folder: Path,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[str, Metrics]]:
    """Measure `best` and every baseline on `valid`, one after the other; write the static vectors to `folder`.

    If `stopped` turns true while vectors are learned, nothing is measured or written.

    Yields:
        Name and metrics: `adaptive`, `averaged` (the mean of its vectors for each task), `random` (of the same norms),
        `per-task` (one learned vector for each task), `static` (one for all) and `none` (the base model).
    """
    target, settings = trainer.target, trainer.settings
    first = [wordings[0] for wordings in rows]
    tasks = sorted({example.task for example in first})
    mean = averaged(best, first)
    sources: dict[str, Source] = {"adaptive": best, "averaged": mean, "random": random_like(mean, settings.seed)}
    sources["none"] = Static(["none"], (target.n_rows, target.n_embd)).to(target.device)
    for name, names in (("per-task", tasks), ("static", ["static"])):
        learner = learned(names, target, settings, (best.generator.first, best.generator.last))
        kept = learner.source.state_dict()
        for metrics in learner.epochs(rows, valid, stopped=stopped):
            if learner.state.best is metrics:  # as of the generator, the best epoch counts
                kept = deepcopy(learner.source.state_dict())
        learner.source.load_state_dict(kept)
        sources[name] = learner.source
    if trainer.agreed(stopped()):
        return
    for name, source in sources.items():
        yield name, Trainer(source, target, settings, accelerator=trainer.accelerator).evaluate(valid, "valid_")
    trainer.accelerator.wait_for_everyone()
    if not trainer.accelerator.is_main_process:
        return
    with replacing_folder(folder, marker=MARKER) as temporary:
        (temporary / MARKER).write_text("Static vectors as llama.cpp control vectors (--control-vector).\n")
        for name in ("averaged", "per-task", "static"):
            write(sources[name], temporary, name, target.model.config.model_type, target.positions)


def write(source: Source, folder: Path, name: str, architecture: str, positions: Positions) -> None:
    """Each vector of a static source as a control-vector GGUF, numbered where there are several."""
    if isinstance(source, Static):
        for label, index in source.names.items():
            vector = TaskVector(source.vectors[index].detach().float().cpu().numpy())
            plain = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in label)[:80]
            file = f"{name}.gguf" if len(source.names) == 1 else f"{name}-{index}-{plain}.gguf"
            control_vector.save(vector, folder / file, architecture, {"positions": positions.value})
