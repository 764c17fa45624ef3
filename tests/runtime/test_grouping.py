"""Which tokens of sequences that are kept apart are evaluated together."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from atv_local.sequences import Token
from atv_local.sequences.grouping import group_apart

N_CTX = 6
lengths = st.dictionaries(st.integers(0, 9), st.integers(1, 3), min_size=1)
held = st.lists(st.integers(0, N_CTX), min_size=10, max_size=10)


def tokens_of(lengths: dict[int, int], held: list[int]) -> list[Token]:
    """So many tokens of these sequences after those that they have, as far as there is room."""
    return [
        Token(5, held[sequence] + place, sequence, output=True)
        for sequence, length in lengths.items()
        for place in range(min(length, N_CTX - held[sequence]))
    ]


@given(lengths, held, st.booleans(), st.integers(1, 4))
def test_batches_are_what_llama_cpp_takes(lengths: dict[int, int], held: list[int], pads: bool, max_batch: int) -> None:
    tokens = tokens_of(lengths, held)
    counts = Counter(token.sequence for token in tokens)
    last = {token.sequence: token.position for token in tokens if counts[token.sequence] == 1}

    def next_position(sequence: int) -> int | None:
        position = last.get(sequence, held[sequence] - 1) + 1
        return position if position < N_CTX else None

    batches = group_apart(tokens, next_position, n_sequences=10, max_batch=max_batch, pads=pads)
    assert sorted(index for batch in batches for _, index in batch if index is not None) == [*range(len(tokens))]
    for batch in batches:
        places = [(token.sequence, token.position) for token, _ in batch]
        assert places == sorted(places)
        sequences = [sequence for sequence, _ in places]
        if len(set(sequences)) > 1:
            assert sequences == [*range(sequences[0], sequences[-1] + 1)], "neighbours, with one token each"
            assert len(batch) <= max(max_batch, 2)
        assert batch[0][1] is not None or batch[-1][1] is not None
        for token, index in batch:
            assert token.position < N_CTX
            if index is None:
                assert (token.vector, token.position) == (None, last.get(token.sequence, held[token.sequence] - 1) + 1)
    alone = [batch for batch in batches if len(batch) == 1]
    if pads:
        assert all(held[other] == N_CTX for batch in alone for other in _neighbours(batch[0][0].sequence, last))


def _neighbours(sequence: int, last: dict[int, int]) -> list[int]:
    return [other for other in (sequence - 1, sequence + 1) if 0 <= other < 10 and other not in last]


def test_a_wide_gap_is_not_filled() -> None:
    tokens = [Token(5, 0, 0), Token(5, 0, 4)]
    assert len(group_apart(tokens, lambda _: 0, n_sequences=5, max_batch=63, pads=False)) == 2
    tokens = [Token(5, 0, 0), Token(5, 0, 3)]
    (batch,) = group_apart(tokens, lambda _: 0, n_sequences=5, max_batch=63, pads=False)
    assert [index for _, index in batch] == [0, None, None, 1]
