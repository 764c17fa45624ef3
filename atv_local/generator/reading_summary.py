"""What is not read of many queries, and which rows a generator cannot tell apart, as sentences."""

from __future__ import annotations

from collections.abc import Iterable

from atv_local.generator.query_reader import Reading
from atv_local.text import counted, shorten

_SHOWN_BEFORE = 12
"""Characters that are shown before the first in which two queries differ."""


class ReadingSummary:
    """Counts of what is not read of many queries, with an example of each kind."""

    def __init__(self) -> None:
        self.queries = self.cut = self.unknown = self._tokens = self._unknown_tokens = 0
        self._first_cut: tuple[str, Reading] | None = None
        self._first_unknown = ""

    @classmethod
    def of(cls, readings: Iterable[tuple[str, Reading]]) -> ReadingSummary:
        """The summary of these queries."""
        summary = cls()
        for query, reading in readings:
            summary.add(query, reading)
        return summary

    def add(self, query: str, reading: Reading) -> None:
        """Count a query."""
        self.queries += 1
        self._tokens += len(reading.ids)
        if reading.cut:
            self.cut += 1
            self._first_cut = self._first_cut or (query, reading)
        if reading.unknown:
            self.unknown += 1
            self._unknown_tokens += len(reading.unknown)
            self._first_unknown = self._first_unknown or reading.unknown[0]

    def sentences(self, *, cut: str = "", unknown: str = "") -> list[str]:
        """A sentence for each kind of what is not read.

        Args:
            cut: what to do about queries that are cut, to end the sentence with.
            unknown: the same for parts that are unknown.
        """
        sentences = []
        if self._first_cut is not None:
            query, reading = self._first_cut
            read = f"the first {reading.length} of {counted(reading.of, 'character')}"
            sentence = (
                f"the generator reads at most {len(reading.ids)} tokens of a query, so the end of {self.cut} of "
                f"{self.queries} queries is not read, such as what follows {read} of '{shorten(query)}'"
                if self.queries > 1
                else f"the generator reads only {read} of this query; what follows is not read and does not steer"
            )
            sentences.append(f"{sentence}; {cut}" if cut else sentence)
        if self.unknown:
            share = self._unknown_tokens / self._tokens
            example = f"'{shorten(self._first_unknown)}'"
            sentence = (
                f"{self.unknown} of {self.queries} queries have parts that are unknown to the generator, such as "
                f"{example}; it reads them all as the same token ({share:.1%} of its tokens)"
                if self.queries > 1
                else f"the generator reads {example} as an unknown token, and so any other text that it does not know"
            )
            sentences.append(f"{sentence}; {unknown}" if unknown else sentence)
        return sentences


def alike_rows(rows: Iterable[tuple[str, str, Reading]]) -> str:
    """A sentence about queries with different outputs of which the generator reads the same tokens; empty without any.

    The same query with several outputs is another matter, which says nothing about the generator.

    Args:
        rows: query, output and what is read of the query.
    """
    by_ids: dict[tuple[int, ...], dict[str, str]] = {}
    counts: dict[tuple[int, ...], int] = {}
    n_rows = 0
    for query, output, reading in rows:
        n_rows += 1
        by_ids.setdefault(reading.ids, {}).setdefault(query, output)
        counts[reading.ids] = counts.get(reading.ids, 0) + 1
    alike = {ids: queries for ids, queries in by_ids.items() if len(set(queries.values())) > 1}
    if not alike:
        return ""
    queries = next(iter(alike.values()))
    (one, output), *others = queries.items()
    other, wanted = next(pair for pair in others if pair[1] != output)
    same = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    if same > _SHOWN_BEFORE:  # else what is shown of both may be the same
        one, other = (f"…{query[same - _SHOWN_BEFORE :]}" for query in (one, other))
    return (
        f"the generator cannot tell {sum(counts[ids] for ids in alike)} of {n_rows} rows apart: it reads the same "
        f"tokens for different outputs, such as '{shorten(one)}' -> '{shorten(output)}' and '{shorten(other)}' -> "
        f"'{shorten(wanted)}'"
    )
