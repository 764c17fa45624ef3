"""What a thread asks of a shared context."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from atv_local.errors import AtvError
from atv_local.vectors import TaskVector


@dataclass(eq=False)
class Wanted:
    """Tokens that a thread waits for."""

    sequence: int
    keep: int
    """How many of the sequence's earlier tokens stay."""
    tokens: Sequence[int]
    position: int
    vector: TaskVector | None
    every: bool
    """Whether the logits after all tokens are wanted, or those after the last."""
    state: bytes | None = None
    """What the sequence begins with, in place of what it has."""
    beginning: tuple[int, ...] = ()
    """What the sequence has so far, if that is worth keeping."""
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    error: AtvError | None = None
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def builds_on(self) -> bool:
        """Whether it needs what the sequence has."""
        return self.keep > 0 and self.state is None

    def end(self, error: AtvError | None) -> None:
        """Let the thread go on, or raise an error in it."""
        self.error = error
        self.done.set()
