"""How a checkpoint of the paper's authors was trained, which its file does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from atv_local.vectors import Positions
from atv_train.vector_sources import Pooling

Layer0Method = Literal["drop", "add", "carry"]


@dataclass(frozen=True)
class PaperOptions:
    """Defaults are those of the paper.

    Args:
        backbone: folder or hub id with the tokenizer, and with the config if it is not a GPT-2.
        layer0: how to handle layer 0; by default the most exact way.
    """

    backbone: str = "gpt2"
    positions: Positions = Positions.ALL
    pooling: Pooling = "last"
    layer0: Layer0Method | None = None
