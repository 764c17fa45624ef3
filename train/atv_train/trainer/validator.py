"""Measures a source of vectors after an epoch: loss, accuracy, answers to a sample, change of unrelated answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from atv_train.examples import Example
from atv_train.frozen_target import FrozenTarget
from atv_train.trainer.answer_sampler import AnswerSampler, SampleAnswer
from atv_train.trainer.losses import mean_kl
from atv_train.trainer.trainer_state import TrainingMetrics
from atv_train.vector_sources import VectorSource


class Validator:
    """Measures `source` on rows that it is not trained on.

    Args:
        source: what gives task vectors.
        target: the frozen target they steer.
        batch_size: rows at a time.
        sampler: answers a sample of the validation rows, and knows which tasks are text. Without it all tasks are
            taken for labels.
    """

    def __init__(
        self,
        source: VectorSource,
        target: FrozenTarget,
        batch_size: int,
        accelerator: Accelerator,
        sampler: AnswerSampler | None = None,
    ) -> None:
        self.source, self.target, self.batch_size, self.accelerator = source, target, batch_size, accelerator
        self.sampler = sampler
        self.samples: list[SampleAnswer] = []
        """Answers of the last call."""

    @property
    def text_tasks(self) -> frozenset[str]:
        """Tasks whose outputs are texts."""
        return self.sampler.text_tasks if self.sampler else frozenset()

    @property
    def unseen_tasks(self) -> frozenset[str]:
        """Tasks that only validation has, if they decide which epoch is the best."""
        return self.sampler.unseen_tasks if self.sampler else frozenset()

    def __call__(self, valid: Sequence[Example], unrelated: Sequence[Example] = ()) -> TrainingMetrics:
        """`valid_*` as `evaluate` and the sampler measure them, and `unrelated_*`."""
        metrics = self.evaluate(valid)
        if self.sampler and valid:
            rank, world = self.accelerator.process_index, self.accelerator.num_processes
            self.samples = self.sampler(self.source, self.target, rank, world)
            metrics |= self.sampler.metrics(self.samples)
        overall_first = sorted(metrics.items(), key=lambda item: "/" in item[0])
        return {f"valid_{name}": value for name, value in overall_first} | self.harm(unrelated)

    @torch.no_grad()
    def count_right(self, examples: Sequence[Example]) -> int:
        """How many are answered exactly; see `evaluate`."""
        right: list[bool] = []
        for batch, vectors in self._in_batches(examples):
            logits, labels = self.target.answer_logits(batch, vectors)
            hits = (logits.argmax(dim=-1) == labels).split([len(example.answer) for example in batch])
            right += [bool(hit.all()) for hit in hits]
        return sum(gather_object(right))

    @torch.no_grad()
    def evaluate(self, examples: Sequence[Example]) -> TrainingMetrics:
        """`loss` per answer token, the mean over tasks, and by task for those with text; of tasks with labels
        `accuracy`, the share of rows whose greedy answer is exactly right, the mean over tasks and by task; and
        `unseen_loss`, the mean over tasks that only validation has, where they decide which epoch is the best.

        Teacher-forced: all answer tokens are the argmax exactly when greedy decoding writes that answer and stops.
        """
        if not examples:
            return {}
        results: list[tuple[str, bool, float, int]] = []
        for batch, vectors in self._in_batches(examples):
            logits, labels = self.target.answer_logits(batch, vectors)
            sizes = [len(example.answer) for example in batch]
            hits = (logits.argmax(dim=-1) == labels).split(sizes)
            losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none").split(sizes)
            for example, hit, loss in zip(batch, hits, losses, strict=True):
                results.append((example.task, bool(hit.all()), float(loss.sum()), len(loss)))
        tasks: dict[str, list[tuple[bool, float, int]]] = defaultdict(list)
        for task, right, summed, count in sorted(gather_object(results), key=lambda result: result[0]):
            tasks[task].append((right, summed, count))
        by_task = {task: sum(loss for _, loss, _ in rows) / sum(n for *_, n in rows) for task, rows in tasks.items()}
        labels_only = {task: rows for task, rows in tasks.items() if task not in self.text_tasks}
        accuracy = {task: sum(right for right, *_ in rows) / len(rows) for task, rows in labels_only.items()}
        metrics = {"accuracy": _mean(accuracy)} if accuracy else {}
        metrics["loss"] = _mean(by_task)
        if unseen := {task: loss for task, loss in by_task.items() if task in self.unseen_tasks}:
            metrics["unseen_loss"] = _mean(unseen)
        metrics |= {f"accuracy/{task}": value for task, value in accuracy.items()}
        return metrics | {f"loss/{task}": value for task, value in by_task.items() if task in self.text_tasks}

    @torch.no_grad()
    def harm(self, examples: Sequence[Example]) -> TrainingMetrics:
        """The change that steering makes to answers outside the tasks: `unrelated_kl`, KL(base || steered) in nats per
        token, and `unrelated_agreement`, the share of tokens whose most likely successor is the same."""
        if not examples:
            return {}
        results: list[tuple[float, float, int]] = []
        for batch, vectors in self._in_batches(examples):
            base, _ = self.target.answer_logits(batch, self.target.zeros(len(batch)))
            steered, _ = self.target.answer_logits(batch, vectors)
            same = (base.argmax(dim=-1) == steered.argmax(dim=-1)).sum()
            results.append((float(mean_kl(base, steered)) * len(base), float(same), len(base)))
        divergences, same_tokens, counts = zip(*gather_object(results), strict=True)
        return {
            "unrelated_kl": sum(divergences) / sum(counts),
            "unrelated_agreement": sum(same_tokens) / sum(counts),
        }

    def _in_batches(self, examples: Sequence[Example]) -> Iterator[tuple[list[Example], Tensor]]:
        """This process's share, by length, with vectors as they are used after training."""
        self.source.eval()
        order = sorted(examples, key=lambda e: (len(e.answer), len(e.prompt), e.index))
        mine = order[self.accelerator.process_index :: self.accelerator.num_processes]
        for start in range(0, len(mine), self.batch_size):
            batch = mine[start : start + self.batch_size]
            yield batch, self.source(batch)


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)
