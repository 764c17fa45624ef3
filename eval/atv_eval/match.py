"""Matches a generated answer with the possible ones, also while it is still incomplete."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atv_local.target import Vocabulary

_AROUND = " \t\"'`*.:("


class AnswerMatcher:
    """The answers that count for a row. Case, what surrounds a label and later lines do not matter.

    Where candidates differ in nothing else, have several lines or are no words, an answer must be one to the letter.
    """

    def __init__(self, candidates: Sequence[str]) -> None:
        self._candidates = {_plain(candidate): candidate for candidate in candidates}
        self._exact = set(candidates)
        lines = any("\n" in candidate.strip() for candidate in candidates)
        self._to_the_letter = lines or "" in self._candidates or len(self._candidates) < len(self._exact)

    def match(self, text: str) -> str | None:
        """The candidate that an answer is, if it is one."""
        if self._to_the_letter:
            return next((candidate for candidate in self._exact if candidate.strip() == text.strip()), None)
        return self._candidates.get(_plain(text))

    def decided(self, vocabulary: Vocabulary) -> Callable[[Sequence[int]], bool]:
        """For a question's `enough`: whether what is written can be no candidate, whatever follows."""

        def enough(written: Sequence[int]) -> bool:
            text = vocabulary.text(written, special=False)
            if "\N{REPLACEMENT CHARACTER}" in text:  # half a character
                return False
            if self._to_the_letter:
                return not any(candidate.strip().startswith(text.strip()) for candidate in self._exact)
            line = _plain(text)
            over = bool(line) and "\n" in text.lstrip(_AROUND + "\n")
            return over or not any(candidate.startswith(line) for candidate in self._candidates)

        return enough


def _plain(text: str) -> str:
    """The first line that says something, in lower case, without quotes and stops around it."""
    line = next((line for line in text.splitlines() if line.strip(_AROUND)), "")
    return line.casefold().strip(_AROUND + ")")
