"""A format that the prompt does not mention, checked by rules: task vectors beside prompts, LoRA and prefix tuning.

python -m benchmarks.formats --data FOLDER --output FILE.jsonl [--format NAME ...] [--method NAME ...]
    [--seeds N ...] [--tests N]

Each method learns each format by itself, from the base model's own answers to 80 questions, rewritten in the format
(`benchmarks.format_rules`); 20 questions choose epochs, learning rates and wordings. It is asked 30 other questions and
100 queries that are no such questions, from FOLDER. In PyTorch, on a GPU if there is one. Each line of the output has
one format under one method. What the output has is not measured again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from atv_eval.metrics import chrf
from benchmarks.format_methods import METHODS, FormatMethods
from benchmarks.format_rows import FormatDraw, like_questions, plain_answers
from benchmarks.format_rules import ANSWER_TOKENS, DRAWS_NOTHING, FORMATS, follows, stripped
from benchmarks.json_lines import append_lines, has_line
from benchmarks.rivals import SEEDS

N_READ = 3
"""Answers that are written down."""


def run(data: Path, name: str, method: str, seed: int, output: Path, n_tests: int | None = None) -> None:
    """Append the line of a method in a format, if it is not there."""
    place = {"format": name, "method": method, "seed": seed, "tests": n_tests}
    if has_line(output, place):
        return
    torch.manual_seed(seed)
    append_lines(output, [place | measured(FormatDraw(data, seed, n_tests, format=name), method)])


def measured(draw: FormatDraw, method: str) -> dict[str, Any]:
    """Train and answer."""
    plain = plain_answers(tuple(draw.tests), ANSWER_TOKENS)
    way = FormatMethods(draw).way(method)
    asked = draw.prompts(draw.tests, shots=way.shots, wording=way.wording)
    answers = way.answers(asked)
    return {
        **{"train_rows": len(draw.rows(draw.format, "train")), "wording": way.wording, **way.facts},
        "follows": "".join(str(int(follows(draw.format, answer))) for answer in answers),
        "kept": [_kept(draw.format, answer, plain[query]) for query, answer in zip(draw.tests, answers, strict=True)],
        "alike": min(len(like_questions()), len(draw.tests)),
        "prompt_tokens": round(sum(len(example.prompt) for example in asked) / len(asked), 1),
        "answers": answers[:N_READ],
    }


def _kept(name: str, answer: str, plain: str) -> int:
    """How much an answer has in common with the base model's own: chrF of both without the format, in percent."""
    ours, theirs = stripped(name, answer), stripped(name, plain)
    return round(100 * chrf(ours, [theirs])) if ours and theirs else int(100 * (ours == theirs))


def main() -> None:
    """Train and measure what the output does not have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with offtopic/clinc_oos_valid.jsonl")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS), help="by default all")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS), help="by default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="draw the training rows")
    parser.add_argument("--tests", type=int, help="queries that are asked, the first ones; by default all")
    arguments = parser.parse_args()
    for name in arguments.format:
        for method in arguments.method:
            for seed in arguments.seeds[: 1 if method in DRAWS_NOTHING else None]:
                run(arguments.data, name, method, seed, arguments.output, arguments.tests)


if __name__ == "__main__":
    main()
