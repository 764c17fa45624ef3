"""What `benchmarks.formats` compares: ways to have answers in a format, each with greedy answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from peft import LoraConfig, PrefixTuningConfig
from torch import nn

from atv_train import Example, TrainingSettings
from atv_train.vector_sources import VectorSource
from benchmarks.forced import Logits
from benchmarks.format_rows import FormatDraw, as_text, decoded, frozen_target
from benchmarks.format_rules import ANSWER_TOKENS, FORMATS, follows
from benchmarks.lora import DEVICE, Lora
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
        super().__init__(draw)
        self.format_draw = draw
        self.target = frozen_target()
        self.settings = TrainingSettings(epochs=EPOCHS, batch_size=BATCH_SIZE, contrastive=0.0, seed=draw.seed)

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
        config: Any = (
            PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=PREFIX_TOKENS)
            if method == "prefix"
            else LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
        )
        rows = self.draw.examples("train")

        def begin(rate: float) -> tuple[nn.Module, Logits, Iterable[Any], Lora]:
            lora = Lora(self.settings, rate=rate, config=config)
            if method == "prefix":
                self._begin_with_text(lora, rows, PREFIX_TOKENS)
            return lora.model, lora.answer_logits, lora.epochs(rows), lora

        _, facts, lora = self._best(method, begin, rows, told=False)
        return Way(lambda examples: self._generate(lora, examples), facts=facts)

    def _decode(self, examples: Sequence[Example], source: VectorSource | None = None) -> list[str]:
        return decoded(self.target, examples, source, ANSWER_TOKENS, self.draw.file.vocabulary)

    def _generate(self, lora: Lora, examples: Sequence[Example]) -> list[str]:
        vocabulary = self.draw.file.vocabulary
        ends = [token for token in range(vocabulary.n_tokens) if vocabulary.ends(token)]
        texts: list[str] = []
        for start in range(0, len(examples), _BATCH):
            prompts = [example.prompt for example in examples[start : start + _BATCH]]
            texts += [as_text(tokens, vocabulary) for tokens in lora.answers(prompts, ANSWER_TOKENS, ends)]
        return texts


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
