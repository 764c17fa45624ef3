"""Options of training that are one of a few words. Imports nothing heavy, so that the command line can use them."""

from typing import Literal

Tuning = Literal["full", "lora", "frozen"]
"""Train all of the backbone, a low-rank change of it, or none of it."""
TargetDtype = Literal["auto", "float32", "bfloat16"]
"""What the target is computed in; `auto` is bfloat16 where the hardware multiplies it, else float32."""
