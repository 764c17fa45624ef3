"""Labels by the number of training rows: task vectors beside classifiers, a vector for each task, LoRA and SetFit.

python -m benchmarks.label_rows --data FOLDER --output FILE.jsonl [--rows N ...] [--seeds N ...] [--method NAME ...]

Four tasks in one training, all their test rows, as `benchmarks.rivals` measures them; classifiers and SetFit learn each
task by itself. What the output has is not measured again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from benchmarks.json_lines import append_lines, json_lines
from benchmarks.paper_tasks import STUDIED
from benchmarks.rival_methods import Methods
from benchmarks.rival_rows import Draw
from benchmarks.rivals import BY_ANSWERS, SEEDS, Family, measured_with_classifiers
from benchmarks.setfit_labels import measured_setfit

ROWS = (16, 64, 256, 1000, 2000)
"""Of each task; one of the four has 1,548 at most."""
FAMILIES: dict[str, Family] = {
    "atv": lambda methods: {"atv": methods.adaptive()["atv"]},
    "atv-answers": lambda methods: {"atv, by answers": methods.adaptive()["atv"]},
    "per-task": lambda methods: methods.static("per-task"),
    "lora": lambda methods: methods.tuned("lora", size=8),
}
SETFIT = "setfit"
_STEPS, _MAX_EPOCHS = 300, 15
_METHODS = f"by default all but {SETFIT}, which needs pip install setfit"


def methods_for(draw: Draw, *, by_answers: bool) -> Methods:
    """About 300 steps, but 3 epochs at least and 15 at most."""
    n_rows = len(draw.trained) * draw.n_rows
    batch = 32 if n_rows > 4000 else 16 if n_rows > 200 else 8
    return Methods(draw, min(_MAX_EPOCHS, max(3, round(_STEPS * batch / n_rows))), batch, by_answers=by_answers)


def main() -> None:
    """Train and measure what the output does not have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS, help="training rows of each task")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="draw the training rows")
    parser.add_argument("--method", nargs="+", choices=(*FAMILIES, SETFIT), default=list(FAMILIES), help=_METHODS)
    parser.add_argument("--tests", type=int, help="test rows of each task, the first ones; by default all")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for n_rows in arguments.rows:
            for family in arguments.method:
                run(arguments.data, n_rows, seed, family, arguments.output, arguments.tests)


def run(data: Path, n_rows: int, seed: int, family: str, output: Path, n_tests: int | None = None) -> None:
    """Append the lines of one family at one number of rows, if they are not there."""
    place = {"rows": n_rows, "seed": seed, "tests": n_tests, "family": family}
    known = {line["task"] for line in json_lines(output) if place.items() <= line.items()}
    draw = Draw(data, seed, n_tests, STUDIED, n_rows, 50)
    if family == SETFIT:
        for task in draw.trained:
            if task not in known:
                append_lines(output, [place | measured_setfit(draw, task)])
    elif not known:
        torch.manual_seed(seed)
        methods = methods_for(draw, by_answers=family in BY_ANSWERS)
        started = time.monotonic()
        answering = FAMILIES[family](methods)
        place["seconds"] = round(time.monotonic() - started)
        append_lines(output, [place | record for record in measured_with_classifiers(methods, answering)])


if __name__ == "__main__":
    main()
