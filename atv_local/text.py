"""Text that need not be trusted, made safe to print on a terminal."""

import re
from collections.abc import Collection
from itertools import islice

_SHOWN = 60  # characters
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def one_line(text: str) -> str:
    """One printable line: every character that a terminal would interpret, line breaks included, becomes U+FFFD."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def shorten(text: str, width: int = 32) -> str:
    """One printable line of at most `width` characters."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= width else line[: width - 1] + "…"


def shown(value: object) -> str:
    """The beginning of a value as Python writes it, for a message about it."""
    return shorten(" ".join(repr(value).split()), _SHOWN)


def strip_control(text: str) -> str:
    """The text without control characters that a terminal would interpret; line breaks and tabs stay."""
    return _CONTROL.sub("", text)


def some_of(names: Collection[str], most: int = 8) -> str:
    """The first names, separated by commas, and how many there are beyond."""
    more = len(names) - most
    return ", ".join(islice(names, most)) + (f" and {more} more" if more > 0 else "")


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """The number with its noun, in the plural where it is not 1, by default with an `s`."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or f'{noun}s'}"
