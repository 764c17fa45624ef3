"""What an evaluation says of the gate, at its own threshold, off, and at another one."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

import atv_eval
from atv_local.errors import UsageError


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three rows of the bundle's task, and one that fits no prototype."""
    texts = ["pear 7", "cow 1", "fig 2", "something else"]
    file = tmp_path / "kinds.jsonl"
    file.write_text("".join(json.dumps({"input": text, "output": "a"}) + "\n" for text in texts))
    return file


@pytest.mark.parametrize(("gate", "steered"), [(None, 3), ("auto", 3), ("off", 4), (1.0, 0)])
def test_rows_that_the_gate_lets_through_are_counted(
    tiny_gguf: Path, gated_bundle: Path, rows: Path, unrelated: Path, gate: float | str | None, steered: int
) -> None:
    result = atv_eval.evaluate(
        rows,
        model=tiny_gguf,
        bundle=gated_bundle,
        gate=gate,
        methods=["base", "steered"],
        timed=0,
        unrelated=unrelated,
        n_threads=1,
    )
    assert result.gate == {"kinds": atv_eval.GateCount(4, steered)}
    base, ours = ([record for record in result.records if record.method == method] for method in ("base", "steered"))
    assert all(record.gate is None for record in base)
    for one, other in zip(base, ours, strict=True):
        assert other.gate is not None
        assert other.gate["steered"] or other.answer == one.answer
    harm = result.harm["steered"]
    assert harm.n_steered == (harm.n_queries if gate == "off" else 0)
    assert (harm.same == 1) == (gate != "off")
    assert f"| kinds | 4 | {steered} | {25 * steered:.1f} |" in result.as_markdown()
    by_method = {row["method"]: row["gate_steered"] for row in csv.DictReader(io.StringIO(result.as_csv()))}
    assert by_method == {"base": "", "steered": str(steered)}
    assert json.loads(result.as_json())["gate"] == {"kinds": {"rows": 4, "steered": steered}}


def test_a_bundle_without_a_gate_counts_none(tiny_gguf: Path, tiny_bundle: Path, rows: Path, unrelated: Path) -> None:
    result = atv_eval.evaluate(
        rows, model=tiny_gguf, bundle=tiny_bundle, methods=["steered"], timed=0, unrelated=unrelated, n_threads=1
    )
    assert result.gate == {}
    assert result.harm["steered"].n_steered is None
    assert "the gate" not in result.as_markdown()


def test_saved_answers_have_the_decision_and_belong_to_one_threshold(
    tiny_gguf: Path, gated_bundle: Path, rows: Path, tmp_path: Path
) -> None:
    how = {"model": tiny_gguf, "bundle": gated_bundle, "timed": 0, "harm": False, "n_threads": 1}
    how |= {"output": tmp_path / "out", "methods": ["steered"]}
    first = atv_eval.evaluate(rows, **how)  # type: ignore[arg-type]
    assert atv_eval.evaluate(rows, **how).records == first.records  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="gate"):
        atv_eval.evaluate(rows, gate="off", **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["on", 1.5, True])
def test_another_gate_is_refused(rows: Path, value: object) -> None:
    with pytest.raises(UsageError, match=r"^`gate` "):
        atv_eval.evaluate(rows, gate=value)  # type: ignore[arg-type]
