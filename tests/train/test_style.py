"""The style benchmark: its rules on answers whose counts are known, and a run with tiny models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from atv_local import Answer, Finish, Steering
from atv_local.answer import TokenCounts
from benchmarks.style_scores import content_words, found_markers, overlaps, scores
from tests import ROOT

DATA = ROOT / "data" / "demo"


def answer(text: str, finish: Finish = Finish.STOP) -> Answer:
    return Answer(text, finish, TokenCounts(1, 1, 1), None, Steering())


def test_markers_are_frequent_in_the_style_and_absent_from_the_base_answers() -> None:
    outputs = ["Arr, boil yer water!", "Arr, cool yer water!"] + ["Arr, salt the water!"] * 18
    assert found_markers(outputs, ["Boil the water, then salt it."]) == ["arr", "yer"]


def test_content_words_are_long_and_not_of_the_style() -> None:
    assert content_words("Ahoy, matey! Boiling water in the big pots", {"matey"}) == {"boili", "water"}


def test_overlap_is_with_the_same_question_and_chance_with_the_others() -> None:
    own, other = overlaps(["arr boiling water", "arr planet"], ["boiled water", "planet moons"], {"arr"})
    assert own == pytest.approx((0.5 + 1) / 2)
    assert other == 0


def test_scores_count_markers_words_and_ends() -> None:
    base = [answer("heat the water"), answer("plant a seed")]
    found = scores(
        1, [answer("Arr, heat yer water, arr!"), answer("plant a seed", Finish.LENGTH)], base, ["arr", "yer"]
    )
    assert (found.marked, found.words, found.ended) == (0.5, 4, 0.5)
    assert found.markers_per_10_words == pytest.approx(10 * 3 / 8)
    assert found.overlap == 1


def test_no_question_of_the_test_file_was_trained_on() -> None:
    splits = {}
    for split in ("train", "valid", "test"):
        lines = (DATA / split / "pirate.jsonl").read_text(encoding="utf-8").splitlines()
        splits[split] = {json.loads(line)["input"].casefold() for line in lines}
        assert len(splits[split]) == len(lines)
    assert not splits["test"] & (splits["train"] | splits["valid"])
    assert not splits["valid"] & splits["train"]


def test_it_runs(tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    output = tmp_path / "style.jsonl"
    command = [sys.executable, "-m", "benchmarks.style", "--rows", "4", "--questions", "3", "--max-tokens", "4"]
    command += ["--strengths", "0", "1", "--epochs", "1", "--model", str(tiny_gguf), "--backbone", str(tiny_backbone)]
    result = subprocess.run([*command, "--output", str(output)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    record = json.loads(output.read_text(encoding="utf-8"))
    assert [score["strength"] for score in record["strengths"]] == [0, 1]
    assert record["strengths"][0]["overlap"] in (0, 1)  # with itself; 0 if the tiny model writes no long word
    assert (record["rows"], record["questions"], record["training"]["epochs"]) == (4, 3, 1)
    assert [len(texts) for texts in record["answers"].values()] == [3, 3]
    assert result.stdout.startswith("| strength |")
