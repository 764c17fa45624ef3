"""Real answers to a sample of the validation rows, beside the wanted ones."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import fmean

import torch
from accelerate.utils import gather_object
from sacrebleu.metrics.chrf import CHRF

from atv_local.target import Vocabulary
from atv_train.examples import Example
from atv_train.frozen_target import FrozenTarget, greedy_answers
from atv_train.trainer.trainer_state import TrainingMetrics
from atv_train.training_choices import EpochMeasure
from atv_train.vector_sources import VectorSource

LEAST_ROWS, MAX_ROWS = 8, 32
"""Rows of text tasks in a sample."""
LEAST_TOKENS, MAX_TOKENS = 24, 64
"""Tokens of an answer, and of the wanted one, that are compared."""
LEAST_UNSEEN = 5
"""Told tasks that only validation has, from which on they alone decide which epoch is the best."""
N_SHOWN = 3
"""The first answers of a sample, for people to read; of as many tasks as possible."""
_ROOM = 8
"""Tokens that an answer may have beyond the wanted one: enough to see that it does not stop."""


@dataclass(frozen=True)
class SampleAnswer:
    """The greedy answer to a validation row; long texts are cut. `references` are further right answers."""

    task: str
    query: str
    wanted: str
    answer: str
    references: tuple[str, ...] = ()


def sample_size(train: Iterable[Example]) -> tuple[int, int]:
    """Rows to answer and tokens of each, so that this is a small part of an epoch over `train`.

    Decoding a token takes about as long as training on two, and a step of decoding hardly less for few rows than for
    many, so that few answer tokens in an epoch leave room for few steps.
    """
    trained = sum(len(example.answer) for example in train)
    tokens = min(MAX_TOKENS, max(LEAST_TOKENS, trained // 250))
    return min(MAX_ROWS, max(LEAST_ROWS, trained // 20 // tokens)), tokens


class AnswerSampler:
    """Answers the same rows after every epoch. Nothing is drawn while it does, so training is not changed.

    Args:
        valid: validation rows to choose from.
        text_tasks: tasks whose outputs are texts. Their rows fill the sample; of other tasks it has rows to show only.
        vocabulary: the target's.
        seed: chooses the rows.
        max_rows: rows of text tasks to answer.
        max_tokens: answers, and the wanted ones, are cut after so many tokens.
        unseen_tasks: tasks that are told by an instruction and not trained on.
    """

    def __init__(
        self,
        valid: Sequence[Example],
        text_tasks: Collection[str],
        vocabulary: Vocabulary,
        seed: int = 0,
        max_rows: int = MAX_ROWS,
        max_tokens: int = MAX_TOKENS,
        unseen_tasks: Collection[str] = (),
    ) -> None:
        self.text_tasks = frozenset(text_tasks)
        self.unseen_tasks = frozenset(unseen_tasks if len(unseen_tasks) >= LEAST_UNSEEN else ())
        """Those, if there are enough to decide which epoch is the best."""
        self.examples = _sample(valid, self.text_tasks, seed, max_rows)
        self._vocabulary, self._max_tokens = vocabulary, max_tokens

    @property
    def measure(self) -> EpochMeasure:
        """Decides which epoch is the best. If a task is text it is the loss, which all kinds of tasks have."""
        if self.unseen_tasks:
            return "valid_unseen_loss"
        return "valid_loss" if self.text_tasks else "valid_accuracy"

    @torch.no_grad()
    def __call__(self, source: VectorSource, target: FrozenTarget, rank: int = 0, world: int = 1) -> list[SampleAnswer]:
        """Answer all rows, of which each of `world` processes decodes a share, in one batch."""
        source.eval()
        share = list(enumerate(self.examples))[rank::world]
        answered: list[tuple[int, SampleAnswer]] = []
        if share:
            examples = [example for _, example in share]
            limits = [min(self._max_tokens, len(example.answer) + _ROOM) for example in examples]
            answers = greedy_answers(target, examples, source(examples), limits, self._ends)
            for (index, example), answer in zip(share, answers, strict=True):
                texts = [self._vocabulary.tokenize(text, special=False) for text in example.references]
                wanted, *references = dict.fromkeys(map(self._text, [example.answer, *texts]))
                sample = SampleAnswer(example.task, example.query, wanted, self._text(answer), tuple(references))
                answered.append((index, sample))
        return [answer for _, answer in sorted(gather_object(answered), key=lambda pair: pair[0])]

    def metrics(self, answers: Iterable[SampleAnswer]) -> TrainingMetrics:
        """Of text tasks: `chrf` (0 to 100), the mean of answers and then of tasks, and `exact`, the share of answers
        that are exactly right; both by task too. An `exact` of zero is left out, since free text has more than one
        right answer."""
        tasks: dict[str, list[SampleAnswer]] = defaultdict(list)
        for answer in answers:
            if answer.task in self.text_tasks:
                tasks[answer.task].append(answer)
        chrf = {task: _chrf(rows) for task, rows in sorted(tasks.items())}
        exact = {task: _n_exact(rows) / len(rows) for task, rows in sorted(tasks.items()) if _n_exact(rows)}
        metrics: TrainingMetrics = {}
        for name, values in (("chrf", chrf), ("exact", exact)):
            if values:
                metrics[name] = sum(values.values()) / len(tasks)
                metrics |= {f"{name}/{task}": value for task, value in values.items()}
        return metrics

    def _ends(self, token: int) -> bool:
        return token >= self._vocabulary.n_tokens or self._vocabulary.ends(token)  # some models pad their vocabulary

    def _text(self, tokens: Sequence[int]) -> str:
        tokens = [token for token in tokens[: self._max_tokens] if not self._ends(token)]
        return self._vocabulary.text(tokens).strip()


def _chrf(rows: Sequence[SampleAnswer]) -> float:
    metric = CHRF()
    return fmean(metric.sentence_score(row.answer, [row.wanted, *row.references]).score for row in rows)


def _n_exact(rows: Sequence[SampleAnswer]) -> int:
    return sum(row.answer in (row.wanted, *row.references) for row in rows)


def _sample(valid: Sequence[Example], text_tasks: Collection[str], seed: int, max_rows: int) -> list[Example]:
    """Rows to show, of all tasks in turn with text first; then more rows of text tasks."""
    tasks: dict[str, list[Example]] = defaultdict(list)
    for example in valid:
        tasks[example.task].append(example)
    for task, examples in tasks.items():
        random.Random(f"{seed}/samples/{task}").shuffle(examples)
    order = sorted(tasks, key=lambda task: (task not in text_tasks, task))
    shown = islice(_in_turn([tasks[task] for task in order]), N_SHOWN)
    text = islice(_in_turn([tasks[task] for task in order if task in text_tasks]), max_rows)
    return list(dict.fromkeys([*shown, *text]))


def _in_turn(lists: Sequence[Sequence[Example]]) -> Iterator[Example]:
    """The first of each list, then the second, and so on."""
    for n in range(max(map(len, lists), default=0)):
        yield from (rows[n] for rows in lists if n < len(rows))
