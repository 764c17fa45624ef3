"""Formats of answers: what is rewritten follows its rule, and plain texts do not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.format_rules import FORMATS, follows, rewritten, stripped, whole_sentences

PLAIN = 'The sky is blue. It is "scattered" light, which 1. air and 2. dust make.'
WRITTEN = {
    "upper": PLAIN.upper(),
    "json": json.dumps({"answer": PLAIN}),
    "bullets": '- The sky is blue.\n- It is "scattered" light, which 1.\n- air and 2.\n- dust make.',
    "quotes": f'"{PLAIN.replace(chr(34), chr(39))}"',
    "length": "The sky is blue.",
}
texts = st.text() | st.lists(st.sampled_from(["A b.", "c", "- d", "1. ", '"', "{", "\n", " ", "ß", "\u2028", "?"])).map(
    "".join
)


@pytest.mark.parametrize("name", FORMATS)
def test_a_plain_text_is_rewritten(name: str) -> None:
    assert not follows(name, PLAIN)
    assert rewritten(name, PLAIN) == WRITTEN[name]
    assert not any(follows(name, text) for other, text in WRITTEN.items() if other != name)


@pytest.mark.parametrize("name", FORMATS)
@given(text=texts)
def test_what_is_rewritten_follows_its_rule(name: str, text: str) -> None:
    found = rewritten(name, text)
    assert found is None or follows(name, found)


@pytest.mark.parametrize("name", FORMATS)
@given(text=texts)
def test_any_text_is_judged_and_stripped(name: str, text: str) -> None:
    assert follows(name, text) in (True, False)
    assert stripped(name, text) == stripped(name, text).strip()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("upper", "123"),
        ("upper", "YES, BUt"),
        ("json", '{"answer": ""}'),
        ("json", '{"answer": 1}'),
        ("json", '{"answer": "a", "answer": "b"}'),
        ("json", '{"answer": "a", "more": "b"}'),
        ("json", '[["answer", "a"]]'),
        ("json", 'Sure: {"answer": "a"}'),
        ("json", '{"answer": "cut'),
        ("json", "[" * 100_000),
        ("bullets", "- one"),
        ("bullets", "one\n- two\n- three"),
        ("bullets", "-one\n-two"),
        ("bullets", "- one\n-"),
        ("quotes", '""'),
        ("quotes", '"'),
        ("quotes", '"one" and "two"'),
        ("quotes", '"cut'),
        ("length", "."),
        ("length", "Yes"),
        ("length", "one two three four five six seven eight nine ten eleven twelve thirteen."),
    ],
)
def test_what_does_not_follow(name: str, text: str) -> None:
    assert not follows(name, text)


def test_white_space_around_an_answer_does_not_count() -> None:
    assert all(follows(name, f"\n {text} \n") for name, text in WRITTEN.items())


def test_what_is_said_is_without_format() -> None:
    said = "the sky is blue. it is light."
    plain = "The sky is blue. It is light."
    for name in ("upper", "json", "bullets", "quotes"):
        assert stripped(name, str(rewritten(name, plain))) == said
    assert stripped("json", '{"answer": "The sky is blue. It is light.') == said


def test_a_cut_text_ends_with_its_last_sentence() -> None:
    assert whole_sentences("One. Two! And th") == "One. Two!"
    assert whole_sentences("Steps:\n1. Boil it.\n2. Ea") == "Steps:\n1. Boil it."
    assert whole_sentences("No end") is None
