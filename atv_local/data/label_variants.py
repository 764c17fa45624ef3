"""Labels that look the same to a reader and are different answers to a program."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from atv_local.data.labels import are_labels
from atv_local.text import counted, shorten

_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
"""Characters without a width, such as a soft hyphen and the byte order mark."""
_JOINTS = re.compile(r"(?<=\w)[-_\s]+(?=\w)")
_AROUND = " \t\r\n.,;:!?\"'`*\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb\u2039\u203a\u3002\u3001"
_WHOLE_NUMBER = re.compile(r"^([+-]?\d+)\.0+$")
"""As programs write whole numbers of a column that has others, or empty cells: `1.0`."""
_MAX_SHOWN = 3


def with_single_spaces(text: str) -> str:
    """The text in one Unicode form, with single spaces and without characters that nobody sees."""
    return " ".join(unicodedata.normalize("NFKC", _UNSEEN.sub("", text)).split())


def normalised(text: str) -> str:
    """The same in lower case."""
    return with_single_spaces(text).casefold()


def label_variants(outputs: Sequence[str]) -> list[dict[str, int]]:
    """Groups of labels that differ only in case, spaces, hyphens, punctuation around them or Unicode form, each with
    its number of rows, the most frequent first. None if the outputs are not labels even where these count as one."""
    keys = {output: _key(output) for output in {*outputs}}
    if not are_labels([keys[output] for output in outputs]):
        return []
    groups: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for output, n in Counter(outputs).most_common():
        groups[keys[output]][output] = n
    return [group for group in groups.values() if len(group) > 1]


def describe_variants(task: str, outputs: Sequence[str]) -> str | None:
    """A sentence about the labels of a task that are written in several ways; None if there are none."""
    groups = label_variants(outputs)
    if not groups:
        return None
    shown = "; ".join(_described(group) for group in groups[:_MAX_SHOWN])
    more = f"; and {counted(len(groups) - _MAX_SHOWN, 'more label')}" if len(groups) > _MAX_SHOWN else ""
    return (
        f"the task {shorten(task)!r} has outputs that differ only in case, spaces, punctuation or Unicode form, and "
        f"count as different answers: {shown}{more}; write each in one way"
    )


def _key(label: str) -> str:
    return _WHOLE_NUMBER.sub(r"\1", _JOINTS.sub(" ", normalised(label).strip(_AROUND))) or label


def _described(group: dict[str, int]) -> str:
    composed = Counter(unicodedata.normalize("NFC", label) for label in group)
    names = [ascii(label) if composed[unicodedata.normalize("NFC", label)] > 1 else repr(label) for label in group]
    return " and ".join(f"{name[:60]} ({n})" for name, n in zip(names, group.values(), strict=True))
