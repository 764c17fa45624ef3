"""The rows of tasks, and what the forms of their source files have in common."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple


class Row(NamedTuple):
    """An input with its answer, and all right answers where a task lists them."""

    input: str
    output: str
    references: list[str] | None = None


Texts = Sequence[str]
_APART = (
    (r"`` ?", '"'),
    (r" ?''", '"'),
    (r" ([,;:?!)%]|\.(?!\d))", r"\1"),
    (r"([($]) ", r"\1"),
    (r" (n't\b|'(?:s|re|ve|ll|d|m)\b|'(?=[,.;:?!]))", r"\1"),
)


def lines(texts: Texts) -> Iterator[str]:
    """The lines of all texts that are not empty."""
    for text in texts:
        yield from (one.removesuffix("\r") for one in text.split("\n") if one)


def values(texts: Texts) -> Iterator[Any]:
    """What the JSON lists of all texts have."""
    return chain.from_iterable(map(json.loads, texts))


def records(texts: Texts) -> Iterator[Any]:
    """The JSON lines of all texts."""
    return map(json.loads, lines(texts))


def table(texts: Texts) -> Iterator[list[str]]:
    """The rows of CSV that are not empty, with the header."""
    for text in texts:
        yield from filter(None, csv.reader(io.StringIO(text, newline="")))


def named(texts: Texts) -> Iterator[dict[str, str]]:
    """The rows of CSV by the names in the header."""
    for text in texts:
        yield from csv.DictReader(io.StringIO(text, newline=""))


def choice(question: str, options: Sequence[str]) -> str:
    """A question with options that are lines with letters."""
    lettered = (f"{letter}. {one}" for letter, one in zip("ABCDE", options, strict=False))
    return "\n".join((question, "Options:", *lettered))


def compact(value: Any) -> str:
    """JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def spaced(text: str) -> str:
    """One space between words."""
    return " ".join(text.split())


def joined(text: str) -> str:
    """Words and punctuation that stood apart are put together."""
    for apart, together in _APART:
        text = re.sub(apart, together, text)
    return text.strip()
