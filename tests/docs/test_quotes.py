"""Figures in prose: they are those that were measured."""

from __future__ import annotations

import re

from atv_local.generator import Bundle
from atv_local.names import embedded_bundle
from benchmarks.json_lines import RESULTS, json_lines
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


def test_bundles_that_were_measured_are_those_that_ship() -> None:
    shipped = {name: Bundle(embedded_bundle(name)).id for name in ("demo", "general")}
    (bench,) = re.findall(r"^- bundle (\w+):", (RESULTS / "bench.md").read_text(), re.MULTILINE)
    measured = {
        "bench.md": (bench, "demo"),
        "gate.jsonl": ([r for r in json_lines(RESULTS / "gate.jsonl") if "bundle_id" in r][-1]["bundle_id"], "demo"),
        "vector_shapes.jsonl": (json_lines(RESULTS / "vector_shapes.jsonl")[-1]["bundle_id"], "demo"),
        "told.jsonl": (json_lines(RESULTS / "told.jsonl")[-1]["bundle"], "general"),
    }
    assert {file: identity for file, (identity, _) in measured.items()} == {
        file: shipped[name] for file, (_, name) in measured.items()
    }
