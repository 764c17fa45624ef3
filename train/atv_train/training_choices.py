"""What is one of a few words in training. Imports nothing heavy, so that the command line can use them."""

from typing import Literal

Tuning = Literal["full", "lora", "frozen"]
"""Train all of the backbone, a low-rank change of it, or none of it."""
TargetDtype = Literal["auto", "float32", "bfloat16"]
"""What the target is computed in; `auto` is bfloat16 where the hardware multiplies it, else float32."""
EpochMeasure = Literal["valid_accuracy", "valid_loss", "valid_unseen_loss"]
"""The metric that decides which epoch is the best: accuracy, then loss; loss alone where outputs are texts; or that of
tasks with an instruction that are not trained on, where validation rows have enough of them."""
