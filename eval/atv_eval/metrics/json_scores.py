"""Scores of an answer that should be JSON, from 0 to 1; the best reference counts."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from atv_eval.metrics.text_scores import text_exact

_UNREADABLE = (ValueError, RecursionError)  # the latter of thousands of brackets
_DECODER = json.JSONDecoder()


def is_json_container(text: str) -> bool:
    """Whether a text is a JSON object or array."""
    try:
        return isinstance(json.loads(text), dict | list)
    except _UNREADABLE:
        return False


def json_valid(answer: str) -> float:
    """1 if the whole answer is a JSON object or array, with nothing around it."""
    return float(is_json_container(answer))


def json_exact(answer: str, references: Sequence[str]) -> float:
    """1 if the first object or array in the answer has the value of a reference; the order of keys does not matter.

    A reference without any must be the answer to the letter.
    """
    found = _first(answer)
    return max(
        text_exact(answer, [reference]) if (right := _first(reference)) is None else float(_same(found, right))
        for reference in references
    )


def slot_f1(answer: str, references: Sequence[str]) -> float:
    """F1 of the slots in common: pairs of the path to a value and the value. A list is a set of values.

    The first object or array in the answer counts, so that words or a code fence around it cost nothing. A reference
    without any must be the answer to the letter.
    """
    found = _first(answer)
    return max(
        text_exact(answer, [reference]) if (right := _first(reference)) is None else _f1(found, right)
        for reference in references
    )


def _f1(found: Any, reference: Any) -> float:
    if found is None:
        return 0.0
    ours, right = Counter(_slots(found)), Counter(_slots(reference))
    total = ours.total() + right.total()
    return 2 * (ours & right).total() / total if total else 1.0


def _slots(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _slots(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from _slots(inner, f"{path}[]")
    else:
        yield path, " ".join(json.dumps(value, ensure_ascii=False).split())


def _first(text: str) -> Any:
    """The first object or array in a text; None without one."""
    for match in re.finditer(r"[\[{]", text):
        try:
            return _DECODER.raw_decode(text, match.start())[0]
        except _UNREADABLE:
            continue
    return None


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same in JSON, where true is not 1; None differs from all."""
    if one is None:
        return False
    one, other = (json.dumps(value, sort_keys=True) for value in (one, other))
    return bool(one == other)
