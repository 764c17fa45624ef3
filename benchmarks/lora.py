"""The outside comparison: one peft LoRA for all 20 tasks of the paper, on the target's own weights.

python -m benchmarks.lora --data FOLDER --rows N --output FILE.jsonl [--seed 42] [--epochs 2]

The same training rows, prompts and answers as `benchmarks.steered`, and lines in the form of `benchmarks.prompted`. The
trained model is measured in PyTorch, as it is no longer the GGUF.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy

from atv_local.data import Row as TrainingRow
from atv_local.names import embedded_model
from atv_local.target import PromptFormat, TargetFile
from atv_train import Example, TrainingMetrics, TrainingSettings, encode, epoch_batches, mean_kl, pad
from atv_train.examples import padding_mask
from atv_train.frozen_target import load_target, target_dtype
from benchmarks.paper_tasks import DATA, GROUPS, N_POOL, Row, load
from benchmarks.prompting import restricted

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LORA_RATE = 1e-3
N_CTX = 4096
MAX_TOKENS = 65536 if DEVICE.type == "cuda" else 2560  # of one backward pass, padding included


class Lora:
    """peft LoRA on the target itself, trained and measured on the same examples."""

    def __init__(self, settings: TrainingSettings, rate: float = LORA_RATE) -> None:
        torch.manual_seed(settings.seed)
        model = load_target(embedded_model(), target_dtype(DEVICE), DEVICE)
        self.half = model.dtype is torch.bfloat16
        config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")
        self.model = get_peft_model(model, config)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for parameter in trained:
            parameter.data = parameter.data.float()
        self.optimizer = torch.optim.AdamW(trained, lr=rate, fused=True)
        self.settings, self.rate = settings, rate

    def epochs(self, rows: Sequence[Sequence[Example]]) -> Iterator[float]:
        """Train on all rows with a cosine schedule; the mean loss of each epoch."""
        settings, done = self.settings, 0
        total = settings.epochs * math.ceil(len(rows) / settings.batch_size)
        for epoch in range(settings.epochs):
            losses = []
            for batch in epoch_batches(rows, settings.batch_size, settings.seed, epoch):
                losses.append(self.step(batch, 0.5 + 0.5 * math.cos(math.pi * done / total)))
                done += 1
            yield sum(losses) / len(losses)

    def step(self, batch: Sequence[Example], factor: float = 1.0) -> float:
        """One update at `factor` times the learning rate; the loss."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total, n_labels = 0.0, sum(len(example.answer) for example in batch)
        for part in bounded(batch):
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.half):
                logits, labels = self.answer_logits(part)
            loss = cross_entropy(logits, labels, reduction="sum") / n_labels
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.rate
        self.optimizer.step()
        return total

    def answer_logits(self, batch: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the answer tokens alone, as in our loop."""
        rows = [example.prompt + example.answer[:-1] for example in batch]
        mask = padding_mask([len(row) for row in rows], DEVICE).long()
        base: Any = self.model.get_base_model()
        hidden = base.model(input_ids=pad(rows, 0, DEVICE), attention_mask=mask).last_hidden_state
        parts = [row[len(e.prompt) - 1 :][: len(e.answer)] for row, e in zip(hidden, batch, strict=True)]
        labels = torch.tensor([token for example in batch for token in example.answer], device=DEVICE)
        return base.lm_head(torch.cat(parts)).float(), labels

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
    def loss(self, examples: Sequence[Example]) -> float:
        """Per answer token, as `Validator.evaluate` measures one task."""
        self.model.eval()
        found = (self.answer_logits(examples[start : start + 16]) for start in range(0, len(examples), 16))
        total = sum(float(cross_entropy(logits, labels, reduction="sum")) for logits, labels in found)
        return total / sum(len(example.answer) for example in examples)

    @torch.no_grad()
    def harm(self, examples: Sequence[Example]) -> TrainingMetrics:
        """What it does to unrelated queries, as `Trainer.harm` measures it."""
        self.model.eval()
        changed, _ = self.answer_logits(examples)
        with self.model.disable_adapter():
            base, _ = self.answer_logits(examples)
        same = (base.argmax(dim=-1) == changed.argmax(dim=-1)).float().mean()
        return {"unrelated_kl": float(mean_kl(base, changed)), "unrelated_agreement": float(same)}


def bounded(batch: Sequence[Example]) -> Iterator[Sequence[Example]]:
    """A batch in parts whose activations fit the memory; their gradients add up to that of the whole."""
    start = 0
    while start < len(batch):
        end = start + 1
        while end < len(batch) and (end + 1 - start) * max(e.length for e in batch[start : end + 1]) <= MAX_TOKENS:
            end += 1
        yield batch[start:end]
        start = end


@torch.no_grad()
def answered(lora: Lora, prompts: PromptFormat, row: Row) -> tuple[bool, bool]:
    """(greedy free answer is right, greedy answer among the row's choices is right)."""
    prompt = prompts(row.input).tokens
    options = [prompts.answer(row.input, choice) for choice in row.choices]
    lora.model.eval()
    found, _ = lora.answer_logits([Example(0, row.input, "", prompt, option) for option in options])
    logits = found.split([len(option) for option in options])
    right = row.choices.index(row.output)
    free = bool((logits[right].argmax(dim=-1) == torch.tensor(options[right], device=DEVICE)).all())

    def after(written: Sequence[int]) -> Tensor:
        same = next(n for n, option in enumerate(options) if option[: len(written)] == tuple(written))
        return logits[same][len(written)]

    return free, restricted(options, after) == right


def lines(lora: Lora, prompts: PromptFormat, data: Path, rows: int) -> Iterator[dict[str, object]]:
    """A line for each test row, row 0 of every task first."""
    tasks = [task for group in GROUPS for task in load(group, "test", rows, 0, data)]
    every = sorted(((i, t, row) for t in tasks for i, row in enumerate(t.rows)), key=lambda found: found[0])
    for index, task, row in every:
        free, choice = answered(lora, prompts, row)
        yield {
            **{"method": "target-lora", "group": task.group, "task": task.name, "wording": 0, "index": index},
            **{"shots": 0, "free": free, "choice": choice, "dropped": 0},
            "tokens": len(prompts(row.input).tokens),
        }


def main() -> None:
    """Train, then answer the test rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of tasks; by default $ATV_TASKS")
    parser.add_argument("--rows", type=int, default=150, help="test rows per task")
    parser.add_argument("--seed", type=int, default=42, help="draws the training rows")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    arguments = parser.parse_args()
    settings = TrainingSettings(epochs=arguments.epochs, seed=arguments.seed)
    prompts = TargetFile.open(embedded_model()).prompts
    pool = load("atv20", "train", N_POOL, arguments.seed, arguments.data)
    rows = [TrainingRow(input=row.input, output=row.output, task=task.name) for task in pool for row in task.rows]
    encoded = encode(rows, prompts, N_CTX).rows
    lora = Lora(settings)
    for epoch, loss in enumerate(lora.epochs(encoded)):
        print(f"epoch {epoch + 1}: loss {loss:.3f}", file=sys.stderr, flush=True)
    with arguments.output.open("a", encoding="utf-8") as file:
        for line in lines(lora, prompts, arguments.data, arguments.rows):
            file.write(json.dumps(line | {"seed": arguments.seed}) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
