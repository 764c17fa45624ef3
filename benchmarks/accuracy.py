"""The demo bundle on `test` rows, by the path of `atv-local eval`, beside prompts and other alternatives.

One table: the main metric of each task, a column for each method. On stderr the same at other strengths, for steering
alone, and how unrelated queries are answered. The task `pirate` is left out: an answer in a style is right in many
words, so that the base model has the same chrF; `benchmarks.style` measures it.

    python -m benchmarks.accuracy [--rows N] [--bundle DIR] [--update FILE.md ...]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from atv_eval import EvalHooks, EvalResult, Method, evaluate, table
from benchmarks.tasks import DATA

TASKS = ("banking77_top10", "snips_json")
STRENGTHS = (0.5, 2.0)


def measured(bundle: Path | None, rows: int | None, strength: float | None = None) -> EvalResult:
    """All methods, or at a given strength steering alone."""
    say = EvalHooks(on_message=lambda text: print(text, file=sys.stderr, flush=True))
    test, train = ([DATA / split / f"{task}.jsonl" for task in TASKS] for split in ("test", "train"))
    if strength is not None:
        alone = [Method.STEERED]
        return evaluate(
            test, bundle=bundle, rows=rows, methods=alone, strength=strength, harm=False, timed=0, hooks=say
        )
    told = DATA / "instructions.json"
    return evaluate(test, bundle=bundle, rows=rows, shots_from=train, instructions=told, timed=0, hooks=say)


def columns(result: EvalResult) -> str:
    """Markdown: a row per task, the mean last, and a column per method."""
    methods = [method for method in Method if any(score.method is method for score in result.scores)]
    methods.sort(key=lambda method: method is not Method.STEERED)
    found = {(score.task, score.method): score for score in result.scores}
    rows = []
    for task in dict.fromkeys(score.task for score in result.scores):
        scores = [found.get((task, method)) for method in methods]
        metric = next((score.metric for score in scores if score and score.metric), None)
        values = ("" if score is None else f"{100 * score.main.value:.1f}" for score in scores)
        rows.append([task, "" if metric is None else metric.heading, *values])
    rows.sort(key=lambda row: row[1] == "")
    return table(["task", "metric", *methods], rows, n_text=2)


def update(path: Path, text: str) -> None:
    """Put the table between the markers of a document."""
    pattern = re.compile(r"(<!-- accuracy -->\n).*?(<!-- /accuracy -->)", re.DOTALL)
    path.write_text(pattern.sub(lambda match: f"{match[1]}{text}{match[2]}", path.read_text()))


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=None, help="rows per task, all by default")
    parser.add_argument("--bundle", type=Path, default=None, help="the demo bundle by default")
    parser.add_argument("--update", type=Path, nargs="*", default=[], help="documents whose table to replace")
    arguments = parser.parse_args()
    result = measured(arguments.bundle, arguments.rows)
    text = columns(result)
    print(text, end="")
    for path in arguments.update:
        update(path, text)
    for strength in STRENGTHS:
        print(f"strength {strength:g}", columns(measured(arguments.bundle, arguments.rows, strength)), file=sys.stderr)
    print(result.as_markdown(), file=sys.stderr)


if __name__ == "__main__":
    main()
