"""Samples tokens from logits, with llama.cpp's own samplers."""

from __future__ import annotations

import ctypes
import hashlib
import secrets
import weakref
from dataclasses import dataclass, replace
from typing import Any

import llama_cpp as lib
import numpy as np

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
        if sampling.temperature == 0:
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
        with target.using() as handle:
            return self.pick(handle, -1)

    def pick(self, context: Any, row: int) -> int:
        """Draw it from one row of a context's logits.

        Raises:
            ModelError: no token is allowed by the grammar, or it needs too much work.
        """
        token = int(lib.llama_sampler_sample(self._chain, context, row))
        if self._grammar is not None:
            if not self._grammar.allows(token):
                token = self._pick_allowed(self._grammar, lib.llama_get_logits_ith(context, row))
            self._grammar.accept(token)
        return token

    def _pick_allowed(self, grammar: GrammarState, logits: Any) -> int:
        tokens = grammar.allowed()
        candidates = np.zeros(len(tokens), _CANDIDATE)
        candidates["id"] = tokens
        candidates["logit"] = np.ctypeslib.as_array(logits, (int(tokens[-1]) + 1,))[tokens]
        data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(lib.llama_token_data))
        array = lib.llama_token_data_array(data, len(candidates), -1, False)
        lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)

    def reset(self) -> None:
        """Start again with the same seed, at the beginning of the grammar."""
        lib.llama_sampler_reset(self._chain)
        if self._grammar is not None:
            self._grammar.reset()
