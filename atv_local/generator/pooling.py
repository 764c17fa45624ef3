"""How a generator makes one state of a query's. Imports nothing heavy, so that the command line can use it."""

from typing import Literal

Pooling = Literal["mean", "last", "cls", "mix"]
"""The mean of the hidden states, the last or first one, or 0.3 of the last and 0.7 of the mean."""
