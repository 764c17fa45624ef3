"""What `benchmarks.formats` compares: ways to have answers in a format, each with greedy answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from atv_train import Example
from atv_train.vector_sources import VectorSource
from benchmarks.answer_text import answer_text
from benchmarks.format_rows import FormatDraw, decoded, frozen_target
from benchmarks.format_rules import ANSWER_TOKENS, FORMATS, follows
from benchmarks.lora import DEVICE
from benchmarks.rival_methods import Methods

EPOCHS, BATCH_SIZE, RANK, PREFIX_TOKENS = 5, 8, 8, 16
_BATCH = 64 if DEVICE.type == "cuda" else 16


@dataclass(frozen=True)
class Way:
    """How a method answers.

    Args:
        answers: greedy ones to prompts.
        shots: demonstrations in its prompts.
        wording: number of the instruction in its prompts.
        facts: about its training, for its record.
    """

    answers: Callable[[Sequence[Example]], list[str]]
    shots: int = 0
    wording: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class FormatMethods(Methods):
    """Ways to answer in the format of one draw, each with a training of its own: no query says which is wanted."""

    def __init__(self, draw: FormatDraw) -> None:
        super().__init__(draw, EPOCHS, BATCH_SIZE)
        self.format_draw = draw
        self.target = frozen_target()

    def way(self, method: str) -> Way:
        """Train it, if it learns."""
        return METHODS[method](self)

    def base(self) -> Way:
        """The query alone."""
        return Way(self._decode)

    def instructed(self) -> Way:
        """The wording of the instruction that most answers to validation questions follow."""
        draw = self.format_draw
        counts = []
        for wording in range(len(FORMATS[draw.format].instructions)):
            texts = self._decode(draw.prompts(draw.questions("valid"), wording=wording))
            counts.append(sum(follows(draw.format, text) for text in texts))
        return Way(self._decode, wording=counts.index(max(counts)), facts={"valid_follows": counts})

    def shown(self) -> Way:
        """Demonstrations without an instruction."""
        return Way(self._decode, shots=self.format_draw.shots)

    def steered(self, method: str) -> Way:
        """One learned vector, or those of the generator."""
        found = self.static("static") if method == "static" else self.adaptive()
        way = found[method]
        source = way.source
        assert source is not None
        return Way(lambda examples: self._decode(examples, source), facts=way.facts)

    def adapted(self, method: str) -> Way:
        """LoRA or prefix tuning of the target itself."""
        found = self.tuned(method, size=PREFIX_TOKENS if method == "prefix" else RANK)[method]
        decode = found.answers
        assert decode is not None
        vocabulary = self.draw.file.vocabulary

        def answers(examples: Sequence[Example]) -> list[str]:
            batches = [examples[start : start + _BATCH] for start in range(0, len(examples), _BATCH)]
            return [
                answer_text(tokens, vocabulary).strip() for batch in batches for tokens in decode(batch, ANSWER_TOKENS)
            ]

        return Way(answers, facts=found.facts)

    def _decode(self, examples: Sequence[Example], source: VectorSource | None = None) -> list[str]:
        return decoded(self.target, examples, source, ANSWER_TOKENS, self.draw.file.vocabulary)


METHODS: dict[str, Callable[[FormatMethods], Way]] = {
    "none": lambda methods: methods.base(),
    "instruction": lambda methods: methods.instructed(),
    "16-shot": lambda methods: methods.shown(),
    "static": lambda methods: methods.steered("static"),
    "atv": lambda methods: methods.steered("atv"),
    "lora": lambda methods: methods.adapted("lora"),
    "prefix": lambda methods: methods.adapted("prefix"),
}
"""By name, as they are trained and measured."""
