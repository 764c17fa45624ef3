"""Samples tokens from logits, with llama.cpp's own samplers."""

from __future__ import annotations

import ctypes
import hashlib
import secrets
import weakref
from dataclasses import dataclass, replace

import llama_cpp as lib
import numpy as np
from numpy.typing import NDArray

from atv_local.data import as_integer, as_number
from atv_local.errors import UsageError
from atv_local.target.answer_defaults import DEFAULT_TOP_K, DEFAULT_TOP_P
from atv_local.target.grammar import GrammarState
from atv_local.target.target import Target


@dataclass(frozen=True)
class Sampling:
    """How the tokens of an answer are drawn.

    Args:
        temperature: 0 is greedy, which ignores the rest; at most 100.
        top_p: draw from the most likely tokens that together have this probability; 1 keeps all tokens.
        top_k: draw from this many of the most likely tokens; 0 keeps all.
        seed: makes sampling repeatable; a random one by default.

    Raises:
        UsageError: a value of another type or out of range.
    """

    temperature: float = 0.0
    top_p: float = DEFAULT_TOP_P
    top_k: int = DEFAULT_TOP_K
    seed: int | None = None

    def __post_init__(self) -> None:
        numbers = {
            "temperature": as_number("temperature", self.temperature, 0, 100, note="0 is greedy"),
            "top_p": as_number("top_p", self.top_p, 0, 1, note="1 keeps all tokens"),
            "top_k": as_integer("top_k", self.top_k, 0, (1 << 31) - 1, note="0 keeps all tokens"),
            "seed": None if self.seed is None else as_integer("seed", self.seed, 0, (1 << 32) - 1),
        }
        if numbers["top_p"] == 0:
            raise UsageError("`top_p` 0 leaves no token to draw; 1 keeps all tokens")
        for name, number in numbers.items():
            object.__setattr__(self, name, number)

    def of_row(self, number: int) -> Sampling:
        """The same sampling for one of many rows, with a seed made of its number and this seed (0 if none)."""
        digest = hashlib.sha256(f"{self.seed or 0}:{number}".encode()).digest()
        return replace(self, seed=int.from_bytes(digest[:4], "big"))


_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""llama_token_data."""


class Sampler:
    """A chain of llama.cpp samplers: top-k, top-p, temperature, draw; or greedy.

    Under a grammar a token is drawn from all first, and only if that one is not allowed again from those that are: a
    model that knows what to write is then hardly slowed down.
    """

    def __init__(self, sampling: Sampling, grammar: GrammarState | None = None) -> None:
        self._grammar = grammar
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        self._close = weakref.finalize(self, lib.llama_sampler_free, self._chain)
        self._greedy = sampling.temperature == 0
        if self._greedy:
            parts = [lib.llama_sampler_init_greedy()]
        else:
            seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
            parts = [
                lib.llama_sampler_init_top_k(sampling.top_k),
                lib.llama_sampler_init_top_p(sampling.top_p, 1),
                lib.llama_sampler_init_temp(sampling.temperature),
                lib.llama_sampler_init_dist(seed),
            ]
        for part in parts:
            lib.llama_sampler_chain_add(self._chain, part)

    def __call__(self, target: Target) -> int:
        """Draw the next token from the logits of the target's last evaluation."""
        return self.pick(target.logits())

    def pick(self, logits: NDArray[np.float32]) -> int:
        """Draw it from logits [n_vocab].

        Raises:
            ModelError: no token is allowed by the grammar, or it needs too much work.
        """
        token = int(logits.argmax()) if self._greedy else self._draw(logits, None)
        if self._grammar is not None:
            if not self._grammar.allows(token):
                token = self._draw(logits, self._grammar.allowed())
            self._grammar.accept(token)
        return token

    def _draw(self, logits: NDArray[np.float32], tokens: NDArray[np.intp] | None) -> int:
        """Draw one of some tokens, or of all."""
        chosen = logits if tokens is None else logits[tokens]
        candidates = np.zeros(len(chosen), _CANDIDATE)
        candidates["id"] = np.arange(len(chosen)) if tokens is None else tokens
        candidates["logit"] = chosen
        data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(lib.llama_token_data))
        array = lib.llama_token_data_array(data, len(candidates), -1, False)
        lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def reset(self) -> None:
        """Start again with the same seed, at the beginning of the grammar."""
        lib.llama_sampler_reset(self._chain)
        if self._grammar is not None:
            self._grammar.reset()
