"""The section on formats: what its sentences say of the records."""

from __future__ import annotations

from typing import Any

from benchmarks.format_rules import DRAWS_NOTHING, FORMATS
from benchmarks.report_formats import WHAT, formats

N_ROWS = 40


def record(name: str, method: str, seed: int, share: float, kept: int) -> dict[str, Any]:
    n_right = round(share * N_ROWS)
    trained = {"epochs": 5, "trainable": 16_704} if method in ("static", "prefix", "lora", "atv") else {}
    return {
        **{"format": name, "method": method, "seed": seed, "tests": None, "train_rows": 80, "alike": 10, **trained},
        **{"follows": "1" * n_right + "0" * (N_ROWS - n_right), "kept": [kept] * N_ROWS, "prompt_tokens": 37.0},
    }


def records(shares: dict[str, float]) -> list[dict[str, Any]]:
    return [
        record(name, method, seed, shares.get(method, 0.5), 50)
        for name in FORMATS
        for method in WHAT
        for seed in ((42,) if method in DRAWS_NOTHING else (42, 100))
    ]


def test_no_section_without_task_vectors() -> None:
    assert not formats([])
    assert not formats([record("upper", "lora", 42, 0.5, 50)])


def test_a_rival_that_wins_is_named() -> None:
    said = formats(records({"lora": 0.9, "none": 0.0}))
    assert "fewer answers follow under task vectors than with LoRA on the target." in said
    assert "more answers follow under task vectors than with the query alone." in said
    assert "these are ahead of task vectors: in `upper` LoRA on the target;" in said


def test_kept_is_of_answers_that_follow() -> None:
    found = records({"lora": 0.5})
    for one in found:
        if one["method"] == "lora":
            one["kept"] = [80 if mark == "1" else 10 for mark in one["follows"]]
    (row,) = (line for line in formats(found).splitlines() if line.startswith(f"| {WHAT['lora']} | 2 |"))
    assert " | 80 | 37 |" in row


def test_where_none_wins_that_is_said() -> None:
    said = formats(records({"atv": 0.95}))
    assert "In no single format is a rival ahead" in said
    assert "fewer answers follow" not in said


def test_what_is_measured_in_part_is_left_out() -> None:
    some = [found for found in records({}) if found["format"] == "upper" or found["method"] != "prefix"]
    some += [found | {"seed": 7} for found in some if found["method"] == "static"]
    some += [{**found, "tests": 2, "follows": "11", "kept": [1, 1]} for found in some]
    said = formats([found for found in some if found["seed"] != 100 or found["format"] != "json"])
    assert WHAT["prefix"] not in said
    assert f"| {WHAT['static']} | 2 to 3 |" in said
    assert f"answers {N_ROWS} queries" in said
