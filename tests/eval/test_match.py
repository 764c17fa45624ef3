"""Which of a task's outputs an answer is, and when that is decided."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atv_eval.match import AnswerMatcher


@pytest.mark.parametrize(
    ("text", "matched"),
    [("spam", "spam"), (' "Spam." ', "spam"), ("**Not spam**", "not spam"), ("\n\nham\nbecause", "ham"),
     ("spamming", None), ("", None), ("ham or spam", None)],
)  # fmt: skip
def test_what_an_answer_says(text: str, matched: str | None) -> None:
    assert AnswerMatcher(["spam", "ham", "not spam"]).match(text) == matched


def test_candidates_that_differ_in_case_alone_are_told_apart() -> None:
    answers = AnswerMatcher(["A", "a"])
    assert (answers.match("a"), answers.match(" A\n"), answers.match('"a"')) == ("a", "A", None)


@given(st.text('ab c.\n"', max_size=8))
def test_what_is_decided_can_become_no_candidate(text: str) -> None:
    class Letters:
        def text(self, tokens: list[int], *, special: bool) -> str:
            assert not special
            return bytes(tokens).decode("utf-8", "replace")

    answers = AnswerMatcher(["a", "abc", "b c"])
    decided = answers.decided(Letters())  # type: ignore[arg-type]
    if decided(list(text.encode())) and answers.match(text) is None:
        assert all(
            answers.match(text + rest) is None for rest in ("a", "b", "c", "bc", " c", "abc", "\nabc", '"', ". a")
        )


def test_texts_of_several_lines_are_compared_whole() -> None:
    answers = AnswerMatcher(["SELECT a\nFROM t"])
    assert answers.match("SELECT a\nFROM t ") == "SELECT a\nFROM t"
    assert answers.match("SELECT a\nFROM u") is None
    assert AnswerMatcher(["*", "+"]).match("") is None
