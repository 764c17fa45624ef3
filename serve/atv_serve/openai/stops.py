"""Texts that end an answer before they are said. Knows nothing of tokens."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Lets text through as soon as it cannot be the beginning of a stop."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.met = False
        """Whether a stop has come; nothing after that is let through."""

    def feed(self, text: str) -> str:
        """More of the answer; returns what may be said of it by now."""
        if self.met:
            return ""
        text = self._held + text
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.met, self._held = True, ""
            return text[: min(found)]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """What was held back, when the answer is over."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """The longest end of a text that a stop begins with."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
