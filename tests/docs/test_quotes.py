"""Figures in prose: they are those that were measured."""

from __future__ import annotations

from benchmarks.quotes import QUOTES, ROOT, figures, names, numbers_without_a_quote, wrong


def test_pages_quote_what_was_measured() -> None:
    known = figures()
    found = [text for page, sentences in QUOTES.items() for text in wrong((ROOT / page).read_text(), sentences, known)]
    assert not found, "\n".join(found)


def test_another_figure_is_noticed() -> None:
    known, sentences = {"share": "93.7"}, ["gets {share} % of them"]
    assert not list(wrong("It gets\n93.7 % of them right.", sentences, known))
    assert list(wrong("It gets 93.8 % of them right.", sentences, known)) == ["gets 93.7 % of them"]


def test_every_figure_that_is_known_is_quoted() -> None:
    quoted = set().union(*(names(sentence) for sentences in QUOTES.values() for sentence in sentences))
    unused = set(figures()) - quoted
    assert unused <= {"router_json", "lora_same"}, unused


def test_the_readme_has_no_other_figures() -> None:
    """Less versions and licences."""
    found = numbers_without_a_quote((ROOT / "README.md").read_text(), QUOTES["README.md"], figures())
    assert found == ["3.11 or", "3.5, need", "Apache-2.0"]
