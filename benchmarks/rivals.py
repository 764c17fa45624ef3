"""Task vectors beside every rival on the paper's tasks: prompts, static vectors, LoRA, prefix tuning and classifiers.

python -m benchmarks.rivals --data FOLDER --output FILE.jsonl [--seeds N ...] [--method NAME ...] [--tests N]

The 20 tasks of the paper in one training, 90 rows of each, and the unseen tasks after it. In PyTorch, on a GPU if there
is one: right answers and allowed ones are given to the target, whose logits say which it would write. Each line of the
output has one task under one method. What the output has is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from atv_train.vector_sources import AdaptiveVectors, VectorSource
from benchmarks.forced import Asked, Outcome
from benchmarks.json_lines import append_lines, has_line, json_lines
from benchmarks.paper_tasks import TURNS, WORDINGS
from benchmarks.rival_classifiers import classified, untrained_reader
from benchmarks.rival_methods import Answering, Methods
from benchmarks.rival_rows import INSTRUCTION, Draw

SEEDS = (42, 100, 10)
"""Those of the paper."""
Record = dict[str, Any]
Family = Callable[[Methods], dict[str, Answering]]

FAMILIES: dict[str, Family] = {
    "none": lambda methods: methods.prompted(),
    "zero-shot": lambda methods: methods.prompted("zero-shot"),
    "16-shot": lambda methods: methods.prompted("16-shot"),
    "bm25": lambda methods: methods.prompted("bm25"),
    "static": lambda methods: methods.static("static"),
    "per-task": lambda methods: methods.static("per-task"),
    "atv": lambda methods: methods.adaptive(),
    "atv-answers": lambda methods: {"atv, by answers": methods.adaptive()["atv"]},
    "atv-told": lambda methods: methods.adaptive(told=True),
    "lora": lambda methods: methods.tuned("lora", size=8),
    "lora-told": lambda methods: methods.tuned("lora", size=8, told=True),
    "prefix": lambda methods: methods.tuned("prefix", size=16),
}
"""What is trained together."""
BY_ANSWERS = ("atv-answers",)
"""Families whose epochs are chosen by right answers."""


def measured(
    methods: Methods, answering: dict[str, Answering], wordings: Mapping[str, int] | None = None
) -> Iterator[Record]:
    """A line for each task under each method of a family; `wordings` are those of prompts, where they are chosen."""
    draw = methods.draw
    for method, way in answering.items():
        for task, group in draw.groups.items():
            rows, wording = _asked(methods, way, task, wordings or {})
            yield {
                **{"method": method, "task": task, "group": group, "wording": wording, **way.facts},
                **_scores(methods.outcomes(rows, way)),
                "prompt_tokens": round(sum(len(row.example.prompt) for row in rows) / len(rows), 1),
            }


def measured_with_classifiers(
    methods: Methods, answering: dict[str, Answering], wordings: Mapping[str, int] | None = None
) -> Iterator[Record]:
    """With lines of logistic regression over the untrained backbone and over the trained generator, if there is one."""
    yield from measured(methods, answering, wordings)
    if "atv" in answering:
        yield from _classifiers(methods.draw, answering["atv"].source)


def _asked(methods: Methods, way: Answering, task: str, wordings: Mapping[str, int]) -> tuple[list[Asked], int | None]:
    """Test rows as a method asks them; of the wordings of prompts the one that is best on validation rows."""
    draw, tests = methods.draw, methods.draw.rows(task, "test")
    if way.shots is None:
        return [draw.asked(row, told=way.told) for row in tests], None
    tried = [INSTRUCTION, *range(len(WORDINGS.get(task, ())))]
    if way.shots != "zero-shot" and task in WORDINGS:
        tried = [INSTRUCTION, 0, TURNS]
    if task in wordings:
        tried = [wordings[task]]

    def quality(wording: int) -> float:
        """By demonstrations that are the same for all rows: to read others for each row takes ten times as long."""
        choose = draw.chooser("16-shot" if way.shots == "bm25" else str(way.shots), task)
        rows = [draw.shown(row, choose(row), wording) for row in draw.rows(task, "valid")]
        found = methods.outcomes(rows, way)
        return sum(row.first + (row.choice or 0) + row.likelihood for row in found) / len(found)

    best = max(tried, key=quality) if len(tried) > 1 else tried[0]
    choose = draw.chooser(way.shots, task)
    return [draw.shown(row, choose(row), best) for row in tests], best


def _scores(found: Sequence[Outcome]) -> Record:
    """A digit for each row, and its likelihood in percent."""
    marks = {
        "exact": "".join(str(int(row.exact)) for row in found),
        "first": "".join(str(int(row.first)) for row in found),
        "choice": "".join(str(int(row.choice)) for row in found if row.choice is not None),
    }
    return marks | {"likelihood": [round(100 * row.likelihood) for row in found]}


def _classifiers(draw: Draw, generator: VectorSource | None) -> Iterator[Record]:
    for method, reader in (("classifier", untrained_reader()), ("head", generator)):
        assert isinstance(reader, AdaptiveVectors)
        for task in draw.trained:
            hits = "".join(str(int(hit)) for hit in classified(draw, reader, task))
            place = {"method": method, "task": task, "group": draw.groups[task]}
            yield place | {"exact": hits, "first": hits, "choice": hits}


def main() -> None:
    """Train and measure what the output does not have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="draw the training rows")
    parser.add_argument("--tests", type=int, help="test rows of each task, the first ones; by default all")
    parser.add_argument("--method", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="by default all")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for family in arguments.method:
            run(Draw(arguments.data, seed, arguments.tests), family, arguments.output)


def run(draw: Draw, family: str, output: Path) -> None:
    """Append the lines of one family, if they are not there."""
    place = {"seed": draw.seed, "tests": draw.n_tests, "family": family}
    if has_line(output, place):
        return
    torch.manual_seed(draw.seed)
    methods = Methods(draw, by_answers=family in BY_ANSWERS)
    wordings = _chosen_wordings(output, draw.seed) if family == "bm25" else None
    found = measured_with_classifiers(methods, FAMILIES[family](methods), wordings)
    append_lines(output, [place | record for record in found])


def _chosen_wordings(output: Path, seed: int) -> dict[str, int]:
    """By task, those of 16 demonstrations, in which the most similar rows are asked too: to find others takes long."""
    lines = json_lines(output)
    return {line["task"]: line["wording"] for line in lines if (line["family"], line["seed"]) == ("16-shot", seed)}


if __name__ == "__main__":
    main()
