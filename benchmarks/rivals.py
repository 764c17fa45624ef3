"""Task vectors beside every rival, on the same rows: prompts, static vectors, LoRA, prefix tuning and classifiers.

python -m benchmarks.rivals --data FOLDER --output FILE.jsonl [--part PART ...] [--rows N ...] [--seeds N ...]
    [--method NAME ...]

Parts: `paper`, the 20 tasks of the paper in one training, 90 rows of each, and the unseen tasks after it; `labels` and
`texts`, learning curves of four and six tasks; `budgets`, these ten at equal ranks and at equal numbers of trained
parameters. In PyTorch, on a GPU if there is one: right answers and allowed ones are given to the target, whose logits
say which it would write. Each line of the output has one task under one method. What the output has is not measured
again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from sacrebleu.metrics.chrf import CHRF

from atv_train import Example, default_backbone
from atv_train.vector_sources import AdaptiveVectors, GeneratorModule, load_backbone
from benchmarks.forced import Asked, Outcome
from benchmarks.json_lines import append_lines, json_lines
from benchmarks.lora import DEVICE
from benchmarks.paper_tasks import STUDIED_TEXTS, TURNS, WORDINGS
from benchmarks.rival_classifiers import classified
from benchmarks.rival_methods import QUERY_TOKENS, Answering, Methods
from benchmarks.rival_rows import INSTRUCTION, PARTS, Draw

SEEDS = (42, 100, 10)
"""Those of the paper."""
ROWS = {"paper": (90,), "budgets": (90,), "labels": (16, 64, 256, 1000, 2000), "texts": (16, 64, 256, 1000)}
DECODED, DECODED_TOKENS = 20, 160
"""Test rows of each task with texts that are answered in full, and tokens of an answer."""
Record = dict[str, Any]
Family = Callable[[Methods], dict[str, Answering]]

COMMON: dict[str, Family] = {
    "none": lambda methods: methods.prompted(),
    "zero-shot": lambda methods: methods.prompted("zero-shot"),
    "16-shot": lambda methods: methods.prompted("16-shot"),
    "bm25": lambda methods: methods.prompted("bm25"),
    "static": lambda methods: methods.static("static"),
    "per-task": lambda methods: methods.static("per-task"),
    "atv": lambda methods: methods.adaptive(),
    "lora": lambda methods: methods.tuned("lora", size=8),
    "prefix": lambda methods: methods.tuned("prefix", size=16),
}
TOLD: dict[str, Family] = {
    "atv-told": lambda methods: methods.adaptive(told=True),
    "lora-told": lambda methods: methods.tuned("lora", size=8, told=True),
}


def _budgets() -> dict[str, Family]:
    """Ranks of 1, 4 and 16; then the sizes at which vectors and prefixes have the parameters of a LoRA of that rank."""
    found: dict[str, Family] = {name: COMMON[name] for name in ("static", "per-task")}
    for size in (1, 4, 16):
        found[f"lora {size}"] = lambda methods, size=size: methods.tuned("lora", size=size)  # type: ignore[misc]
    for size in (1, 4, 16, 17, 70, 285):
        found[f"atv {size}"] = lambda methods, size=size: methods.adaptive("frozen", rank=size)  # type: ignore[misc]
    for size in (1, 4, 16, 26, 106, 424):
        found[f"prefix {size}"] = lambda methods, size=size: methods.tuned("prefix", size=size)  # type: ignore[misc]
    return found


FAMILIES = {"paper": COMMON | TOLD, "labels": COMMON, "texts": COMMON, "budgets": _budgets()}


def measured(methods: Methods, family: str) -> Iterator[Record]:
    """A line for each task under each method of a family."""
    draw, started = methods.draw, time.monotonic()
    answering = FAMILIES[draw.part][family](methods)
    seconds = round(time.monotonic() - started, 1)
    for method, way in answering.items():
        facts = {"seconds": seconds} | way.facts if way.facts else {}
        texts = _texts(draw, way) if draw.part == "budgets" else {}
        for (
            task,
            group,
        ) in draw.groups.items():  # demonstrations of the unseen ones are rows that nothing was trained on
            rows, wording = _asked(methods, way, task)
            yield {
                **{"method": method, "task": task, "group": group, "wording": wording, **facts},
                **_scores(methods.outcomes(rows, way)),
                "prompt_tokens": round(sum(len(row.example.prompt) for row in rows) / len(rows), 1),
                **({"chrf": texts[task]} if task in texts else {}),
            }
    yield from _classifiers(draw, family, answering)


def _asked(methods: Methods, way: Answering, task: str) -> tuple[list[Asked], int | None]:
    """Test rows as a method asks them; of the wordings of prompts the one that is best on validation rows."""
    draw, tests = methods.draw, methods.draw.rows(task, "test")
    if way.shots is None:
        return [draw.asked(row, told=way.told) for row in tests], None
    wordings = [INSTRUCTION, *range(len(WORDINGS.get(task, ())))]
    if way.shots != "zero-shot" and task in WORDINGS:
        wordings = [INSTRUCTION, 0, TURNS]

    def quality(wording: int) -> float:
        """By demonstrations that are the same for all rows: to read others for each row takes ten times as long."""
        choose = draw.chooser("16-shot" if way.shots == "bm25" else str(way.shots), task)
        rows = [draw.shown(row, choose(row), wording) for row in draw.rows(task, "valid")]
        found = methods.outcomes(rows, way)
        return sum(row.first + (row.choice or 0) + row.likelihood for row in found) / len(found)

    best = max(wordings, key=quality) if len(wordings) > 1 else INSTRUCTION
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


def _texts(draw: Draw, way: Answering) -> dict[str, list[float]]:
    """chrF of greedy answers to some test rows of each task with texts."""
    assert way.answers is not None
    rows = [(task, draw.asked(row).example) for task in STUDIED_TEXTS for row in draw.rows(task, "test")[:DECODED]]
    written = way.answers([example for _, example in rows], DECODED_TOKENS)
    scores: dict[str, list[float]] = {task: [] for task in STUDIED_TEXTS}
    for (task, example), answer in zip(rows, written, strict=True):
        scores[task].append(round(_chrf(draw, example, answer), 1))
    return scores


def _chrf(draw: Draw, example: Example, answer: Sequence[int]) -> float:
    vocabulary = draw.file.vocabulary
    end = next((place for place, token in enumerate(answer) if vocabulary.ends(token)), len(answer))
    texts = [vocabulary.text(tokens, special=False).strip() for tokens in (answer[:end], example.answer[:-1])]
    return float(CHRF().sentence_score(texts[0], [texts[1]]).score)


def _classifiers(draw: Draw, family: str, answering: dict[str, Answering]) -> Iterator[Record]:
    """Logistic regression over the untrained backbone and over the trained generator, where rows have labels."""
    if family != "atv" or draw.part not in ("paper", "labels"):
        return
    backbone, tokenizer = load_backbone(default_backbone())
    untrained = AdaptiveVectors(GeneratorModule(backbone, 1, 1), tokenizer, QUERY_TOKENS).to(DEVICE)
    for method, reader in (("classifier", untrained), ("head", answering["atv"].source)):
        assert isinstance(reader, AdaptiveVectors)
        for task in draw.trained:
            hits = "".join(str(int(hit)) for hit in classified(draw, reader, task))
            yield {
                "method": method,
                "task": task,
                "group": draw.groups[task],
                "exact": hits,
                "first": hits,
                "choice": hits,
            }


def main() -> None:
    """Train and measure what the output does not have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rows", type=int, nargs="+", help="training rows of each task; by default those of the part")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="draw the training rows")
    parser.add_argument("--tests", type=int, help="test rows of each task, the first ones; by default all")
    parser.add_argument("--method", nargs="+", help="by default all of the part")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for part in arguments.part:
            for n_rows in arguments.rows or ROWS[part]:
                for family in arguments.method or FAMILIES[part]:
                    run(Draw(arguments.data, part, n_rows, seed, arguments.tests), family, arguments.output)


def run(draw: Draw, family: str, output: Path) -> None:
    """Append the lines of one family, if they are not there."""
    place = {"part": draw.part, "rows": draw.n_rows, "seed": draw.seed, "family": family}
    if any(place.items() <= line.items() for line in json_lines(output)):
        return
    torch.manual_seed(draw.seed)
    append_lines(output, [place | record for record in measured(Methods(draw), family)])


if __name__ == "__main__":
    main()
