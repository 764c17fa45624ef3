"""Which of a task's outputs an answer is, and when that is decided."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atv_eval.match import AnswerMatcher


@pytest.mark.parametrize(
    ("text", "said"),
    [("spam", "spam"), (' "Spam." ', "spam"), ("**Not spam**", "not spam"), ("\n\nham\nbecause", "ham"),
     ("spamming", None), ("", None), ("ham or spam", None)],
)  # fmt: skip
def test_what_an_answer_says(text: str, said: str | None) -> None:
    assert AnswerMatcher(["spam", "ham", "not spam"]).said(text) == said


def test_candidates_that_differ_in_case_alone_are_told_apart() -> None:
    answers = AnswerMatcher(["A", "a"])
    assert (answers.said("a"), answers.said(" A\n"), answers.said('"a"')) == ("a", "A", None)


@given(st.text('ab c.\n"', max_size=8))
def test_what_is_decided_can_become_no_candidate(text: str) -> None:
    class Letters:
        def text(self, tokens: list[int], *, special: bool) -> str:
            assert not special
            return bytes(tokens).decode("utf-8", "replace")

    answers = AnswerMatcher(["a", "abc", "b c"])
    decided = answers.decided(Letters())  # type: ignore[arg-type]
    if decided(list(text.encode())) and answers.said(text) is None:
        assert all(
            answers.said(text + rest) is None for rest in ("a", "b", "c", "bc", " c", "abc", "\nabc", '"', ". a")
        )


def test_texts_of_several_lines_are_compared_whole() -> None:
    answers = AnswerMatcher(["SELECT a\nFROM t"])
    assert answers.said("SELECT a\nFROM t ") == "SELECT a\nFROM t"
    assert answers.said("SELECT a\nFROM u") is None
    assert AnswerMatcher(["*", "+"]).said("") is None
