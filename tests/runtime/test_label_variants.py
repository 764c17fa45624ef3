"""Labels that look the same and are different texts."""

from __future__ import annotations

import pytest

from atv_local.data.label_variants import describe_variants, label_variants


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        (["ship", "refund"], []),
        (["ship", "Ship", "refund", "refund."], [["ship", "Ship"], ["refund", "refund."]]),
        (["ship", " ship", "ship\n"], [["ship", " ship", "ship\n"]]),
        (
            ["lost card", "lost_card", "lost-card", "lost  card"],
            [["lost card", "lost_card", "lost-card", "lost  card"]],
        ),
        (["caf\u00e9", "cafe\u0301"], [["caf\u00e9", "cafe\u0301"]]),
        (["\ufb01sh", "fish"], [["\ufb01sh", "fish"]]),
        (["ship", "ship\u200b", "\xa0ship"], [["ship", "ship\u200b", "\xa0ship"]]),
        (["'yes'", "yes", "no"], [["'yes'", "yes"]]),
        (["\u2764\ufe0f", "\u2764", "no"], [["\u2764\ufe0f", "\u2764"]]),
        (
            ["ship", "\u061cship", "\u202aship\u202c", "\u2066ship\u2069"],
            [["ship", "\u061cship", "\u202aship\u202c", "\u2066ship\u2069"]],
        ),
        (["don't", "don\u2019t", "don\u2032t", "don\u00b4t"], [["don't", "don\u2019t", "don\u2032t", "don\u00b4t"]]),
        (['a "b" c', "a \u201cb\u201d c"], [['a "b" c', "a \u201cb\u201d c"]]),
        *([["x-y", f"x{dash}y"], [["x-y", f"x{dash}y"]]] for dash in "\u2010\u2011\u2012\u2013\u2014\u2015"),
        (["-1", "\u22121", "1"], [["-1", "\u22121"]]),
        (["shop", "sh\u043ep", "\u0405hop", "sh\u03bfp"], [["shop", "sh\u043ep", "\u0405hop", "sh\u03bfp"]]),
        (
            ["OK", "\u041e\u041a", "\u041d\u0415\u0422", "\u043d\u0435\u0442"],
            [["OK", "\u041e\u041a"], ["\u041d\u0415\u0422", "\u043d\u0435\u0442"]],
        ),
        (["\u043c\u0438\u0440", "\u043c\u0438\u0448"], []),
        (["+", "-", ".", "!"], []),
        (["1", "-1", "1.5", "15"], []),
        (["1", "1.0", "2.0", "12.05", "12.5"], [["1", "1.0"]]),
        (["\u00abyes\u00bb", "yes", "\u201cno\u201d", "no"], [["\u00abyes\u00bb", "yes"], ["\u201cno\u201d", "no"]]),
    ],
)
def test_what_differs_only_in_how_it_is_written(labels: list[str], groups: list[list[str]]) -> None:
    assert [list(group) for group in label_variants(labels * 5)] == groups


def test_texts_have_no_variants() -> None:
    outputs = [f"Answer {n}" for n in range(20)] + [f"answer {n}" for n in range(5)]
    assert label_variants(outputs) == []
    assert describe_variants("t", outputs) is None


def test_variants_are_shown_in_pairs_with_their_rows() -> None:
    sentence = describe_variants("desks", ["ship"] * 5 + ["Ship "] * 2 + ["caf\u00e9"] * 3 + ["cafe\u0301"])
    assert sentence is not None
    assert "'desks'" in sentence
    assert "'ship' (5) and 'Ship ' (2)" in sentence
    assert r"'caf\xe9' (3) and 'cafe\u0301' (1)" in sentence
    sentence = describe_variants("desks", ["OK"] * 5 + ["\u041e\u041a"] * 2 + ["ok", "\u0434\u0430", "\u0414\u0430"])
    assert r"'OK' (5) and '\u041e\u041a' (2) and 'ok' (1)" in str(sentence)
    assert "'\u0434\u0430' (1) and '\u0414\u0430' (1)" in str(sentence)
    many = [f"label {n}{end}" for n in range(9) for end in ("", ".") for _ in range(3)]
    assert "and 6 more labels" in str(describe_variants("t", many))
