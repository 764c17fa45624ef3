"""The section on the learning curve: SetFit is said to be what it is, where it was measured."""

from __future__ import annotations

from typing import Any

from benchmarks.paper_tasks import STUDIED
from benchmarks.report_label_rows import WHAT, curves, label_rows


def records(method: str, exact: str, **more: Any) -> list[dict[str, Any]]:
    return [{"rows": 16, "seed": 42, "method": method, "task": task, "exact": exact, **more} for task in STUDIED]


def test_a_method_that_was_not_measured_has_no_line() -> None:
    said = label_rows([*records("atv", "1100"), *records("lora", "1110")])
    assert said.count(WHAT["lora"]) == 2
    assert "SetFit" not in said


def test_setfit_is_shown_with_its_own_classifier() -> None:
    found = [*records("atv", "1100"), *records("setfit", "1110", own="1000", steps=14)]
    said = label_rows(found)
    assert f"| {WHAT['setfit']} | 75.0" in said
    assert "in at most\n14 steps" in said
    assert "25.0% at 16 rows." in said
    assert curves(found)[WHAT["setfit"]] == [(16, 75.0)]
