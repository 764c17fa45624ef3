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
_NO_MODELS = ("mmproj", "imatrix")  # GGUFs of other things


def choose_parts(files: Iterable[str], quantisation: str = "") -> list[str]:
    """The files of one GGUF, its first part first; none if there is no such quantisation, or not all of its parts."""
    present = set(files)
    whole = [parts for first in sorted(filter(begins_model, present)) if present.issuperset(parts := parts_of(first))]
    for wanted in [quantisation] if quantisation else PREFERRED:
        pattern = re.compile(rf"(?<![a-z0-9]){re.escape(wanted)}(?!\w)", re.IGNORECASE)
        if match := next((parts for parts in whole if pattern.search(parts[0])), None):
            return match
    return whole[0] if whole and not quantisation else []


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
    """Whether a file is a GGUF of weights, and the first of its parts."""
    part = _PART.fullmatch(file)
    name = file.rpartition("/")[2].lower()
    return name.endswith(".gguf") and not name.startswith(_NO_MODELS) and (part is None or _is_first(part))


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
