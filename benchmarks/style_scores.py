"""Rules that score answers in a style. Nothing else judges them.

- A marker is a word of the style: in at least a tenth of the training outputs and in no answer of the base model to the
  training questions.
- Overlap is the share of an answer's content words that are also in the base model's answer to the same question. The
  same against the base model's answers to the other questions says how much is chance. Content words have at least
  five letters and are not markers; they are compared by their first five letters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from atv_eval import table
from atv_local import Answer, Finish

MARKER_SHARE = 0.1  # of the training outputs that have a marker
MIN_LETTERS = STEM = 5  # of a content word


@dataclass(frozen=True)
class StyleScores:
    """The answers at one strength: means over the questions, shares from 0 to 1."""

    strength: float
    marked: float
    """Share of answers with at least one marker."""
    markers_per_10_words: float
    overlap: float
    chance_overlap: float
    words: float
    ended: float
    """Share of answers that ended before `--max-tokens`."""


def words_of(text: str) -> list[str]:
    """Its words in lower case, without punctuation."""
    return re.findall(r"[^\W\d_]+", text.lower())


def found_markers(outputs: Sequence[str], base_answers: Iterable[str]) -> list[str]:
    """Words in at least `MARKER_SHARE` of the training outputs and in no answer of the base model, commonest first."""
    plain = {word for answer in base_answers for word in words_of(answer)}
    counts = Counter(word for output in outputs for word in set(words_of(output)))
    return [word for word, n in counts.most_common() if n >= MARKER_SHARE * len(outputs) and word not in plain]


def content_words(text: str, markers: Collection[str]) -> set[str]:
    """Stems of the words that say something and are not of the style."""
    return {word[:STEM] for word in words_of(text) if len(word) >= MIN_LETTERS and word not in markers}


def scores(strength: float, answers: Sequence[Answer], base: Sequence[Answer], markers: Collection[str]) -> StyleScores:
    """Of the answers to all questions; `base` has the base model's answers to the same."""
    words = [words_of(answer.text) for answer in answers]
    counts = [sum(word in markers for word in answer) for answer in words]
    own, other = overlaps([answer.text for answer in answers], [answer.text for answer in base], markers)
    return StyleScores(
        strength=strength,
        marked=mean(count > 0 for count in counts),
        markers_per_10_words=10 * sum(counts) / max(1, sum(map(len, words))),
        overlap=own,
        chance_overlap=other,
        words=mean(map(len, words)),
        ended=mean(answer.finish_reason is Finish.STOP for answer in answers),
    )


def overlaps(answers: Sequence[str], base: Sequence[str], markers: Collection[str]) -> tuple[float, float]:
    """Mean share of content words shared with the base answer to the same question, and to each other question."""
    ours, theirs = ([content_words(text, markers) for text in texts] for texts in (answers, base))
    own, other = [], []
    for index, words in enumerate(ours):
        if words:
            shares = [len(words & reference) / len(words) for reference in theirs]
            own.append(shares.pop(index))
            other += shares
    return mean(own or [0.0]), mean(other or [0.0])


def dial(scored: Iterable[StyleScores]) -> str:
    """A Markdown table, a row for each strength."""
    head = [
        "strength",
        "answers with a marker, %",
        "markers per 10 words",
        "overlap with the base answer, %",
        "with other base answers, %",
        "words",
        "ended, %",
    ]
    return table(
        head,
        [
            [
                f"{s.strength:g}",
                f"{100 * s.marked:.0f}",
                f"{s.markers_per_10_words:.1f}",
                f"{100 * s.overlap:.0f}",
                f"{100 * s.chance_overlap:.0f}",
                f"{s.words:.0f}",
                f"{100 * s.ended:.0f}",
            ]
            for s in scored
        ],
    )
