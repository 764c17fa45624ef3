"""Options of an export that are one of a few words. Imports nothing heavy, so that the command line can use them."""

from typing import Literal

Processor = Literal["any", "avx2", "avx512_vnni", "arm64"]
"""What an int8 graph is quantised for."""
PaperPooling = Literal["last", "mean", "mix"]
"""How a checkpoint of the paper's authors makes one state of a query's."""
Layer0Method = Literal["drop", "add", "carry"]
"""How to handle layer 0 of such a checkpoint: see `paper_checkpoint/layer0.py`."""
