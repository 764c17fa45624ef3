"""Which tokens of sequences that are kept apart go through llama.cpp together. It needs no llama.cpp.

Of such sequences llama.cpp takes the same number of tokens each, and only if their numbers follow each other: here
first those that have one token, and then each of the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from atv_local.sequences.token_context import Token

TokenBatch = list[tuple[Token, int | None]]
"""Tokens that are evaluated together, with their places among those that are to be evaluated; None for spare ones. A
spare token is forgotten again: its cell, the last one of its sequence, is the next to be taken."""
NextPosition = Callable[[int], int | None]
"""Where the next token of a sequence would stand; None if the sequence is full."""

_MAX_GAP = 2
"""How many sequences without a token are evaluated with their neighbours: more take longer than one more call."""


def group_apart(
    tokens: Sequence[Token], next_position: NextPosition, *, n_sequences: int, max_batch: int, pads: bool
) -> list[TokenBatch]:
    """Batches of tokens, those of one sequence in order and in one batch.

    Args:
        next_position: of a sequence, after its token here if it has a single one.
        n_sequences: sequences are numbered from 0.
        max_batch: most tokens of sequences that have one token each.
        pads: whether a token that would be alone gets a spare one.
    """
    by_sequence: dict[int, TokenBatch] = {}
    for index, token in enumerate(tokens):
        by_sequence.setdefault(token.sequence, []).append((token, index))
    long = [batch for batch in by_sequence.values() if len(batch) > 1]
    rows: list[TokenBatch] = []
    for sequence, batch in sorted(by_sequence.items()):
        if len(batch) > 1:
            continue
        between = _spares(rows[-1][-1][0].sequence + 1, sequence, next_position) if rows else None
        if between is not None and len(rows[-1]) + len(between) < max_batch:
            rows[-1] += [*between, *batch]
        else:
            rows.append(batch)
    for row in rows:
        if pads and len(row) == 1:
            row.extend(_spare_beside(row[0][0], next_position, n_sequences))
            row.sort(key=lambda item: item[0].sequence)
    return [*rows, *long]


def _spare_beside(token: Token, next_position: NextPosition, n_sequences: int) -> TokenBatch:
    """A spare token after this one; in a full sequence one of a neighbour that is not full, if there is one."""
    number = token.sequence
    if next_position(number) is not None:
        return [(Token(0, token.position + 1, number, output=True), None)]
    neighbours = [other for other in (number + 1, number - 1) if 0 <= other < n_sequences]
    places = [(other, position) for other in neighbours if (position := next_position(other)) is not None]
    return [(Token(0, position, other, output=True), None) for other, position in places[:1]]


def _spares(first: int, end: int, next_position: NextPosition) -> TokenBatch | None:
    """Spare tokens for sequences `first` to `end` - 1, which have none to evaluate; None if that costs too much."""
    if end - first > _MAX_GAP:
        return None
    positions = [next_position(sequence) for sequence in range(first, end)]
    if None in positions:
        return None
    return [(Token(0, position or 0, first + place), None) for place, position in enumerate(positions)]
