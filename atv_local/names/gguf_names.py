"""Conventions in file names of GGUFs: which of several to take, and the quantisation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from atv_local.data import begins_gguf, parts_of, without_part

PREFERRED = ("Q4_K_M", "Q4_0", "Q4_1", "Q5_K_M", "Q8_0")
"""Quantisations to take if none is named and there are several, best first; then the first file by name."""

_QUANTISATION = re.compile(r"(?<![a-z0-9])((?:ud-)?(?:i?q\d\w*|tq\d_\d|bf16|f16|f32|mxfp4\w*))(?!\w)", re.IGNORECASE)
_OTHER = re.compile(
    r"(?<![a-z])(mmproj|projector|imatrix|lora|adapter|draft|mtp|eagle\d?|vocab)(?![a-z])", re.IGNORECASE
)
"""In the names of GGUFs that are rarely the model that is meant. What a file is, it says itself."""


def choices_of_parts(files: Iterable[str], quantisation: str = "") -> list[list[str]]:
    """The files of each GGUF that can be meant, its first part first, the best choice first.

    None if there is no such quantisation, or not all parts of any.
    """
    present = set(files)
    whole = [parts for first in filter(begins_gguf, present) if present.issuperset(parts := parts_of(first))]
    names = [quantisation] if quantisation else PREFERRED
    wanted = [re.compile(rf"(?<![a-z0-9]){re.escape(name)}(?!\w)", re.IGNORECASE) for name in names]

    def rank(parts: list[str]) -> tuple[bool, int, str]:
        place = next((place for place, pattern in enumerate(wanted) if pattern.search(parts[0])), len(wanted))
        return _OTHER.search(parts[0]) is not None, place, parts[0]

    return [parts for parts in sorted(whole, key=rank) if not quantisation or wanted[0].search(parts[0])]


def quantisation_of(file: str) -> str:
    """The quantisation that a file name gives, such as `Q4_K_M`; empty if it does not say."""
    matches = _QUANTISATION.findall(PurePosixPath(file).name)
    return matches[-1].upper() if matches else ""


def stem_of(file: str) -> str:
    """A file's name without its folder, its part number and its ending."""
    return PurePosixPath(without_part(file).removesuffix(".gguf")).name
