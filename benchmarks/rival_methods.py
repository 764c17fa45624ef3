"""What task vectors are compared with: prompts, vectors, LoRA and prefix tuning.

Each method that learns has the weights of its best epoch and the better of its learning rates, by validation rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from peft import LoraConfig, PrefixTuningConfig
from torch import Tensor, nn

from atv_local.names import embedded_model
from atv_local.vectors import Positions
from atv_train import Example, Trainer, TrainingSettings, default_backbone, static_trainer
from atv_train.frozen_target import FrozenTarget, PrefixCache, greedy_answers, load_target, target_dtype
from atv_train.vector_sources import (
    AdaptiveVectors,
    GeneratorModule,
    VectorSource,
    averaged_vectors,
    load_backbone,
    n_trainable,
    random_vectors,
)
from benchmarks.answer_text import end_tokens
from benchmarks.forced import Asked, Logits, Outcome, loss_of, outcomes, steered, unsteered
from benchmarks.lora import DEVICE, Lora
from benchmarks.rival_rows import Draw

QUERY_TOKENS = 256
RATES = {
    "atv": (2e-3,),
    "frozen": (2e-3, 1e-2),
    "static": (1e-2,),
    "per-task": (1e-2,),
    "lora": (1e-3, 3e-3),
    "prefix": (1e-2, 3e-2),
}
"""Learning rates that are tried."""
_CACHE_BYTES = 0 if DEVICE.type == "cuda" else 12 << 30  # a GPU is as fast without
Answers = Callable[[Sequence[Example], int], list[list[int]]]
"""From prompts and a number of tokens to greedy answers, as token ids."""


@dataclass(frozen=True)
class Answering:
    """A method that can be measured.

    Args:
        logits: of answers.
        told: whether its prompts have the instruction.
        shots: which demonstrations its prompts have, as `Draw.chooser` knows them; None for none and no wording.
        facts: about its training, for its record.
        source: what makes its vectors.
        answers: decodes; None for prompts.
    """

    logits: Logits
    told: bool = False
    shots: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    source: VectorSource | None = None
    answers: Answers | None = None


class Methods:
    """Ways to answer the rows of one draw.

    Args:
        epochs: of all that learn; the best one is taken.
        batch_size: rows of a step.
        by_answers: whether the best epoch and rate have the most right answers to validation rows, then the lowest
            loss, as `train` chooses where all tasks have labels; otherwise they have the lowest loss.
    """

    def __init__(self, draw: Draw, epochs: int = 3, batch_size: int = 16, *, by_answers: bool = False) -> None:
        self.draw, self.by_answers = draw, by_answers
        self.settings = TrainingSettings(epochs=epochs, batch_size=batch_size, contrastive=0.0, seed=draw.seed)

    @cached_property
    def target(self) -> FrozenTarget:
        """What is steered or prompted."""
        model = load_target(embedded_model(), target_dtype(DEVICE), DEVICE)
        return FrozenTarget(model, Positions.DECODE, PrefixCache(_CACHE_BYTES))

    def prompted(self, shots: str | None = None) -> dict[str, Answering]:
        """The target as it is: the query alone, in the best wording, or after demonstrations."""
        return {shots or "none": Answering(unsteered(self.target), shots=shots)}

    def outcomes(self, rows: Sequence[Asked], way: Answering) -> list[Outcome]:
        """What a method answers; prompts that begin alike are evaluated together."""
        if DEVICE.type == "cuda":
            return outcomes(rows, way.logits)
        with self.target.temporary_cache():
            self.target.cache_prefixes([row.example for row in rows])
            return outcomes(rows, way.logits)

    def static(self, name: str) -> dict[str, Answering]:
        """One learned vector for each task, or one for all."""
        names = self.draw.trained if name == "per-task" else ["static"]

        def begin(rate: float) -> Trainer:
            trainer = static_trainer(names, self.target, self.settings)
            return Trainer(trainer.source, self.target, replace(trainer.settings, learning_rate=rate))

        return {name: self._vectors(name, begin)}

    def adaptive(self, *, told: bool = False) -> dict[str, Answering]:
        """The generator; of one that reads bare queries also its mean and random vectors for each task."""
        found = self._generator("atv", "full", told=told)
        if told:
            return {"atv, told": found}
        assert found.source is not None
        mean = averaged_vectors(found.source, [row[0] for row in self.draw.examples("train")])
        others = {"averaged": mean, "random": random_vectors(mean, self.draw.seed)}
        return {"atv": found} | {other: Answering(steered(self.target, source)) for other, source in others.items()}

    def frozen(self, rank: int) -> dict[str, Answering]:
        """A generator whose expansion alone learns, through a bottleneck of `rank`."""
        return {"atv": self._generator("frozen", "frozen", rank=rank)}

    def tuned(self, name: str, *, size: int, told: bool = False) -> dict[str, Answering]:
        """LoRA of a rank, or so many prefix tokens."""
        config: Any = (
            PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=size)
            if name == "prefix"
            else LoraConfig(r=size, lora_alpha=2 * size, target_modules="all-linear")
        )
        rows = self.draw.examples("train", told=told)

        def begin(rate: float) -> tuple[nn.Module, Logits, Iterable[Any], Any]:
            lora = Lora(self.settings, rate=rate, config=config)
            if name == "prefix":
                self._begin_with_text(lora, rows, size)
            return lora.model, lora.bounded_logits, lora.epochs(rows), lora

        logits, facts, lora = self._best(name, begin, rows, told=told)
        ends = end_tokens(self.draw.file.vocabulary)

        def answers(examples: Sequence[Example], n_tokens: int) -> list[list[int]]:
            return list(lora.answers([example.prompt for example in examples], n_tokens, ends))

        return {f"{name}, told" if told else name: Answering(logits, told=told, facts=facts, answers=answers)}

    def _generator(
        self, name: str, tuning: Literal["full", "frozen"], *, rank: int | None = None, told: bool = False
    ) -> Answering:
        def begin(rate: float) -> Trainer:
            torch.manual_seed(self.draw.seed)
            backbone, tokenizer = load_backbone(default_backbone())
            module = GeneratorModule(backbone, self.target.n_rows, self.target.n_embd, rank=rank)
            source = AdaptiveVectors(module, tokenizer, QUERY_TOKENS, tuning).to(DEVICE)
            return Trainer(source, self.target, replace(self.settings, learning_rate=rate))

        return self._vectors(name, begin, told=told)

    def _vectors(self, name: str, begin: Callable[[float], Trainer], *, told: bool = False) -> Answering:
        rows = self.draw.examples("train", told=told)
        if DEVICE.type != "cuda":
            valid = self.draw.examples("valid", told=told)
            self.target.cache_prefixes([row[0] for row in (*rows, *valid)])

        def started(rate: float) -> tuple[nn.Module, Logits, Iterator[Any], VectorSource]:
            trainer = begin(rate)
            trainer.source.prepare([row[0] for row in rows])
            return trainer.source, steered(self.target, trainer.source), trainer.epochs(rows, ()), trainer.source

        logits, facts, source = self._best(name, started, rows, told=told)
        ends = self.draw.file.vocabulary.ends

        @torch.no_grad()
        def answers(examples: Sequence[Example], n_tokens: int) -> list[list[int]]:
            limits = [n_tokens] * len(examples)
            return greedy_answers(self.target, examples, source.eval()(examples), limits, ends)

        return Answering(logits, told=told, facts=facts, source=source, answers=answers)

    def _best(
        self,
        name: str,
        begin: Callable[[float], tuple[nn.Module, Logits, Iterable[Any], Any]],
        rows: Sequence[Sequence[Example]],
        *,
        told: bool,
    ) -> tuple[Logits, dict[str, Any], Any]:
        """Train at each rate; the best one, with the weights of its best epoch."""
        valid = [Asked(row[0]) for row in self.draw.examples("valid", told=told)]
        best: tuple[Logits, dict[str, Any], Any] | None = None
        best_quality: tuple[float, float] | None = None
        for rate in RATES[name]:
            module, logits, epochs, made = begin(rate)
            kept: dict[str, Tensor] = {}
            quality: tuple[float, float] | None = None
            epoch = 0
            for number, _ in enumerate(epochs, 1):
                module.eval()
                found = outcomes(valid, logits)
                now = (sum(row.exact for row in found) / len(found) if self.by_answers else 0.0, -loss_of(found))
                if quality is None or now > quality:
                    quality, epoch = now, number
                    kept = {key: value.detach().clone() for key, value in _trained(module)}
            for key, value in _trained(module):
                value.data.copy_(kept[key])
            if quality is not None and (best_quality is None or quality > best_quality):
                train_loss = loss_of(outcomes([Asked(row[0]) for row in rows], logits))
                facts = {"rate": rate, "epoch": epoch, "epochs": self.settings.epochs, "valid_loss": -quality[1]}
                facts |= {"valid_exact": quality[0]} if self.by_answers else {}
                facts |= {"train_loss": train_loss, "trainable": n_trainable(module)}
                best, best_quality = (logits, facts, made), quality
        assert best is not None
        return best

    @torch.no_grad()
    def _begin_with_text(self, lora: Lora, rows: Sequence[Sequence[Example]], size: int) -> None:
        """Prefixes of random keys and values learn little; these are those of training prompts."""
        tokens = tuple(token for row in rows for token in row[0].prompt)[: size + 1]
        states = self.target.prompt_states([Example(0, "", "", tokens, ())], self.target.zeros(1))[0]
        weight = next(parameter for parameter in lora.model.parameters() if parameter.requires_grad)
        weight.copy_(states.permute(3, 0, 1, 2, 4).reshape(weight.shape))  # from [n_layer, 2, n_head_kv, size, d_head]


def _trained(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, value) for name, value in module.named_parameters() if value.requires_grad]
