"""What an evaluation says of several bundles: which of them each task's rows go to, and where their gates overlap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import atv_eval
from atv_local.generator import Bundle


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A fruit, two beasts, and a row that fits no prototype."""
    file = tmp_path / "mixed.jsonl"
    texts = ["pear 7", "cow 1", "hen 2", "something else"]
    file.write_text("".join(json.dumps({"input": text, "output": "a"}) + "\n" for text in texts))
    return file


def evaluated(rows: Path, model: Path, *bundles: Path, **how: Any) -> atv_eval.EvalResult:
    how = {"methods": ["base", "steered"], "timed": 0, "harm": False, "n_threads": 1} | how
    return atv_eval.evaluate(rows, model=model, bundle=list(bundles), **how)


def test_rows_are_counted_by_their_bundle(
    tiny_gguf: Path, fruits_bundle: Path, beasts_bundle: Path, rows: Path, unrelated: Path
) -> None:
    result = evaluated(rows, tiny_gguf, fruits_bundle, beasts_bundle, harm=True, unrelated=unrelated)
    assert result.bundles == {"mixed": atv_eval.BundleCounts(4, {"fruits": 1, "beasts": 2}, 1, 0, 0)}
    assert "| mixed | 4 | 1 | 2 | 1 | 0 | 0 |" in result.as_markdown()
    assert json.loads(result.as_json())["bundles"]["mixed"]["steered"] == {"fruits": 1, "beasts": 2}
    assert result.about["bundle"] == [Bundle(fruits_bundle).id, Bundle(beasts_bundle).id]
    base, steered = ([one for one in result.records if one.method == method] for method in ("base", "steered"))
    assert base[3].answer == steered[3].answer
    assert result.harm["steered"].n_steered == 0
    assert result.harm["steered"].same == 1


def test_overlaps_and_ties_are_counted(tiny_gguf: Path, fruits_bundle: Path, gated_bundle: Path, rows: Path) -> None:
    result = evaluated(rows, tiny_gguf, fruits_bundle, gated_bundle)
    assert result.bundles == {"mixed": atv_eval.BundleCounts(4, {"fruits": 1, "tiny": 2}, 1, 1, 1)}


def test_a_bundle_without_a_gate_has_the_other_rows(
    tiny_gguf: Path, fruits_bundle: Path, tiny_bundle: Path, rows: Path, unrelated: Path
) -> None:
    result = evaluated(rows, tiny_gguf, fruits_bundle, tiny_bundle, harm=True, unrelated=unrelated)
    assert result.bundles["mixed"] == atv_eval.BundleCounts(4, {"fruits": 1, "tiny": 3}, 0, 0, 0)
    assert result.harm["steered"].n_steered == result.harm["steered"].n_queries


def test_one_bundle_has_no_counts(tiny_gguf: Path, fruits_bundle: Path, rows: Path) -> None:
    assert evaluated(rows, tiny_gguf, fruits_bundle).bundles == {}
