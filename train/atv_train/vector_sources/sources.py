"""Modules that give a batch of examples its task vectors: the generator, and the baselines it has to beat.

Each maps examples to float32 [batch, rows, n_embd], so one loop trains and measures all; there are n_layer-1 rows, or
twice as many with a prompt vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from atv_train.examples import Example
from atv_train.training_choices import Tuning
from atv_train.vector_sources.generator_module import GeneratorModule

QUERY_TEMPLATE = "{query}"
_PREPARED = 32


class VectorSource(nn.Module):
    """Base of all sources.

    `states` are the pooled states [batch, d_s] that the vectors of the last call were made from, where there are such.
    """

    states: Tensor | None = None

    @property
    def learns_states(self) -> bool:
        """Whether training changes what the vectors are made from."""
        return False

    def groups(self, rate: float, backbone_rate: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer, each with its learning rate."""
        del backbone_rate
        return [{"params": list(self.parameters()), "lr": rate}]

    def prepare(self, examples: Sequence[Example]) -> None:
        """Compute what training does not change."""


class AdaptiveVectors(VectorSource):
    """A vector for each query, from the generator. It reads the query alone, never the answer.

    Args:
        generator: backbone, pooling, expansion.
        tokenizer: the backbone's.
        max_tokens: longer queries are truncated.
        tuning: `full` trains the backbone, `lora` a low-rank change of it, `frozen` the expansion alone; pooled
            states of prepared queries are then cached.
    """

    def __init__(
        self,
        generator: GeneratorModule,
        tokenizer: PreTrainedTokenizerFast,
        max_tokens: int,
        tuning: Tuning = "full",
    ) -> None:
        super().__init__()
        self.generator, self.tokenizer, self.max_tokens, self.tuning = generator, tokenizer, max_tokens, tuning
        self._pooled: dict[str, Tensor] = {}
        if tuning == "frozen":
            generator.backbone.requires_grad_(False)
        if tuning == "lora":
            generator.backbone = _with_lora(generator.backbone)

    def forward(self, examples: Sequence[Example]) -> Tensor:
        """Task vectors of the examples' queries."""
        self.states = self.pooled([example.query for example in examples])
        return self.generator.expand(self.states)

    def pooled(self, queries: Sequence[str]) -> Tensor:
        """The states of queries: float32 [batch, d_s]."""
        if self._pooled and all(query in self._pooled for query in queries):
            return torch.stack([self._pooled[query] for query in queries])
        return self.generator.pooled(**self._encoded(queries))

    @property
    def learns_states(self) -> bool:
        """Whether the backbone is trained."""
        return self.tuning != "frozen"

    def train(self, mode: bool = True) -> AdaptiveVectors:
        """Set the mode as any module does; a frozen backbone stays without dropout."""
        super().train(mode)
        if self.tuning == "frozen":
            self.generator.backbone.eval()
        return self

    @torch.no_grad()
    def prepare(self, examples: Sequence[Example]) -> None:
        """With a frozen backbone, pool all queries once, in batches that do not depend on the order of training."""
        if self.tuning != "frozen":
            return
        self.generator.eval()
        order = sorted({example.query for example in examples}, key=lambda query: (len(query), query))
        for start in range(0, len(order), _PREPARED):
            batch = order[start : start + _PREPARED]
            pooled = self.generator.pooled(**self._encoded(batch))
            self._pooled |= {query: row.clone() for query, row in zip(batch, pooled, strict=True)}

    def groups(self, rate: float, backbone_rate: float) -> list[dict[str, Any]]:
        """The expansion learns at `rate`, the backbone at `backbone_rate`."""
        backbone = [p for p in self.generator.backbone.parameters() if p.requires_grad]
        groups = [{"params": list(self.generator.expansion.parameters()), "lr": rate}]
        return [*groups, {"params": backbone, "lr": backbone_rate}] if backbone else groups

    def merged(self) -> GeneratorModule:
        """The generator to save: with LoRA a copy, its low-rank change added to the weights."""
        if self.tuning != "lora":
            return self.generator
        generator = deepcopy(self.generator)
        generator.backbone = generator.backbone.merge_and_unload()  # type: ignore[operator]  # typed as a module
        return generator

    def _encoded(self, queries: Sequence[str]) -> dict[str, Tensor]:
        encoded = self.tokenizer(
            [QUERY_TEMPLATE.replace("{query}", query) for query in queries],
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(next(self.generator.parameters()).device)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


class StaticVectors(VectorSource):
    """One learned vector for each name, the same for every query: `names` are tasks, or one name for all of them.

    Rows outside `layers` (first and last, 1-based) stay zero.

    Args:
        names: one vector is learned for each.
        shape: (rows, n_embd) of a vector.
        layers: those to steer; None is all.
        n_vectors: 2 if the second half of the rows is a prompt vector.
    """

    used: Tensor

    def __init__(
        self, names: Sequence[str], shape: tuple[int, int], layers: tuple[int, int] | None = None, n_vectors: int = 1
    ) -> None:
        super().__init__()
        self.names = {name: index for index, name in enumerate(names)}
        self.vectors = nn.Parameter(torch.zeros(len(names), *shape))
        n_rows = shape[0] // n_vectors
        first, last = layers or (1, n_rows)
        used = torch.zeros(n_rows, 1)
        used[first - 1 : last] = 1
        self.register_buffer("used", used.repeat(n_vectors, 1), persistent=False)

    def forward(self, examples: Sequence[Example]) -> Tensor:
        """The vector of each example's task; of an unknown task, the mean of all."""
        vectors = self.vectors * self.used
        if len(self.names) == 1:
            return vectors.expand(len(examples), -1, -1)
        mean = vectors.mean(dim=0)
        rows = [vectors[self.names[e.task]] if e.task in self.names else mean for e in examples]
        return torch.stack(rows)


@torch.no_grad()
def averaged_vectors(source: VectorSource, examples: Sequence[Example], batch_size: int = 64) -> StaticVectors:
    """For each task the mean of `source`'s vectors over the examples."""
    source.eval()
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for start in range(0, len(examples), batch_size):
        batch = examples[start : start + batch_size]
        for example, vector in zip(batch, source(batch), strict=True):
            sums[example.task] = sums.get(example.task, torch.zeros_like(vector)) + vector
            counts[example.task] = counts.get(example.task, 0) + 1
    means = torch.stack([sums[task] / counts[task] for task in sorted(sums)])
    return _static(sorted(sums), means)


def random_vectors(like: StaticVectors, seed: int) -> StaticVectors:
    """Random directions with the norms of the rows of `like`."""
    noise = torch.randn(like.vectors.shape, generator=torch.Generator().manual_seed(seed))
    norms = like.vectors.detach().norm(dim=-1, keepdim=True).cpu()
    rows = noise / noise.norm(dim=-1, keepdim=True) * norms
    return _static(like.names, rows.to(like.vectors.device))


def _static(names: Iterable[str], rows: Tensor) -> StaticVectors:
    static = StaticVectors(list(names), (rows.shape[1], rows.shape[2])).to(rows.device)
    static.vectors.data.copy_(rows)
    return static


def _with_lora(backbone: PreTrainedModel, rank: int = 8) -> Any:
    from peft import LoraConfig, get_peft_model

    return get_peft_model(backbone, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear"))
