"""A style from few rows: train, export, and answer questions that were not trained on along the strength dial.

python -m benchmarks.style [--style pirate] [--rows 60] [--bundle DIR] [--markers FILE] [--output FILE.jsonl]

`benchmarks.style_scores` has the rules by which the answers are scored. `--markers FILE` gives the words of the style,
one per line; otherwise they are found.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import atv_local
from atv_export import export
from atv_local import OFF, Answer, Engine
from atv_local.data import Row, read_rows
from atv_train import train
from benchmarks.json_lines import append_lines
from benchmarks.style_scores import dial, found_markers, scores

DATA = Path(__file__).parent.parent / "data" / "demo"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)


def trained(rows: Path, run: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Train on the rows; seconds on the clock and of all cores, epochs and the best one."""
    started, used = time.perf_counter(), time.process_time()
    result = train([rows], run, **options)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - used
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "epochs": len(result.history), "best": result.metrics}


def answers_to(engine: Engine, rows: Sequence[Row], strength: float, max_tokens: int) -> list[Answer]:
    """Greedy answers at a strength."""
    steering = replace(engine.steering, strength=strength) if strength else OFF
    return list(engine.answer_many([row.input for row in rows], steering=steering, max_tokens=max_tokens))


def main() -> None:
    """Train, answer, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train and test/STYLE.jsonl")
    parser.add_argument("--style", default="pirate")
    parser.add_argument("--rows", type=int, default=60, help="of the training file; a tenth of them is held out")
    parser.add_argument("--bundle", type=Path, help="measure this one, which was trained on those rows, and train none")
    parser.add_argument("--questions", type=int, help="of the test file, all by default")
    parser.add_argument("--strengths", type=float, nargs="+", default=STRENGTHS)
    parser.add_argument("--max-tokens", type=int, default=96)
    parser.add_argument("--markers", type=Path, help="text file with one marker per line")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--model", type=Path, help="the embedded target by default")
    parser.add_argument("--backbone", help="all-MiniLM-L6-v2 by default")
    parser.add_argument("--output", type=Path, help="append the figures to this file")
    arguments = parser.parse_args()
    files = {split: arguments.data / split / f"{arguments.style}.jsonl" for split in ("train", "test")}
    rows = read_rows(files["train"]).rows[: arguments.rows]
    questions = read_rows(files["test"]).rows[: arguments.questions]
    options = {"model": arguments.model, "backbone": arguments.backbone, "epochs": arguments.epochs}
    with tempfile.TemporaryDirectory() as folder:
        work, training = Path(folder), None
        if arguments.bundle is None:
            few = work / files["train"].name
            few.write_text("".join(json.dumps({"input": row.input, "output": row.output}) + "\n" for row in rows))
            training = trained(few, work / "run", options)
            export(work / "run", work / "bundle", precisions="int8")
            print(f"trained in {training['seconds']:.0f} s", file=sys.stderr, flush=True)
        with atv_local.load(arguments.model, arguments.bundle or work / "bundle") as engine:
            if arguments.markers:
                markers = arguments.markers.read_text(encoding="utf-8").lower().split()
            else:
                plain = answers_to(engine, rows, 0, arguments.max_tokens)
                markers = found_markers([row.output for row in rows], [answer.text for answer in plain])
            base = answers_to(engine, questions, 0, arguments.max_tokens)
            answered = {s: answers_to(engine, questions, s, arguments.max_tokens) for s in arguments.strengths}
    scored = [scores(strength, answers, base, markers) for strength, answers in answered.items()]
    print(dial(scored))
    record = {
        "style": arguments.style,
        "rows": len(rows),
        "questions": len(questions),
        "max_tokens": arguments.max_tokens,
        "training": training,
        "markers": markers,
        "strengths": [asdict(score) for score in scored],
        "answers": {f"{strength:g}": [answer.text for answer in answers] for strength, answers in answered.items()},
    }
    print(json.dumps({key: value for key, value in record.items() if key != "answers"}))
    if arguments.output:
        append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
