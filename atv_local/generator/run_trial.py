"""The program in which a bundle is run for the first time; `check_runnable` runs it in a process of its own."""

from __future__ import annotations

from pathlib import Path

from atv_local.data import report
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator

_LONG = "a word, \uff21 \ufdfa \u00bd and another. " * 400
"""More tokens than a generator reads, and letters that a normaliser expands."""


def _attempt(path: Path) -> None:
    bundle = Bundle(path)
    for precision in bundle.graphs:
        generator = Generator(bundle, provider="cpu", precision=precision, tried=True)
        for query in ("a", _LONG):
            generator(query)


if __name__ == "__main__":
    report(_attempt)
