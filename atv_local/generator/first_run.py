"""The first load of a bundle, in a process of its own: run by `Generator`, see atv_local.data.try_file."""

from __future__ import annotations

from pathlib import Path

from atv_local.data import report, try_file
from atv_local.errors import BundleError
from atv_local.generator.bundle import Bundle

_LONG = "a word, \uff21 \ufdfa \u00bd and another. " * 400
"""More tokens than a generator reads, and letters that a normaliser expands."""


def check_runnable(bundle: Bundle) -> None:
    """Raise BundleError if running the bundle would end this process, hang or take all memory."""
    files = bundle.manifest.files
    failure = try_file(
        __name__, bundle.path, key=bundle.manifest_bytes.hex(), size=sum(entry.size for entry in files.values())
    )
    if failure is not None:
        sentence = f"the bundle {bundle.path} cannot be loaded: {failure.reason}; export it again"
        raise BundleError(failure.reason if failure.explained else sentence)


def _attempt(path: Path) -> None:
    from atv_local.generator.generator import Generator

    bundle = Bundle(path)
    for precision in bundle.graphs:
        generator = Generator(bundle, provider="cpu", precision=precision, tried=True)
        for query in ("a", _LONG):
            generator(query)


if __name__ == "__main__":
    report(_attempt)
