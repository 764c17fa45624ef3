"""What the paper's theory says in practice: task vectors, LoRA and prefix tuning of equal ranks and equal sizes.

python -m benchmarks.budgets --data FOLDER --output FILE.jsonl [--seeds N ...] [--method NAME ...] [--tests N]

The paper claims that ATV is as expressive as LoRA under an equal rank budget, and more expressive than prefix tuning.
Four tasks with labels and six with texts, 90 training rows of each, in one training. The backbone is frozen here, so
that a generator has the parameters of its expansion alone. What the output has is not measured again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from atv_eval.metrics import chrf
from atv_train import Example
from benchmarks.answer_text import answer_text
from benchmarks.budget_sizes import RANKS, SIZES
from benchmarks.json_lines import append_lines, has_line
from benchmarks.paper_tasks import STUDIED, STUDIED_TEXTS
from benchmarks.rival_methods import Answering, Methods
from benchmarks.rival_rows import Draw
from benchmarks.rivals import SEEDS, Family, Record, measured

DECODED, DECODED_TOKENS = 20, 160
"""Test rows of each task with texts that are answered in full, and tokens of an answer."""
EPOCHS = 5


def _families() -> dict[str, Family]:
    """By name and size."""
    found: dict[str, Family] = {
        "static": lambda methods: methods.static("static"),
        "per-task": lambda methods: methods.static("per-task"),
        "full": lambda methods: {"atv, full": methods.adaptive()["atv"]},
    }
    expansions, prefixes = zip(*SIZES.values(), strict=True)
    for size in RANKS:
        found[f"lora {size}"] = lambda methods, size=size: methods.tuned("lora", size=size)  # type: ignore[misc]
    for size in (*RANKS, *expansions):
        found[f"atv {size}"] = lambda methods, size=size: methods.frozen(size)  # type: ignore[misc]
    for size in (*RANKS, *prefixes):
        found[f"prefix {size}"] = lambda methods, size=size: methods.tuned("prefix", size=size)  # type: ignore[misc]
    return found


FAMILIES = _families()


def lines(methods: Methods, answering: dict[str, Answering]) -> Iterator[Record]:
    """As `rivals.measured`, with chrF of the texts that are written to the first test rows."""
    texts = {method: _chrf_by_task(methods.draw, way) for method, way in answering.items()}
    for record in measured(methods, answering):
        found = texts[record["method"]]
        yield record | ({"chrf": found[record["task"]]} if record["task"] in found else {})


def _chrf_by_task(draw: Draw, way: Answering) -> dict[str, list[float]]:
    """Of greedy answers, 0 to 100, by task."""
    assert way.answers is not None
    rows = [(task, draw.asked(row).example) for task in STUDIED_TEXTS for row in draw.rows(task, "test")[:DECODED]]
    written = way.answers([example for _, example in rows], DECODED_TOKENS)
    found: dict[str, list[float]] = {task: [] for task in STUDIED_TEXTS}
    for (task, example), answer in zip(rows, written, strict=True):
        found[task].append(round(_chrf(draw, example, answer), 1))
    return found


def _chrf(draw: Draw, example: Example, answer: Sequence[int]) -> float:
    ours, theirs = (answer_text(tokens, draw.file.vocabulary).strip() for tokens in (answer, example.answer))
    return 100 * chrf(ours, [theirs])


def main() -> None:
    """Train and measure what the output does not have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="draw the training rows")
    parser.add_argument("--method", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="by default all")
    parser.add_argument("--tests", type=int, help="test rows of each task, the first ones; by default all")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for family in arguments.method:
            run(arguments.data, seed, family, arguments.output, arguments.tests)


def run(data: Path, seed: int, family: str, output: Path, n_tests: int | None = None, epochs: int = EPOCHS) -> None:
    """Append the lines of one method at one size, if they are not there."""
    place: dict[str, Any] = {"seed": seed, "tests": n_tests, "family": family}
    if has_line(output, place):
        return
    torch.manual_seed(seed)
    methods = Methods(Draw(data, seed, n_tests, (*STUDIED, *STUDIED_TEXTS), n_valid=20), epochs)
    started = time.monotonic()
    answering = FAMILIES[family](methods)
    place["seconds"] = round(time.monotonic() - started)
    append_lines(output, [place | record for record in lines(methods, answering)])


if __name__ == "__main__":
    main()
