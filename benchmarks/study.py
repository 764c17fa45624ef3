"""Each design choice as one row: what changes when one thing about training changes.

python -m benchmarks.study --data FOLDER --output FILE.jsonl [--rows 90] [NAME ...]

One generator for four text tasks, trained on the same rows with the same seed; exact match of the greedy answer on test
rows (teacher-forced in PyTorch, which is the same), and what steering does to queries outside the tasks. Rows that are
in the output file already are passed over.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel

from atv_local.data import Row, read_rows, read_unrelated_queries
from atv_local.names import embedded_model
from atv_local.target import TargetFile
from atv_local.vectors import Positions
from atv_train import (
    Example,
    Trainer,
    TrainingMetrics,
    TrainingSettings,
    default_backbone,
    encode,
    encode_unrelated,
    pad,
    static_trainer,
)
from atv_train.frozen_target import FrozenTarget, PrefixCache, load_target, target_dtype
from atv_train.vector_sources import (
    AdaptiveVectors,
    GeneratorModule,
    VectorSource,
    averaged_vectors,
    expansion,
    load_backbone,
    n_trainable,
    random_vectors,
)
from benchmarks.lora import Lora
from benchmarks.paper_tasks import N_POOL, STUDIED

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
CPU = torch.device("cpu")


class Bench:
    """Rows and the frozen target; prefixes are evaluated once for all variants."""

    def __init__(self, data: Path, rows: int, tests: int, seed: int) -> None:
        target_file = TargetFile.open(embedded_model())
        self.seed = seed
        self.model = load_target(embedded_model(), target_dtype(CPU), CPU)
        self.cache = PrefixCache(16 << 30)
        self.target = FrozenTarget(self.model, Positions.DECODE, self.cache)
        train = [row for task in STUDIED for row in drawn(data / task / "train.jsonl", rows, seed)]
        test = [row for task in STUDIED for row in drawn(data / task / "test.jsonl", tests, 0)]
        self.train = encode(train, target_file.prompts, 1024).rows
        self.test = encode(test, target_file.prompts, 1024).first
        self.unrelated, self.unrelated_test = encode_unrelated(
            read_unrelated_queries(None), self.model, target_file, 1024
        )
        self.target.cache_prefixes([*(row[0] for row in self.train), *self.test, *self.unrelated, *self.unrelated_test])

    def adaptive(self, **changes: Any) -> AdaptiveVectors:
        """The generator of a variant."""
        tuning = changes.pop("tuning", "full")
        scratch = changes.pop("scratch", False)
        torch.manual_seed(self.seed)
        backbone, tokenizer = load_backbone(default_backbone())
        if scratch:
            backbone = AutoModel.from_config(backbone.config, add_pooling_layer=False)
        generator = GeneratorModule(backbone, self.target.n_rows, self.target.n_embd, **changes)
        return AdaptiveVectors(generator, tokenizer, 256, tuning)

    def measure(self, trainer: Trainer) -> TrainingMetrics:
        """Accuracy on test rows and harm on held-out unrelated queries."""
        return trainer.validator.evaluate(self.test) | trainer.validator.harm(self.unrelated_test)


def drawn(path: Path, count: int, seed: int) -> list[Row]:
    """The first `count` rows of a file after shuffling."""
    rows = read_rows(path).rows
    random.Random(seed).shuffle(rows)
    return [row.model_copy(update={"task": path.parent.name}) for row in rows[:count]]


class States(VectorSource):
    """Reads the target's own final hidden states instead of a second model: last prompt token before the steered one,
    and the mean over the prompt."""

    def __init__(self, target: FrozenTarget) -> None:
        super().__init__()
        self._model: list[Any] = [target.model]  # in a list, so that it is no part of this module
        self._shape = (target.n_rows, target.n_embd)
        self.norm = nn.LayerNorm(2 * target.n_embd)
        self.expansion = expansion(2 * target.n_embd, target.n_rows * target.n_embd, None)
        self._seen: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def prepare(self, examples: Any) -> None:
        """Read each prompt once: the states are frozen."""
        prefixes = sorted({example.prompt[:-1] for example in examples}, key=len)
        for start in range(0, len(prefixes), 32):
            batch = prefixes[start : start + 32]
            states = self._model[0].model(input_ids=pad(batch, 0, CPU)).last_hidden_state.float()
            for prefix, row in zip(batch, states, strict=True):
                self._seen[prefix] = torch.cat([row[len(prefix) - 1], row[: len(prefix)].mean(dim=0)])

    def forward(self, examples: list[Example]) -> Tensor:
        """Vectors from the states that were read."""
        states = torch.stack([self._seen[example.prompt[:-1]] for example in examples])
        return self.expansion(self.norm(states)).unflatten(-1, self._shape)


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    what: str
    changes: dict[str, Any]
    settings: dict[str, Any]
    positions: Positions = Positions.DECODE


VARIANTS: dict[str, Variant] = {
    "default": Variant("default: decode, mean pooling, full tuning, one linear map, all layers", {}, {}),
    "last": Variant("positions last", {}, {}, Positions.LAST),
    "slower": Variant("the expansion's learning rate a quarter", {}, {"learning_rate": 5e-4}),
    "faster": Variant("both learning rates doubled", {}, {"learning_rate": 4e-3, "backbone_learning_rate": 2e-4}),
    "frozen": Variant("backbone frozen", {"tuning": "frozen"}, {}),
    "lora": Variant("LoRA on the backbone, r=8", {"tuning": "lora"}, {"backbone_learning_rate": 1e-3}),
    "scratch": Variant("backbone from random weights", {"scratch": True}, {}),
    "pool-last": Variant("pooling last", {"pooling": "last"}, {}),
    "pool-cls": Variant("pooling cls", {"pooling": "cls"}, {}),
    "pool-mix": Variant("pooling mix: 0.3 last, 0.7 mean", {"pooling": "mix"}, {}),
    "rank64": Variant("expansion through a bottleneck of 64", {"rank": 64}, {}),
    "lower": Variant("layers 1-15", {"layers": (1, 15)}, {}),
    "upper": Variant("layers 15-29", {"layers": (15, 29)}, {}),
    "strengths": Variant("strength drawn from 0.5 to 2", {}, {"strength_range": (0.5, 2.0)}),
    "harmless": Variant("do-no-harm, weight 1", {}, {"harmless": 1.0}),
    "both": Variant("both: drawn strength and do-no-harm", {}, {"strength_range": (0.5, 2.0), "harmless": 1.0}),
    "contrastive": Variant("contrastive term, weight 0.1", {}, {"contrastive": 0.1}),
    "all": Variant("positions all", {}, {}, Positions.ALL),
}
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
    for name, names in (("per-task", list(STUDIED)), ("static", ["static"])):
        if wanted(name):
            learner = static_trainer(names, bench.target, settings)
            what = "one learned vector " + ("for each task" if len(names) > 1 else "for all tasks")
            yield finished(bench, name, what, learner, time.monotonic())
    for name, variant in VARIANTS.items():
        if not wanted(name):
            continue
        target = bench.target
        if variant.positions is not Positions.DECODE:
            target = FrozenTarget(bench.model, variant.positions, bench.cache)
        source = bench.adaptive(**variant.changes)
        source.prepare([*(row[0] for row in bench.train), *bench.test])
        trainer = Trainer(source, target, replace(settings, **variant.settings), bench.unrelated)
        started = time.monotonic()
        yield finished(bench, name, variant.what, trainer, started)
        if name == "default":
            mean = averaged_vectors(source, [row[0] for row in bench.train])
            for label, static in (("averaged", mean), ("random", random_vectors(mean, bench.seed))):
                measured = bench.measure(Trainer(static, bench.target, settings))
                yield {"name": label, "what": f"{label} vector for each task", "trainable": 0, **measured}
        if name in SWEPT and len(bench.train) == len(STUDIED) * N_POOL:
            yield {"name": f"sweep-{name}", "sweep": list(sweep(bench, trainer))}


def trained(bench: Bench, name: str, what: str, source: VectorSource, settings: TrainingSettings) -> dict[str, Any]:
    """Train and measure a source."""
    return finished(bench, name, what, Trainer(source, bench.target, settings), time.monotonic())


def finished(bench: Bench, name: str, what: str, trainer: Trainer, started: float) -> dict[str, Any]:
    """Train to the end; the record."""
    history = list(trainer.epochs(bench.train, ()))
    seconds = time.monotonic() - started
    record = {"name": name, "what": what, "trainable": n_trainable(trainer.source), "seconds": seconds}
    return record | bench.measure(trainer) | {"train_loss": history[-1]["loss"]}


def target_lora(bench: Bench, settings: TrainingSettings) -> dict[str, Any]:
    """The outside comparison: peft LoRA changes the target's own weights, by the same rows in the same batches."""
    lora = Lora(settings)
    started = time.monotonic()
    for _ in lora.epochs(bench.train):
        pass
    record: dict[str, Any] = {"name": "target-lora", "what": "no steering: LoRA on the target's weights, r=8 (peft)"}
    record |= {"trainable": n_trainable(lora.model), "seconds": time.monotonic() - started}
    return record | {"accuracy": lora.accuracy(bench.test)} | lora.harm(bench.unrelated_test)


class _Scaled(VectorSource):
    def __init__(self, source: VectorSource, strength: float) -> None:
        super().__init__()
        self.source, self.strength = source, strength

    def forward(self, examples: list[Example]) -> Tensor:
        return self.source(examples) * self.strength


def sweep(bench: Bench, trainer: Trainer) -> Iterator[dict[str, float]]:
    """Accuracy and harm at each strength."""
    for strength in STRENGTHS:
        scaled = Trainer(_Scaled(trainer.source, strength), trainer.target, trainer.settings)
        yield {"strength": strength} | bench.measure(scaled)


def main() -> None:
    """Run what is missing and append it to the output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these rows")
    parser.add_argument("--data", type=Path, required=True, help="folder with TASK/train.jsonl and TASK/test.jsonl")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=90, help="training rows a task")
    parser.add_argument("--tests", type=int, default=60, help="test rows a task")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seed", type=int, default=42)
    arguments = parser.parse_args()
    place = {"rows": arguments.rows, "tests": arguments.tests, "epochs": arguments.epochs, "seed": arguments.seed}
    lines = arguments.output.read_text().splitlines() if arguments.output.exists() else []
    found = [json.loads(line) for line in lines]
    done = {record["name"] for record in found if {key: record[key] for key in place} == place}
    bench = Bench(arguments.data, arguments.rows, arguments.tests, arguments.seed)

    def wanted(name: str) -> bool:
        return name not in done and (not arguments.names or name in arguments.names)

    for record in results(bench, wanted, TrainingSettings(epochs=arguments.epochs, seed=arguments.seed)):
        with arguments.output.open("a") as file:
            file.write(json.dumps(record | place) + "\n")
        print(
            record["name"],
            {key: round(record[key], 3) for key in ("accuracy", "unrelated_kl", "seconds") if key in record},
        )


if __name__ == "__main__":
    main()
