"""The variants of `benchmarks.study`, and the sources of vectors that are made for it alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from atv_local.vectors import Positions
from atv_train import Example, pad
from atv_train.frozen_target import FrozenTarget
from atv_train.vector_sources import VectorSource, expansion

CPU = torch.device("cpu")


class States(VectorSource):
    """Reads the target's own final hidden states instead of a second model: last prompt token before the steered one,
    and the mean over the prompt."""

    def __init__(self, target: FrozenTarget) -> None:
        super().__init__()
        self._model: list[Any] = [target.model]  # in a list, so that it is no part of this module
        self._shape = (target.n_rows, target.n_embd)
        self.norm = nn.LayerNorm(2 * target.n_embd)
        self.expansion = expansion(2 * target.n_embd, target.n_rows * target.n_embd, None)
        self._seen: dict[tuple[int, ...], Tensor] = {}

    @torch.no_grad()
    def prepare(self, examples: Any) -> None:
        """Read each prompt once: the states are frozen."""
        prefixes = sorted({example.prompt[:-1] for example in examples}, key=len)
        for start in range(0, len(prefixes), 32):
            batch = prefixes[start : start + 32]
            states = self._model[0].model(input_ids=pad(batch, 0, self._model[0].device)).last_hidden_state.float()
            for prefix, row in zip(batch, states, strict=True):
                self._seen[prefix] = torch.cat([row[len(prefix) - 1], row[: len(prefix)].mean(dim=0)])

    def forward(self, examples: list[Example]) -> Tensor:
        """Vectors from the states that were read."""
        states = torch.stack([self._seen[example.prompt[:-1]] for example in examples])
        return self.expansion(self.norm(states)).unflatten(-1, self._shape)


class Scaled(VectorSource):
    """Another source's vectors, times a strength."""

    def __init__(self, source: VectorSource, strength: float) -> None:
        super().__init__()
        self.source, self.strength = source, strength

    def forward(self, examples: list[Example]) -> Tensor:
        """The vectors."""
        return self.source(examples) * self.strength


class StrengthByLayer(nn.Module):
    """An expansion of which the query chooses little for each layer.

    Args:
        d_in: width of the pooled state.
        direction: `query`, one vector that the query chooses, the same for all layers; or `learned`, one for each
            layer, the same for all queries. Times a strength for each layer that the query chooses.
    """

    def __init__(self, d_in: int, n_rows: int, n_embd: int, direction: str) -> None:
        super().__init__()
        self.strength = nn.Linear(d_in, n_rows)
        nn.init.zeros_(self.strength.weight)
        nn.init.ones_(self.strength.bias)
        self.by_query = direction == "query"
        linear: Any = expansion(d_in, n_embd, None)
        self.direction = linear if self.by_query else nn.Embedding(n_rows, n_embd)
        nn.init.zeros_(self.direction.weight)  # answers begin as the base model's

    def forward(self, pooled: Tensor) -> Tensor:
        """float32 [batch, d_in] -> float32 [batch, n_rows * n_embd]."""
        directions = self.direction(pooled).unsqueeze(1) if self.by_query else self.direction.weight
        return (self.strength(pooled).unsqueeze(-1) * directions).flatten(1)


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    what: str
    changes: dict[str, Any]
    settings: dict[str, Any]
    positions: Positions = Positions.DECODE
    direction: str = ""
    """Of a `StrengthByLayer` in place of the linear map."""

    @property
    def n_vectors(self) -> int:
        """For each query."""
        return int(self.changes.get("n_vectors", 1))


VARIANTS: dict[str, Variant] = {
    "default": Variant("default: decode, mean pooling, full tuning, one linear map, all layers", {}, {}),
    "last": Variant("positions last", {}, {}, Positions.LAST),
    "slower": Variant("the expansion's learning rate a quarter", {}, {"learning_rate": 5e-4}),
    "faster": Variant("both learning rates doubled", {}, {"learning_rate": 4e-3, "backbone_learning_rate": 2e-4}),
    "frozen": Variant("backbone frozen", {"tuning": "frozen"}, {}),
    "lora": Variant("LoRA on the backbone, r=8", {"tuning": "lora"}, {"backbone_learning_rate": 1e-3}),
    "scratch": Variant("backbone from random weights", {"scratch": True}, {}),
    "pool-last": Variant("pooling last", {"pooling": "last"}, {}),
    "pool-cls": Variant("pooling cls", {"pooling": "cls"}, {}),
    "pool-mix": Variant("pooling mix: 0.3 last, 0.7 mean", {"pooling": "mix"}, {}),
    "rank64": Variant("expansion through a bottleneck of 64", {"rank": 64}, {}),
    "lower": Variant("layers 1-15", {"layers": (1, 15)}, {}),
    "upper": Variant("layers 15-29", {"layers": (15, 29)}, {}),
    "strengths": Variant("strength drawn from 0.5 to 2", {}, {"strength_range": (0.5, 2.0)}),
    "harmless": Variant("do-no-harm, weight 1", {}, {"harmless": 1.0}),
    "both": Variant("both: drawn strength and do-no-harm", {}, {"strength_range": (0.5, 2.0), "harmless": 1.0}),
    "contrastive": Variant("contrastive term, weight 0.1", {}, {"contrastive": 0.1}),
    "all": Variant("positions all", {}, {}, Positions.ALL),
    "two": Variant("two vectors: one for the prompt, one for the answer", {"n_vectors": 2}, {}, Positions.ALL),
    "shared": Variant("one vector for all layers, a strength for each", {}, {}, direction="query"),
    "dials": Variant("a learned vector for all queries, a strength for each layer", {}, {}, direction="learned"),
}
FOR_TEXTS = ("static", "per-task", "default", "last", "rank64", "shared", "dials", "upper", "frozen", "all", "two")
"""What is tried on texts too; `averaged` and `random` come with `default`."""
