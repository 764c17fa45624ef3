"""Each design choice as one row: what changes when one thing about training changes.

python -m benchmarks.study --data FOLDER --output FILE.jsonl [--rows 90] [NAME ...]

One generator for several tasks, trained on the same rows with the same seed; exact match of the greedy answer on test
rows (teacher-forced in PyTorch, which is the same), and what steering does to queries outside the tasks. The outputs
are labels, or with `--texts` texts, and then each row's loss per token is kept too. Rows that are in the output file
already are passed over.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from atv_local.data import Row, read_rows, read_unrelated_queries
from atv_local.names import embedded_model
from atv_local.target import TargetFile
from atv_local.vectors import Positions
from atv_train import (
    Trainer,
    TrainingMetrics,
    TrainingSettings,
    default_backbone,
    encode,
    encode_unrelated,
    static_trainer,
)
from atv_train.frozen_target import FrozenTarget, PrefixCache, load_target, target_dtype
from atv_train.vector_sources import (
    AdaptiveVectors,
    GeneratorModule,
    VectorSource,
    averaged_vectors,
    load_backbone,
    n_trainable,
    random_vectors,
)
from benchmarks.json_lines import append_lines
from benchmarks.lora import Lora
from benchmarks.paper_tasks import N_POOL, STUDIED, STUDIED_TEXTS
from benchmarks.study_variants import CPU, FOR_TEXTS, VARIANTS, Scaled, States, StrengthByLayer, Variant

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
_BATCH = 16
_N_UNRELATED = 240
"""Queries, of which the last sixth is only measured: the base model answers each of them first."""


class Bench:
    """Rows and the frozen target; prefixes are evaluated once for all variants."""

    def __init__(self, data: Path, tasks: Sequence[str], rows: int, tests: int, seed: int) -> None:
        target_file = TargetFile.open(embedded_model())
        self.seed, self.tasks = seed, tasks
        self.model = load_target(embedded_model(), target_dtype(CPU), CPU)
        self.cache = PrefixCache(16 << 30)
        self.target = FrozenTarget(self.model, Positions.DECODE, self.cache)
        train = [row for task in tasks for row in drawn(data / task / "train.jsonl", rows, seed)]
        test = [row for task in tasks for row in drawn(data / task / "test.jsonl", tests, 0)]
        self.train = encode(train, target_file.prompts, 1024).rows
        self.test = encode(test, target_file.prompts, 1024).first
        outside = read_unrelated_queries(None)[-_N_UNRELATED:]
        self.unrelated, self.unrelated_test = encode_unrelated(outside, self.model, target_file, 1024)
        self.target.cache_prefixes([*(row[0] for row in self.train), *self.test, *self.unrelated, *self.unrelated_test])

    def adaptive(self, variant: Variant) -> AdaptiveVectors:
        """The generator of a variant."""
        changes = dict(variant.changes)
        tuning = changes.pop("tuning", "full")
        scratch = changes.pop("scratch", False)
        torch.manual_seed(self.seed)
        backbone, tokenizer = load_backbone(default_backbone())
        if scratch:
            backbone = AutoModel.from_config(backbone.config, add_pooling_layer=False)
        shape = self.target.n_rows, self.target.n_embd
        generator = GeneratorModule(backbone, *shape, **changes)
        if variant.direction:
            generator.expansion = StrengthByLayer(backbone.config.hidden_size, *shape, variant.direction)
        return AdaptiveVectors(generator, tokenizer, 256, tuning)

    def measure(self, trainer: Trainer) -> TrainingMetrics:
        """Accuracy on test rows and harm on held-out unrelated queries."""
        return trainer.validator.evaluate(self.test) | trainer.validator.harm(self.unrelated_test)

    @torch.no_grad()
    def losses(self, trainer: Trainer) -> dict[str, list[float]]:
        """Each test row's loss per token, by task."""
        order = sorted(range(len(self.test)), key=lambda row: len(self.test[row].answer))
        found = [0.0] * len(order)
        trainer.source.eval()
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = [self.test[row] for row in rows]
            logits, labels = trainer.target.answer_logits(batch, trainer.source(batch))
            losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
            for row, part in zip(rows, losses.split([len(example.answer) for example in batch]), strict=True):
                found[row] = round(float(part.mean()), 4)
        by_task: dict[str, list[float]] = {task: [] for task in self.tasks}
        for example, loss in zip(self.test, found, strict=True):
            by_task[example.task].append(loss)
        return by_task


def drawn(path: Path, count: int, seed: int) -> list[Row]:
    """The first `count` rows of a file after shuffling."""
    rows = read_rows(path).rows
    random.Random(seed).shuffle(rows)
    return [row.model_copy(update={"task": path.parent.name}) for row in rows[:count]]


SWEPT = ("default", "strengths", "harmless", "both")


def results(bench: Bench, wanted: Callable[[str], bool], settings: TrainingSettings) -> Iterator[dict[str, Any]]:
    """One record for each variant and baseline that is wanted."""
    if wanted("states"):
        states = States(bench.target)
        states.prepare([*(row[0] for row in bench.train), *bench.test, *bench.unrelated_test])
        slower = replace(settings, learning_rate=5e-4)  # better here than the default
        yield trained(bench, "states", "the target's own final states instead of a backbone", states, slower)
    if wanted("target-lora"):
        yield target_lora(bench, settings)
    for name, names in (("per-task", list(bench.tasks)), ("static", ["static"])):
        if wanted(name):
            learner = static_trainer(names, bench.target, settings)
            what = "one learned vector " + ("for each task" if len(names) > 1 else "for all tasks")
            yield finished(bench, name, what, learner, time.monotonic())
    for name, variant in VARIANTS.items():
        if not wanted(name):
            continue
        target = bench.target
        if variant.positions is not Positions.DECODE:
            target = FrozenTarget(bench.model, variant.positions, bench.cache, n_vectors=variant.n_vectors)
        source = bench.adaptive(variant)
        source.prepare([*(row[0] for row in bench.train), *bench.test])
        trainer = Trainer(source, target, replace(settings, **variant.settings), bench.unrelated)
        started = time.monotonic()
        yield finished(bench, name, variant.what, trainer, started)
        if name == "default":
            mean = averaged_vectors(source, [row[0] for row in bench.train])
            for label, static in (("averaged", mean), ("random", random_vectors(mean, bench.seed))):
                record = {"name": label, "what": f"{label} vector for each task", "trainable": 0}
                yield record | measures(bench, Trainer(static, bench.target, settings))
        if name in SWEPT and bench.tasks == STUDIED and len(bench.train) == len(STUDIED) * N_POOL:
            yield {"name": f"sweep-{name}", "sweep": list(sweep(bench, trainer))}


def trained(bench: Bench, name: str, what: str, source: VectorSource, settings: TrainingSettings) -> dict[str, Any]:
    """Train and measure a source."""
    return finished(bench, name, what, Trainer(source, bench.target, settings), time.monotonic())


def finished(bench: Bench, name: str, what: str, trainer: Trainer, started: float) -> dict[str, Any]:
    """Train to the end; the record."""
    history = list(trainer.epochs(bench.train, ()))
    seconds = time.monotonic() - started
    record = {"name": name, "what": what, "trainable": n_trainable(trainer.source), "seconds": seconds}
    return record | measures(bench, trainer) | {"train_loss": history[-1]["loss"]}


def measures(bench: Bench, trainer: Trainer) -> dict[str, Any]:
    """What is kept of a variant."""
    return bench.measure(trainer) | ({} if bench.tasks == STUDIED else {"losses": bench.losses(trainer)})


def target_lora(bench: Bench, settings: TrainingSettings) -> dict[str, Any]:
    """The outside comparison: peft LoRA changes the target's own weights, by the same rows in the same batches."""
    lora = Lora(settings)
    started = time.monotonic()
    for _ in lora.epochs(bench.train):
        pass
    record: dict[str, Any] = {"name": "target-lora", "what": "no steering: LoRA on the target's weights, r=8 (peft)"}
    record |= {"trainable": n_trainable(lora.model), "seconds": time.monotonic() - started}
    return record | {"accuracy": lora.accuracy(bench.test)} | lora.harm(bench.unrelated_test)


def sweep(bench: Bench, trainer: Trainer) -> Iterator[dict[str, float]]:
    """Accuracy and harm at each strength."""
    for strength in STRENGTHS:
        scaled = Trainer(Scaled(trainer.source, strength), trainer.target, trainer.settings)
        yield {"strength": strength} | bench.measure(scaled)


def main() -> None:
    """Run what is missing and append it to the output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these rows")
    parser.add_argument("--data", type=Path, required=True, help="folder with TASK/train.jsonl and TASK/test.jsonl")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--texts", action="store_true", help="tasks with texts in place of labels")
    parser.add_argument("--rows", type=int, default=90, help="training rows a task")
    parser.add_argument("--tests", type=int, default=60, help="test rows a task")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    place = {"rows": arguments.rows, "tests": arguments.tests, "epochs": arguments.epochs, "seed": arguments.seed}
    lines = arguments.output.read_text().splitlines() if arguments.output.exists() else []
    found = [json.loads(line) for line in lines]
    done = {record["name"] for record in found if {key: record[key] for key in place} == place}
    tasks, usual = (STUDIED_TEXTS, FOR_TEXTS) if arguments.texts else (STUDIED, ())
    bench = Bench(arguments.data, tasks, arguments.rows, arguments.tests, arguments.seed)

    def wanted(name: str) -> bool:
        names = arguments.names or usual
        return name not in done and (not names or name in names)

    for record in results(bench, wanted, TrainingSettings(epochs=arguments.epochs, seed=arguments.seed)):
        append_lines(arguments.output, [record | place])
        print(
            record["name"],
            {key: round(record[key], 3) for key in ("accuracy", "unrelated_kl", "seconds") if key in record},
        )


if __name__ == "__main__":
    main()
