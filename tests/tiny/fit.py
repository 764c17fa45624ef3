"""Vectors under which the random target answers with a letter and stops, found without gradients of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from atv_local.target import Prompt, Target
from atv_local.vectors import TaskVector
from tests.tiny.rows import ANSWERS

Array = NDArray[np.float32]

_NUMBERS = ("", " 0", " 2", " 5", " 7")  # after the word, in the queries that are fitted
_MARGIN = 1.0  # in logits, from what the target is to say to the next best token


@dataclass(frozen=True)
class _Wanted:
    """A prompt and the two tokens that are to follow it: a letter, then the end."""

    prompt: Prompt
    answer: Sequence[int]

    def logits(self, target: Target, vector: Array) -> tuple[Array, Array]:
        """Those for the letter, and once it is said those for the end."""
        target.prefill(*self.prompt.segments)
        target.apply(TaskVector(vector))
        first = target.evaluate(self.prompt.tokens[-1:]).copy()
        return first, target.evaluate(self.answer[:1]).copy()


def fit(model: Path) -> Array:
    """A vector for each word in `ANSWERS` under which queries such as `word 7` get its letter.

    Returns:
        float32 [n_words, n_layer-1, n_embd]
    """
    target = Target(model, n_threads=1)
    prompts = target.prompts
    starts: dict[str, Array] = {}
    vectors = []
    for word, letter in ANSWERS.items():
        queries = [f"{word}{number}" for number in _NUMBERS]
        wanted = [_Wanted(prompts(query), prompts.answer(query, letter)) for query in queries]
        vector = starts[letter].copy() if letter in starts else _separate(target, wanted[0])
        _settle(target, vector, wanted)
        starts[letter] = vector
        vectors.append(vector)
    target.close()
    return np.stack(vectors)


def _separate(target: Target, wanted: _Wanted) -> Array:
    """Rows for all layers but the last under which the letter, once said, gives way to the end.

    The last row moves the logits of both tokens by the same amount before and after the letter, so it cannot do that.
    Gradient ascent in a few large steps, by finite differences.
    """
    letter, end = wanted.answer
    vector = np.zeros((target.n_rows, target.n_embd), np.float32)

    def change() -> float:
        before, after = wanted.logits(target, vector)
        return float((before[letter] - before[end]) - (after[letter] - after[end]))

    for _ in range(6):
        slope, now = np.zeros_like(vector), change()
        for place in np.ndindex(target.n_rows - 1, target.n_embd):
            vector[place] += 0.1
            slope[place] = change() - now
            vector[place] -= 0.1
        vector += 1.5 * slope / np.linalg.norm(slope)
    return vector


def _settle(target: Target, vector: Array, wanted: Sequence[_Wanted]) -> None:
    """Change the last row, in place, as a perceptron learns: towards what is wanted, away from what comes too near."""
    output = {tensor.name: tensor.data for tensor in gguf.GGUFReader(target.model.path).tensors}["output.weight"]
    for _ in range(100):
        settled = True
        for each in wanted:
            for logits, token in zip(each.logits(target, vector), each.answer, strict=True):
                logits[token] -= _MARGIN
                nearest = int(logits.argmax())
                if nearest != token:
                    vector[-1] += 0.2 * (output[token] - output[nearest])
                    settled = False
        if settled:
            return
    raise AssertionError(
        "no vector makes the tiny target say a letter and stop; try another seed in tests/tiny/target.py"
    )
