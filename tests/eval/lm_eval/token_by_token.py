"""Requests of lm-evaluation-harness, and the tiny target's own answers to them, computed token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance

from atv_local.answer.engine import Engine
from atv_local.vectors.task_vector import TaskVector


def asked(kind: str, *requests: tuple[Any, ...]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=request, idx=0) for request in requests]


def tokens_of(engine: Engine, text: str) -> list[int]:
    return engine.target.vocabulary.tokenize(text, special=True)


def scored(
    engine: Engine, context: Sequence[int], option: Sequence[int], vector: TaskVector | None
) -> tuple[float, bool]:
    """The target's own log-probability of an option, and whether it is greedy; `decode` if steered."""
    target = engine.target
    target.reset()
    target.prefill(context[:-1])
    if vector is not None:
        target.apply(engine.steering.apply(vector))
    total, greedy = 0.0, True
    for before, token in zip((context[-1], *option), option, strict=False):
        logits = np.float64(target.evaluate([before]))
        total += logits[token] - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        greedy = greedy and token == logits.argmax()
    target.reset()
    return total, greedy


def scored_pair(engine: Engine, context: str, continuation: str) -> tuple[float, bool]:
    if not context:
        return scored(
            engine, [1], engine.target.vocabulary.tokenize(continuation, special=True, bos=False), None
        )  # <s>
    whole, before = tokens_of(engine, context + continuation), tokens_of(engine, context)
    return scored(engine, before, whole[len(before) :], engine.vector(context))


def written(engine: Engine, context: str, max_tokens: int, strength: float = 1.0) -> str:
    """The target's own greedy text."""
    target = engine.target
    target.reset()
    *before, token = tokens_of(engine, context)
    target.prefill(before)
    target.apply(engine.steering.apply(strength * engine.vector(context)))
    pieces = b""
    for _ in range(max_tokens):
        token = int(target.evaluate([token]).argmax())
        if target.vocabulary.ends(token):
            break
        pieces += target.vocabulary.piece(token)
    target.reset()
    return pieces.decode("utf-8", "replace")
