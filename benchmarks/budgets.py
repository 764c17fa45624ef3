"""The paper's comparison of expressive power in practice: task vectors, LoRA and prefix tuning of equal rank, and of
equal numbers of trained parameters, on the same rows.

python -m benchmarks.budgets --data FOLDER --output FILE.jsonl [--seeds N ...] [--method NAME ...]

Ten tasks together, four with labels and six with texts. The generator's backbone is frozen, so that its parameters are
those of the map to task vectors. Every method is trained at two learning rates, of which the report takes the one with
the lower loss on validation rows. In PyTorch, on a GPU if there is one.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from peft import LoraConfig, PrefixTuningConfig
from sacrebleu.metrics.chrf import CHRF
from torch.nn.functional import cross_entropy

from atv_local.data import Row, read_rows
from atv_local.names import embedded_model
from atv_local.target import TargetFile
from atv_local.vectors import Positions
from atv_train import Example, Trainer, TrainingSettings, default_backbone, encode
from atv_train.frozen_target import FrozenTarget, evaluate_prefixes, greedy_answers, load_target, target_dtype
from atv_train.vector_sources import (
    AdaptiveVectors,
    GeneratorModule,
    StaticVectors,
    VectorSource,
    load_backbone,
    n_trainable,
)
from benchmarks.forced import Logits, steered
from benchmarks.json_lines import json_lines
from benchmarks.lora import DEVICE, Lora
from benchmarks.paper_tasks import STUDIED, STUDIED_TEXTS

ROWS = {"train": 90, "valid": 20, "test": 60}
"""Of each task."""
DECODED, DECODED_TOKENS = 20, 160
"""Test rows of each task with texts that are answered in full, and tokens of an answer."""
RANKS = (1, 4, 16)
EPOCHS, ROW_TOKENS, BATCH = 4, 1024, 32
Answers = Callable[[Sequence[Example]], list[list[int]]]


@dataclass(frozen=True)
class Budget:
    """One way to spend parameters: `size` is a rank, or a number of prefix tokens."""

    method: str
    size: int
    rates: tuple[float, float]


def budgets() -> Iterator[Budget]:
    """Ranks of 1, 4 and 16; then the sizes at which vectors and prefixes have the parameters of a LoRA of that rank."""
    yield Budget("static", 1, (1e-2, 3e-2))
    yield Budget("per-task", 1, (1e-2, 3e-2))
    sizes = {"lora": RANKS, "atv": (*RANKS, 17, 70, 285), "prefix": (*RANKS, 26, 106, 424)}
    rates = {"lora": (1e-3, 3e-3), "atv": (2e-3, 1e-2), "prefix": (1e-2, 3e-2)}
    for index in range(2 * len(RANKS)):
        for method, of_method in sizes.items():
            if index < len(of_method):
                yield Budget(method, of_method[index], rates[method])


@dataclass(frozen=True)
class Trained:
    """What a budget has learned."""

    logits: Logits
    answers: Answers
    n_parameters: int


@dataclass(frozen=True)
class Bench:
    """Rows of one seed, and the target."""

    data: Path
    seed: int

    @cached_property
    def file(self) -> TargetFile:
        """The target's GGUF."""
        return TargetFile.open(embedded_model())

    @cached_property
    def ends(self) -> list[int]:
        """Tokens that end an answer."""
        vocabulary = self.file.vocabulary
        return [token for token in range(vocabulary.n_tokens) if vocabulary.ends(token)]

    @cached_property
    def target(self) -> FrozenTarget:
        """What is steered."""
        return FrozenTarget(load_target(embedded_model(), target_dtype(DEVICE), DEVICE), Positions.DECODE)

    def examples(self, split: str) -> list[list[Example]]:
        """Rows of all tasks; the seed draws those of training."""
        rows: list[Row] = []
        for task in (*STUDIED, *STUDIED_TEXTS):
            every = list(read_rows(self.data / task / f"{split}.jsonl").rows)
            random.Random(f"{task}/{split}/{self.seed if split == 'train' else ''}").shuffle(every)
            rows += [row.model_copy(update={"task": task}) for row in every[: ROWS[split]]]
        return encode(rows, self.file.prompts, ROW_TOKENS).rows

    def trained(self, budget: Budget, rate: float) -> Trained:
        """A budget, spent."""
        settings = TrainingSettings(epochs=EPOCHS, batch_size=16, learning_rate=rate, contrastive=0.0, seed=self.seed)
        rows = self.examples("train")
        if budget.method in ("lora", "prefix"):
            return self._tuned(budget, settings, rows)
        source = self._source(budget)
        source.prepare([row[0] for split in ROWS for row in self.examples(split)])
        n_parameters = n_trainable(source)
        for _ in Trainer(source, self.target, settings).epochs(rows, ()):
            pass
        source.eval()

        def answers(examples: Sequence[Example]) -> list[list[int]]:
            limits = [DECODED_TOKENS] * len(examples)
            return greedy_answers(self.target, examples, source(examples), limits, self.file.vocabulary.ends)

        return Trained(steered(self.target, source), answers, n_parameters)

    def _source(self, budget: Budget) -> VectorSource:
        torch.manual_seed(self.seed)
        if budget.method == "atv":
            backbone, tokenizer = load_backbone(default_backbone())
            module = GeneratorModule(backbone, self.target.n_rows, self.target.n_embd, rank=budget.size)
            return AdaptiveVectors(module, tokenizer, 256, tuning="frozen").to(DEVICE)
        names = [*STUDIED, *STUDIED_TEXTS] if budget.method == "per-task" else ["static"]
        return StaticVectors(names, self.target.vector_shape).to(DEVICE)

    def _tuned(self, budget: Budget, settings: TrainingSettings, rows: list[list[Example]]) -> Trained:
        config = (
            PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=budget.size)
            if budget.method == "prefix"
            else LoraConfig(r=budget.size, lora_alpha=2 * budget.size, target_modules="all-linear")
        )
        lora = Lora(settings, rate=settings.learning_rate, config=config)
        if budget.method == "prefix":
            self._begin_with_text(lora, rows, budget.size)
        for _ in lora.epochs(rows):
            pass
        lora.model.eval()

        def answers(examples: Sequence[Example]) -> list[list[int]]:
            width = max(len(example.prompt) for example in examples)
            padding = [width - len(example.prompt) for example in examples]
            tokens = [[0] * left + list(e.prompt) for left, e in zip(padding, examples, strict=True)]
            mask = [[0] * left + [1] * (width - left) for left in padding]
            model: Any = lora.model
            found = model.generate(
                input_ids=torch.tensor(tokens, device=DEVICE),
                attention_mask=torch.tensor(mask, device=DEVICE),
                max_new_tokens=DECODED_TOKENS,
                do_sample=False,
                eos_token_id=self.ends,
                pad_token_id=self.ends[0],
            )
            return [answer[width:] for answer in found.tolist()]

        return Trained(lora.answer_logits, answers, n_trainable(lora.model))

    @torch.no_grad()
    def _begin_with_text(self, lora: Lora, rows: list[list[Example]], size: int) -> None:
        """Prefixes of random keys and values learn little; these are those of training prompts."""
        tokens = tuple(token for row in rows for token in row[0].prompt)[:size]
        states = evaluate_prefixes(self.target.model, [tokens])[0]  # [n_layer, 2, n_head_kv, size, d_head]
        weight = next(parameter for parameter in lora.model.parameters() if parameter.requires_grad)
        weight.copy_(states.permute(3, 0, 1, 2, 4).reshape(weight.shape))

    @torch.no_grad()
    def measured(self, trained: Trained) -> dict[str, Any]:
        """Losses per answer token, shares of right labels, and chrF of texts: each the mean of its tasks."""
        record: dict[str, Any] = {"trainable": trained.n_parameters}
        for split in ROWS:
            examples = [row[0] for row in self.examples(split)]
            losses, exact = self._forced(trained.logits, examples)
            record[f"{split}_loss"] = losses
            if split == "test":
                record["accuracy"] = {task: exact[task] for task in STUDIED}
        texts = [row[0] for row in self.examples("test") if row[0].task in STUDIED_TEXTS]
        record["chrf"] = {
            task: self._chrf(trained.answers, [e for e in texts if e.task == task][:DECODED]) for task in STUDIED_TEXTS
        }
        return record

    def _forced(self, logits: Logits, examples: Sequence[Example]) -> tuple[dict[str, float], dict[str, list[int]]]:
        sums: dict[str, list[float]] = {}
        exact: dict[str, list[int]] = {}
        for start in range(0, len(examples), BATCH):
            batch = examples[start : start + BATCH]
            scores, labels = logits(batch)
            sizes = [len(example.answer) for example in batch]
            losses = cross_entropy(scores, labels, reduction="none").split(sizes)
            hits = (scores.argmax(dim=-1) == labels).split(sizes)
            for example, loss, hit in zip(batch, losses, hits, strict=True):
                sums.setdefault(example.task, []).append(float(loss.mean()))
                exact.setdefault(example.task, []).append(int(hit.all()))
        return {task: round(fmean(values), 4) for task, values in sums.items()}, exact

    def _chrf(self, answers: Answers, examples: list[Example]) -> list[float]:
        vocabulary, metric, scores = self.file.vocabulary, CHRF(), []
        for example, written in zip(examples, answers(examples), strict=True):
            end = next((place for place, token in enumerate(written) if vocabulary.ends(token)), len(written))
            answer, wanted = (vocabulary.text(t, special=False).strip() for t in (written[:end], example.answer[:-1]))
            scores.append(round(metric.sentence_score(answer, [wanted]).score, 2))
        return scores


def main() -> None:
    """Train and measure what the output does not have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder for each task")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--method", nargs="+", default=["static", "per-task", "lora", "atv", "prefix"])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        bench = Bench(arguments.data, seed)
        for budget in budgets():
            for rate in budget.rates if budget.method in arguments.method else ():
                place = {"method": budget.method, "size": budget.size, "rate": rate, "seed": seed}
                if any(place.items() <= line.items() for line in json_lines(arguments.output)):
                    continue
                record = place | bench.measured(bench.trained(budget, rate))
                with arguments.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
