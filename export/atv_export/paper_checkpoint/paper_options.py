"""How a checkpoint of the paper's authors was trained, which its file does not say."""

from __future__ import annotations

from dataclasses import dataclass

from atv_export.export_choices import Layer0Method, PaperPooling
from atv_local.vectors import Positions


@dataclass(frozen=True)
class PaperOptions:
    """Defaults are those of the paper.

    Args:
        backbone: folder or hub id with the tokenizer, and with the config if it is not a GPT-2.
        layer0: how to handle layer 0; by default the most exact way.
    """

    backbone: str = "gpt2"
    positions: Positions = Positions.ALL
    pooling: PaperPooling = "last"
    layer0: Layer0Method | None = None
