"""A style from few rows: train, export, and answer questions that were not trained on along the strength dial.

python -m benchmarks.style [--style pirate] [--rows 60] [--bundle DIR] [--markers FILE] [--output FILE.jsonl]

Nothing judges the answers but rules:

- A marker is a word of the style: in at least a tenth of the training outputs and in no answer of the base model to the
  training questions. `--markers FILE` gives them instead, one word per line.
- Overlap is the share of an answer's content words that are also in the base model's answer to the same question. The
  same against the base model's answers to the other questions says how much is chance. Content words have at least
  five letters and are not markers; they are compared by their first five letters.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import atv_local
from atv_eval import table
from atv_export import export
from atv_local import OFF, Answer, Engine, Finish
from atv_local.data import Row, read_rows
from atv_train import train

DATA = Path(__file__).parent.parent / "data" / "demo"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
MARKER_SHARE = 0.1  # of the training outputs that have a marker
MIN_LETTERS = STEM = 5  # of a content word


@dataclass(frozen=True)
class StyleScores:
    """The answers at one strength: means over the questions, shares from 0 to 1."""

    strength: float
    marked: float
    """Share of answers with at least one marker."""
    markers_per_10_words: float
    overlap: float
    chance_overlap: float
    words: float
    ended: float
    """Share of answers that ended before `--max-tokens`."""


def words_of(text: str) -> list[str]:
    """Its words in lower case, without punctuation."""
    return re.findall(r"[^\W\d_]+", text.lower())


def found_markers(outputs: Sequence[str], base_answers: Iterable[str]) -> list[str]:
    """Words in at least `MARKER_SHARE` of the training outputs and in no answer of the base model, commonest first."""
    plain = {word for answer in base_answers for word in words_of(answer)}
    counts = Counter(word for output in outputs for word in set(words_of(output)))
    return [word for word, n in counts.most_common() if n >= MARKER_SHARE * len(outputs) and word not in plain]


def content_words(text: str, markers: Collection[str]) -> set[str]:
    """Stems of the words that say something and are not of the style."""
    return {word[:STEM] for word in words_of(text) if len(word) >= MIN_LETTERS and word not in markers}


def scores(strength: float, answers: Sequence[Answer], base: Sequence[Answer], markers: Collection[str]) -> StyleScores:
    """Of the answers to all questions; `base` has the base model's answers to the same."""
    words = [words_of(answer.text) for answer in answers]
    counts = [sum(word in markers for word in answer) for answer in words]
    own, other = overlaps([answer.text for answer in answers], [answer.text for answer in base], markers)
    return StyleScores(
        strength=strength,
        marked=mean(count > 0 for count in counts),
        markers_per_10_words=10 * sum(counts) / max(1, sum(map(len, words))),
        overlap=own,
        chance_overlap=other,
        words=mean(map(len, words)),
        ended=mean(answer.finish_reason is Finish.STOP for answer in answers),
    )


def overlaps(answers: Sequence[str], base: Sequence[str], markers: Collection[str]) -> tuple[float, float]:
    """Mean share of content words shared with the base answer to the same question, and to each other question."""
    ours, theirs = ([content_words(text, markers) for text in texts] for texts in (answers, base))
    own, other = [], []
    for index, words in enumerate(ours):
        if words:
            shares = [len(words & reference) / len(words) for reference in theirs]
            own.append(shares.pop(index))
            other += shares
    return mean(own or [0.0]), mean(other or [0.0])


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


def dial(scored: Iterable[StyleScores]) -> str:
    """A Markdown table, a row for each strength."""
    head = [
        "strength",
        "answers with a marker, %",
        "markers per 10 words",
        "overlap with the base answer, %",
        "with other base answers, %",
        "words",
        "ended, %",
    ]
    return table(
        head,
        [
            [
                f"{s.strength:g}",
                f"{100 * s.marked:.0f}",
                f"{s.markers_per_10_words:.1f}",
                f"{100 * s.overlap:.0f}",
                f"{100 * s.chance_overlap:.0f}",
                f"{s.words:.0f}",
                f"{100 * s.ended:.0f}",
            ]
            for s in scored
        ],
    )


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
        with arguments.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
