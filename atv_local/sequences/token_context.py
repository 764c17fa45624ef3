"""The context that the scheduler uses: sequences of tokens, each token under a vector of its own or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from atv_local.vectors import TaskVector


class Token(NamedTuple):
    """One token to evaluate: its place, the vector that steers it, and whether its logits are wanted."""

    token: int
    position: int
    sequence: int
    vector: TaskVector | None = None
    output: bool = False


Reader = Callable[[int, int], None]
"""Takes the index of a token and the row of its logits in the context, which is valid until it returns."""


class TokenContext(Protocol):
    """Cells of KV that sequences share. `SequenceContext` is the one in llama.cpp."""

    @property
    def n_sequences(self) -> int:
        """Sequences, numbered from 0."""

    @property
    def n_ctx(self) -> int:
        """Tokens of all sequences together; one that several sequences share counts once."""

    @property
    def max_batch(self) -> int:
        """Most tokens of one `decode`."""

    def decode(self, tokens: Sequence[Token], read: Reader) -> None:
        """Evaluate tokens, those of one sequence in order; `read` is called for each that wants its logits.

        Raises:
            ModelError: the tokens cannot be evaluated, or their logits are not finite. All sequences are empty then.
        """

    def logits(self, row: int) -> NDArray[np.float32]:
        """Logits float32 [n_vocab] in a row that `decode` gives to its reader."""

    def share(self, source: int, destination: int) -> None:
        """Let an empty sequence begin with all tokens of another one, without evaluating them again."""

    def drop(self, sequence: int) -> None:
        """Empty a sequence; tokens that others share stay with them."""

    def reset(self) -> None:
        """Empty all sequences."""
