"""One peft LoRA for all tasks of another benchmark: trained on their rows, and its greedy answers in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

from atv_local.data import Row
from atv_local.names import embedded_model
from atv_local.target import TargetFile
from atv_train import TrainingSettings, encode
from benchmarks.answer_text import answer_text, end_tokens
from benchmarks.lora import DEVICE, Lora

RATE = 3e-3
"""Learning rate; of 1e-3 and 3e-3 the better one on validation rows."""
_BATCH = 96 if DEVICE.type == "cuda" else 16


class LoraAnswers:
    """A LoRA that is trained when it is made.

    Args:
        rows: of all tasks.
        epochs: passes over them.
        seed: of their order and the first weights.
    """

    def __init__(self, rows: Sequence[Row], epochs: int, seed: int = 0) -> None:
        self._file = TargetFile.open(embedded_model())
        self._lora = Lora(TrainingSettings(epochs=epochs, seed=seed), rate=RATE)
        for _ in self._lora.epochs(encode(rows, self._file.prompts, 1024).rows):
            pass

    def __call__(self, queries: Sequence[str], max_tokens: int) -> list[str]:
        """Greedy answers to queries."""
        return self._answers(queries, max_tokens)

    def base(self, queries: Sequence[str], max_tokens: int) -> list[str]:
        """The answers of the same model without the LoRA."""
        with self._lora.model.disable_adapter():
            return self._answers(queries, max_tokens)

    def _answers(self, queries: Sequence[str], max_tokens: int) -> list[str]:
        vocabulary, prompts = self._file.vocabulary, self._file.prompts
        ends = end_tokens(vocabulary)
        texts: list[str] = []
        for start in range(0, len(queries), _BATCH):
            batch = [prompts(query).tokens for query in queries[start : start + _BATCH]]
            texts += [answer_text(answer, vocabulary) for answer in self._lora.answers(batch, max_tokens, ends)]
        return texts
