"""What `benchmarks.formats` trains on and asks: answers of the base model, rewritten in a format."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch

from atv_local.data import Row, tell
from atv_local.names import embedded_model
from atv_local.target import TargetFile, Vocabulary
from atv_local.vectors import Positions
from atv_train import Example
from atv_train.frozen_target import FrozenTarget, PrefixCache, greedy_answers, load_target, target_dtype
from benchmarks.answer_text import answer_text
from benchmarks.format_rules import FORMATS, N_TRAIN, N_VALID, rewritten, whole_sentences
from benchmarks.json_lines import json_lines
from benchmarks.lora import DEVICE
from benchmarks.rival_rows import N_SHOTS, Draw

QUESTIONS = Path(__file__).parent.parent / "data" / "demo"
PLAIN_TOKENS = 48
"""Of answers that are rewritten."""
_BATCH = 64 if DEVICE.type == "cuda" else 16
_CACHE_BYTES = 0 if DEVICE.type == "cuda" else 4 << 30  # a GPU is as fast without


@dataclass(frozen=True)
class FormatDraw(Draw):
    """Questions of one seed with answers in one format, which are one task to its trainers.

    Args:
        format: of the training answers.
    """

    format: str = "upper"

    @cached_property
    def groups(self) -> dict[str, str]:
        """The format alone."""
        return {self.format: "format"}

    @property
    def trained(self) -> list[str]:
        """The format alone."""
        return [self.format]

    def rows(self, task: str, split: str) -> list[Row]:
        """Training or validation rows; questions whose plain answer cannot be rewritten are left out."""
        plain = plain_answers(training_questions(), PLAIN_TOKENS)
        texts = [(question, whole_sentences(plain[question])) for question in self.questions(split)]
        answers = [(question, rewritten(task, text)) for question, text in texts if text]
        return [Row(input=question, output=answer, task=task) for question, answer in answers if answer]

    def questions(self, split: str) -> list[str]:
        """To train on or to choose by."""
        every = list(training_questions())
        random.Random(f"formats/{self.seed}").shuffle(every)
        return every[:N_TRAIN] if split == "train" else every[N_TRAIN : N_TRAIN + N_VALID]

    @cached_property
    def tests(self) -> list[str]:
        """Questions like those that are trained on, then queries that are not."""
        return [*like_questions(), *_inputs(self.data / "offtopic" / "clinc_oos_valid.jsonl")][: self.n_tests]

    def prompts(self, queries: Sequence[str], *, shots: int = 0, wording: int | None = None) -> list[Example]:
        """Queries to be answered.

        Args:
            shots: training rows that come before each.
            wording: number of the instruction before each.
        """
        turns = [(row.input, row.output) for row in self.rows(self.format, "train")[:shots]]
        form = self.file.prompts.after(turns=turns) if turns else self.file.prompts
        instruction = None if wording is None else FORMATS[self.format].instructions[wording]
        texts = [tell(instruction, query) for query in queries]
        return [Example(0, text, self.format, form(text).tokens, ()) for text in texts]

    @cached_property
    def shots(self) -> int:
        """Demonstrations, as many as there are training rows at most."""
        return min(N_SHOTS, len(self.rows(self.format, "train")))


@cache
def training_questions() -> tuple[str, ...]:
    """All that are trained on or chosen by."""
    return tuple(_inputs(QUESTIONS / "train" / "pirate.jsonl"))


@cache
def like_questions() -> tuple[str, ...]:
    """Test questions of the same kind."""
    return tuple(_inputs(QUESTIONS / "test" / "pirate.jsonl"))


@cache
def frozen_target() -> FrozenTarget:
    """What is steered or prompted, and whose plain answers are rewritten."""
    model = load_target(embedded_model(), target_dtype(DEVICE), DEVICE)
    return FrozenTarget(model, Positions.DECODE, PrefixCache(_CACHE_BYTES))


@cache
def plain_answers(queries: tuple[str, ...], n_tokens: int) -> dict[str, str]:
    """The base model's own greedy answers."""
    file, target = TargetFile.open(embedded_model()), frozen_target()
    examples = [Example(0, query, "", file.prompts(query).tokens, ()) for query in queries]
    return dict(zip(queries, decoded(target, examples, None, n_tokens, file.vocabulary), strict=True))


@torch.no_grad()
def decoded(
    target: FrozenTarget,
    examples: Sequence[Example],
    vectors: torch.nn.Module | None,
    n_tokens: int,
    vocabulary: Vocabulary,
) -> list[str]:
    """Greedy answers under the vectors of a source, or of the base model."""
    written: list[list[int]] = []
    target = FrozenTarget(target.model, target.positions)  # rounding depends on what else is cached
    with target.temporary_cache():
        if DEVICE.type != "cuda":
            target.cache_prefixes(examples)
        for start in range(0, len(examples), _BATCH):
            batch = examples[start : start + _BATCH]
            steering = target.zeros(len(batch)) if vectors is None else vectors.eval()(batch)
            written += greedy_answers(target, batch, steering, [n_tokens] * len(batch), vocabulary.ends)
    return [answer_text(tokens, vocabulary).strip() for tokens in written]


def _inputs(path: Path) -> list[str]:
    return [str(line["input"]) for line in json_lines(path)]
