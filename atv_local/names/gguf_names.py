"""Conventions in file names of GGUFs: the parts of a model, and its quantisation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

PREFERRED = ("Q4_K_M", "Q4_0", "Q4_1", "Q5_K_M", "Q8_0")
"""Quantisations to take if none is named and there are several, best first; then the first file by name."""

_QUANTISATION = re.compile(r"(?<![a-z0-9])((?:ud-)?(?:i?q\d\w*|tq\d_\d|bf16|f16|f32|mxfp4\w*))(?!\w)", re.IGNORECASE)
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.gguf)", re.IGNORECASE | re.DOTALL)
_MAX_PARTS = 1000
_OTHER = re.compile(r"(?<![a-z])(mmproj|imatrix|lora)(?![a-z])", re.IGNORECASE)
"""In the names of GGUFs that are rarely models. What a file is, it says itself."""


def choices_of_parts(files: Iterable[str], quantisation: str = "") -> list[list[str]]:
    """The files of each GGUF that can be meant, its first part first, the best choice first.

    None if there is no such quantisation, or not all parts of any.
    """
    present = set(files)
    whole = [parts for first in filter(begins_model, present) if present.issuperset(parts := parts_of(first))]
    names = [quantisation] if quantisation else PREFERRED
    wanted = [re.compile(rf"(?<![a-z0-9]){re.escape(name)}(?!\w)", re.IGNORECASE) for name in names]

    def rank(parts: list[str]) -> tuple[bool, int, str]:
        place = next((place for place, pattern in enumerate(wanted) if pattern.search(parts[0])), len(wanted))
        return _OTHER.search(parts[0]) is not None, place, parts[0]

    return [parts for parts in sorted(whole, key=rank) if not quantisation or wanted[0].search(parts[0])]


def parts_of(first: str) -> list[str]:
    """All files of the GGUF that begins with this one; one that is not cut up is its only part."""
    return list(_parts(first))


def quantisation_of(file: str) -> str:
    """The quantisation that a file name gives, such as `Q4_K_M`; empty if it does not say."""
    matches = _QUANTISATION.findall(PurePosixPath(file).name)
    return matches[-1].upper() if matches else ""


def stem_of(file: str) -> str:
    """A file's name without its folder, its part number and its ending."""
    return PurePosixPath(_PART.sub(r"\1", file).removesuffix(".gguf")).name


def begins_model(file: str) -> bool:
    """Whether a file is named as a GGUF, and as the first of its parts."""
    part = _PART.fullmatch(file)
    return file.lower().endswith(".gguf") and (part is None or _is_first(part))


def _parts(first: str) -> Iterator[str]:
    part = _PART.fullmatch(first)
    if part is None or not _is_first(part):
        yield first
    else:
        for number in range(1, int(part[3]) + 1):
            yield f"{part[1]}-{number:05d}-of-{part[3]}{part[4]}"


def _is_first(part: re.Match[str]) -> bool:
    """Whether a part is the first of as many as a model may have: anybody can give a file any number."""
    return 1 == int(part[2]) <= int(part[3]) <= _MAX_PARTS
