"""Labels that look the same to a reader and are different answers to a program."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from atv_local.data.labels import are_labels
from atv_local.text import counted, shorten

_UNSEEN = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufe00-\ufe0f\ufeff]")
"""Characters without a width: a soft hyphen, the byte order mark, the direction of a text, the style of an emoji."""
_LETTERS = dict(
    zip(
        "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d"
        "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7",
        "abekmhopctyxijshdqw" + "abezhikvoptyx",
        strict=True,
    )
)
"""Letters of Cyrillic and Greek that look Latin, in lower case or as capitals."""
_CAPITALS = str.maketrans({letter.upper(): latin.upper() for letter, latin in _LETTERS.items()})
_LOOK_ALIKE = str.maketrans(
    _LETTERS
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc`\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
)
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
    """Groups of labels that differ only in case, spaces, hyphens, quotes, punctuation around them, Unicode form or
    letters that look the same, each with its number of rows, the most frequent first. None if the outputs are not
    labels even where these count as one."""
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
        f"the task {shorten(task)!r} has outputs that differ only in case, spaces, punctuation, Unicode form or "
        f"letters that look the same, and count as different answers: {shown}{more}; write each in one way"
    )


def _key(label: str) -> str:
    text = normalised(label.translate(_LOOK_ALIKE)).translate(_LOOK_ALIKE)  # NFKC takes some apart
    return _WHOLE_NUMBER.sub(r"\1", _JOINTS.sub(" ", text.strip(_AROUND))) or label


def _described(group: dict[str, int]) -> str:
    looks = Counter(map(_look, group))
    names = [ascii(label) if looks[_look(label)] > 1 else repr(label) for label in group]
    return " and ".join(f"{name[:60]} ({n})" for name, n in zip(names, group.values(), strict=True))


def _look(label: str) -> str:
    """The same for labels that cannot be told apart, or hardly."""
    text = unicodedata.normalize("NFC", _UNSEEN.sub("", label))
    return text.translate(_LOOK_ALIKE | _CAPITALS)
