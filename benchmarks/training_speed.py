"""Training, side by side in one run: time to the same validation accuracy against peft LoRA, or for text to the same
loss, and time per epoch against `all` positions.

python -m benchmarks.training_speed [--rows 400] [--accuracy 0.8 | --loss 0.5] [--output FILE.jsonl]

The same rows, prompts, answers and batches for all, and high learning rates for both sides (ours: the default for the
expansion, fourfold for the backbone); only training is timed, with the evaluation of prefixes and without that of
validation rows. LoRA (r=8, all linear layers) trains the same dequantised target through peft, the ordinary way: whole
rows, loss on the answer tokens.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atv_local.data import read_rows
from atv_local.names import embedded_model
from atv_local.target import TargetFile
from atv_local.vectors import Positions
from atv_train import Example, Trainer, TrainingSettings, default_backbone, encode, epoch_batches
from atv_train.frozen_target import FrozenTarget, PrefixCache, load_target, target_dtype
from atv_train.vector_sources import AdaptiveVectors, GeneratorModule, load_backbone
from benchmarks.json_lines import append_lines
from benchmarks.lora import DEVICE, Lora

DATA = Path(__file__).parent.parent / "data" / "demo"
MOST_STEPS = 400


@dataclass(frozen=True)
class Goal:
    """The accuracy on validation rows, or the loss per answer token, at which training ends."""

    measure: Literal["accuracy", "loss"]
    value: float
    every: int
    """Steps between two measurements."""

    def met(self, found: float) -> bool:
        """Whether it is reached."""
        return found <= self.value if self.measure == "loss" else found >= self.value


def until(
    goal: Goal,
    batches: Iterator[list[Example]],
    step: Callable[[list[Example]], object],
    measure: Callable[[], float],
) -> tuple[list[float], float]:
    """Seconds of each step until the goal is met, and what was measured last."""
    times: list[float] = []
    while len(times) < MOST_STEPS:
        started = time.perf_counter()
        step(next(batches))
        times.append(time.perf_counter() - started)
        if len(times) % goal.every == 0:
            found = measure()
            print(f"  {len(times)} steps, {sum(times):.0f} s, {goal.measure} {found:.3f}", flush=True)
            if goal.met(found):
                return times, found
    raise SystemExit(f"{goal.measure} {goal.value} is not reached in {MOST_STEPS} steps")


def endless(rows: Sequence[Sequence[Example]], size: int) -> Iterator[list[Example]]:
    """Batches of epoch after epoch."""
    for epoch in range(1_000_000):
        yield from epoch_batches(rows, size, 0, epoch)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train/TASK.jsonl and valid/TASK.jsonl")
    parser.add_argument("--task", default="banking77_top10")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--valid", type=int, default=100)
    parser.add_argument("--accuracy", type=float, default=0.8, help="of greedy answers to validation rows")
    parser.add_argument("--loss", type=float, help="for text instead: per answer token of validation rows")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--every", type=int, default=10, help="steps between two measurements")
    parser.add_argument("--output", type=Path, help="append the figures to this file")
    arguments = parser.parse_args()
    measure: Literal["accuracy", "loss"] = "loss" if arguments.loss else "accuracy"
    goal = Goal(measure, arguments.loss or arguments.accuracy, arguments.every)
    prompts = TargetFile.open(embedded_model()).prompts
    name = f"{arguments.task}.jsonl"
    rows = encode(read_rows(arguments.data / "train" / name).rows[: arguments.rows], prompts, 1024).rows
    valid = encode(read_rows(arguments.data / "valid" / name).rows[: arguments.valid], prompts, 1024).first
    settings = TrainingSettings(batch_size=arguments.batch_size, learning_rate=2e-3, backbone_learning_rate=4e-4)
    model = load_target(embedded_model(), target_dtype(DEVICE), DEVICE)
    backbone, tokenizer = load_backbone(default_backbone())
    per_epoch = -(-len(rows) // settings.batch_size)

    target = FrozenTarget(model, Positions.DECODE, PrefixCache(8 << 30))
    generator = GeneratorModule(backbone, target.n_rows, target.n_embd)
    trainer = Trainer(AdaptiveVectors(generator, tokenizer, 256).to(DEVICE), target, settings)
    started = time.perf_counter()
    target.cache_prefixes([wordings[0] for wordings in rows])
    prefixes = time.perf_counter() - started
    target.cache_prefixes(valid)
    total = 20 * per_epoch  # a long schedule: nearly the full rate all the way, as for LoRA
    count = iter(range(1_000_000))
    print(f"decode, prefixes {prefixes:.0f} s")
    ours, reached = until(
        goal,
        endless(rows, settings.batch_size),
        lambda batch: trainer.step(batch, next(count), total),
        lambda: trainer.validator.evaluate(valid)[measure],
    )

    read = AdaptiveVectors(generator, tokenizer, 256).to(DEVICE)
    everywhere = Trainer(read, FrozenTarget(model, Positions.ALL), settings)
    sample = epoch_batches(rows, settings.batch_size, 0, 0)[:8]
    pairs: list[tuple[float, float]] = []
    for batch in sample:
        times = []
        for side in (trainer, everywhere):
            started = time.perf_counter()
            side.step(batch, total // 2, total)
            times.append(time.perf_counter() - started)
        pairs.append((times[0], times[1]))

    print("peft LoRA, r=8")
    lora = Lora(settings)
    theirs, lora_reached = until(
        goal,
        endless(rows, settings.batch_size),
        lora.step,
        lambda: lora.loss(valid) if measure == "loss" else lora.accuracy(valid),
    )
    record = {
        "task": arguments.task,
        "rows": len(rows),
        "goal": goal.value,
        "batch_size": settings.batch_size,
        "prompt_tokens": statistics.mean(len(wordings[0].prompt) for wordings in rows),
        "answer_tokens": statistics.mean(len(wordings[0].answer) for wordings in rows),
        "prefix_seconds": prefixes,
        "steps": len(ours),
        "seconds": sum(ours) + prefixes,
        "step_seconds": statistics.median(ours),
        measure: reached,
        "lora_steps": len(theirs),
        "lora_seconds": sum(theirs),
        "lora_step_seconds": statistics.median(theirs),
        f"lora_{measure}": lora_reached,
        "lora_over_ours": sum(theirs) / (sum(ours) + prefixes),
        "all_over_decode_step": statistics.median(b / a for a, b in pairs),
        "all_over_decode_first_epoch": per_epoch
        * statistics.median(b for _, b in pairs)
        / (prefixes + per_epoch * statistics.median(a for a, _ in pairs)),
    }
    for key, value in record.items():
        print(f"{key:28} {value if isinstance(value, str) else round(value, 3)}")
    if arguments.output:
        append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
