"""Training, side by side in one run: time to the same validation accuracy against peft LoRA, and time per epoch against
`all` positions.

python -m benchmarks.training_speed [--rows 400] [--accuracy 0.8] [--output FILE.jsonl]

The same rows, prompts, answers and batches for all, and high learning rates for both sides (ours: the default for the
expansion, fourfold for the backbone); only training is timed, with the evaluation of prefixes and without that of
validation rows. LoRA (r=8, all linear layers) trains the same dequantised target through peft, the ordinary way: whole
rows, loss on the answer tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from atv_local.steering import Positions
from atv_local.store import default_model
from atv_local.vocabulary import Vocabulary
from atv_train.backbone import default_backbone, load_backbone
from atv_train.data import read_rows
from atv_train.examples import Example, encode, epoch_batches, pad
from atv_train.generator import Generator
from atv_train.objective import divergence
from atv_train.plan import target_dtype
from atv_train.prefixes import PrefixStore
from atv_train.sources import Adaptive
from atv_train.target import FrozenTarget, load_target
from atv_train.trainer import Metrics, Settings, Trainer

DATA = Path(__file__).parent.parent / "data" / "demo"
CPU = torch.device("cpu")
LORA_RATE = 1e-3
MOST_STEPS = 400


class Lora:
    """peft LoRA on the target itself, trained and measured on the same examples."""

    def __init__(self, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        model = load_target(default_model(), target_dtype(CPU), CPU)
        self.half = model.dtype is torch.bfloat16
        config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
        self.model = get_peft_model(model, config)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.float()
        self.optimizer = torch.optim.AdamW(trained, lr=LORA_RATE, fused=True)
        self.settings = settings

    def step(self, batch: Sequence[Example], factor: float = 1.0) -> None:
        """One update at `factor` times the learning rate."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logits, labels = self.answer_logits(batch)
        cross_entropy(logits, labels).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * LORA_RATE
        self.optimizer.step()

    def answer_logits(self, batch: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the answer tokens alone, as in our loop."""
        rows = [example.prompt + example.answer[:-1] for example in batch]
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        base: Any = self.model.get_base_model()
        hidden = base.model(input_ids=pad(rows, 0, CPU), attention_mask=mask).last_hidden_state
        parts = [row[len(e.prompt) - 1 :][: len(e.answer)] for row, e in zip(hidden, batch, strict=True)]
        return base.lm_head(torch.cat(parts)).float(), torch.tensor([t for e in batch for t in e.answer])

    @torch.no_grad()
    def accuracy(self, examples: Sequence[Example]) -> float:
        """Share of rows whose greedy answer is exactly right."""
        self.model.eval()
        right = 0
        for start in range(0, len(examples), 16):
            batch = examples[start : start + 16]
            logits, labels = self.answer_logits(batch)
            hits = (logits.argmax(dim=-1) == labels).split([len(example.answer) for example in batch])
            right += sum(bool(hit.all()) for hit in hits)
        return right / len(examples)

    @torch.no_grad()
    def harm(self, examples: Sequence[Example]) -> Metrics:
        """What it does to general queries, as `Trainer.harm` measures it."""
        self.model.eval()
        changed, _ = self.answer_logits(examples)
        with self.model.disable_adapter():
            base, _ = self.answer_logits(examples)
        same = (base.argmax(dim=-1) == changed.argmax(dim=-1)).float().mean()
        return {"general_kl": float(divergence(base, changed)), "general_agreement": float(same)}


def until(
    accuracy: float,
    batches: Iterator[list[Example]],
    step: Callable[[list[Example]], None],
    measure: Callable[[], float],
    every: int,
) -> tuple[list[float], float]:
    """Seconds of each step until the accuracy is reached, and the accuracy."""
    times: list[float] = []
    found = 0.0
    while found < accuracy and len(times) < MOST_STEPS:
        started = time.perf_counter()
        step(next(batches))
        times.append(time.perf_counter() - started)
        if len(times) % every == 0:
            found = measure()
            print(f"  {len(times)} steps, {sum(times):.0f} s, accuracy {found:.3f}", flush=True)
    return times, found


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
    parser.add_argument("--accuracy", type=float, default=0.8)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--every", type=int, default=10, help="steps between two measurements")
    parser.add_argument("--output", type=Path, help="append the figures to this file")
    arguments = parser.parse_args()
    vocabulary = Vocabulary.from_gguf(default_model())
    name = f"{arguments.task}.jsonl"
    rows = encode(read_rows(arguments.data / "train" / name).rows[: arguments.rows], vocabulary, 1024).rows
    valid = encode(read_rows(arguments.data / "valid" / name).rows[: arguments.valid], vocabulary, 1024).first
    settings = Settings(batch_size=arguments.batch_size, learning_rate=2e-3, backbone_learning_rate=4e-4)
    model = load_target(default_model(), target_dtype(CPU), CPU)
    backbone, tokenizer = load_backbone(default_backbone())
    per_epoch = -(-len(rows) // settings.batch_size)

    target = FrozenTarget(model, Positions.DECODE, PrefixStore(8 << 30))
    generator = Generator(backbone, target.n_rows, target.n_embd)
    trainer = Trainer(Adaptive(generator, tokenizer, 256), target, settings)
    started = time.perf_counter()
    target.prepare([wordings[0] for wordings in rows])
    prefixes = time.perf_counter() - started
    target.prepare(valid)
    total = 20 * per_epoch  # a long schedule: nearly the full rate all the way, as for LoRA
    count = iter(range(1_000_000))
    print(f"decode, prefixes {prefixes:.0f} s")
    ours, accuracy = until(
        arguments.accuracy,
        endless(rows, settings.batch_size),
        lambda batch: float_of(trainer.step(batch, next(count), total)),
        lambda: trainer.evaluate(valid)["accuracy"],
        arguments.every,
    )

    everywhere = Trainer(Adaptive(generator, tokenizer, 256), FrozenTarget(model, Positions.ALL), settings)
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
    theirs, lora_accuracy = until(
        arguments.accuracy,
        endless(rows, settings.batch_size),
        lora.step,
        lambda: lora.accuracy(valid),
        arguments.every,
    )
    record = {
        "task": arguments.task,
        "rows": len(rows),
        "batch_size": settings.batch_size,
        "prompt_tokens": statistics.mean(len(wordings[0].prompt) for wordings in rows),
        "answer_tokens": statistics.mean(len(wordings[0].answer) for wordings in rows),
        "prefix_seconds": prefixes,
        "steps": len(ours),
        "seconds": sum(ours) + prefixes,
        "step_seconds": statistics.median(ours),
        "accuracy": accuracy,
        "lora_steps": len(theirs),
        "lora_seconds": sum(theirs),
        "lora_step_seconds": statistics.median(theirs),
        "lora_accuracy": lora_accuracy,
        "lora_over_ours": sum(theirs) / (sum(ours) + prefixes),
        "all_over_decode_step": statistics.median(b / a for a, b in pairs),
        "all_over_decode_first_epoch": per_epoch
        * statistics.median(b for _, b in pairs)
        / (prefixes + per_epoch * statistics.median(a for a, _ in pairs)),
    }
    for key, value in record.items():
        print(f"{key:28} {value if isinstance(value, str) else round(value, 3)}")
    if arguments.output:
        with arguments.output.open("a") as file:
            file.write(json.dumps(record) + "\n")


def float_of(_: float) -> None:
    """A step's loss is of no interest here."""


if __name__ == "__main__":
    main()
