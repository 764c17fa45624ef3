"""Tasks that a bundle is told of and was not trained on: its static vector, its own ones, and what it does by itself.

python -m benchmarks.told --data FOLDER --bundle BUNDLE --output FILE.jsonl [--group unseen_dev] [--task NAME ...]

Every row is asked with the instruction of its task and its allowed answers, in the same words for all methods: the base
model, the static vector, the generator's vector whatever the gate says, and the bundle as `--instruction` asks it. An
answer is right if it is the wanted text; the most likely of the allowed answers is scored as well. A line of the output
has the results of one method for the rows of one task; `by_static` says which ones the gate finds unlike the bundle's.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import atv_local
from atv_local.answer import Engine
from atv_local.batch import Batch, BatchQuestion, SteeredPrompt
from atv_local.data import Row, read_rows, tell, with_choices
from atv_local.vectors import OFF
from benchmarks.json_lines import append_lines

METHODS = ("base", "static", "adaptive", "bundle")
ROOM = 4
"""Tokens that an answer may have beyond the longest right one of its task."""


@dataclass(frozen=True)
class AskedRow:
    """A row and how it was asked."""

    task: str
    row: Row
    by_static: bool


def questions(engine: Engine, task: str, instruction: str, rows: list[Row]) -> Iterator[BatchQuestion]:
    """Each row in the ways of `METHODS`, of which the last has one way to answer freely and one among the choices."""
    prompts, generator = engine.prompts, engine.generators[0]
    limit = max(len(prompts.answer(row.input, row.output)) for row in rows) + ROOM
    steering = replace(engine.steering, gate=0.0)
    for row in rows:
        text = tell(with_choices(instruction, row.choices), row.input)
        listed = row.choices or ()
        own = engine.asked(row.input, instruction=instruction, listed=listed, steering=engine.steering)
        among = engine.asked(row.input, instruction=instruction, choices=listed, steering=engine.steering)
        ways = [
            SteeredPrompt.of(OFF, None),
            SteeredPrompt.of(steering, generator.static),
            SteeredPrompt.of(steering, generator(text)),
            SteeredPrompt.of_asked(engine, own),
            SteeredPrompt.of_asked(engine, among),
        ]
        options = [prompts.answer(text, choice) for choice in row.choices or ()]
        yield BatchQuestion(prompts(text), ways, limit, options, tag=AskedRow(task, row, own.static))


def measure(
    engine: Engine, data: Path, tasks: list[str], splits: list[str], limit: int | None = None
) -> Iterator[dict[str, object]]:
    """The results of every task's first rows, by default all, one method after the other."""
    instructions = json.loads((data / "instructions.json").read_text())
    with Batch(engine) as batch:
        for task in tasks:
            rows = [row for split in splits for row in read_rows(data / task / f"{split}.jsonl").rows][:limit]
            exact: dict[str, list[int]] = defaultdict(list)
            choice: dict[str, list[int]] = defaultdict(list)
            by_static: list[int] = []
            for reply in batch.ask(questions(engine, task, instructions[task], rows)):
                if reply.error:
                    raise reply.error
                asked: AskedRow = reply.question.tag
                by_static.append(int(asked.by_static))
                for place, method in enumerate(METHODS):
                    exact[method].append(int(reply.outcomes[place].text.strip() == asked.row.output.strip()))
                    if asked.row.choices:
                        options = reply.outcomes[place + (method == METHODS[-1])].options
                        best = max(range(len(options)), key=options.__getitem__)
                        choice[method].append(int(asked.row.choices[best] == asked.row.output))
            for method in METHODS:
                yield {
                    "bundle": engine.generators[0].bundle.id,
                    "task": task,
                    "method": method,
                    "rows": len(rows),
                    "exact": exact[method],
                    "choice": choice[method],
                    "by_static": by_static,
                }


def main() -> None:
    """Measure, print the shares, and append the results to the output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--bundle", required=True, help="with a static vector")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--group", default="unseen_dev", help="of tasks in index.json")
    parser.add_argument("--task", nargs="+", help="in place of a group")
    parser.add_argument("--split", nargs="+", default=["test", "valid"])
    arguments = parser.parse_args()
    index = json.loads((arguments.data / "index.json").read_text())
    tasks = arguments.task or [name for name, entry in index.items() if entry.get("group") == arguments.group]
    with atv_local.load("default", arguments.bundle, n_ctx=4096) as engine:
        if engine.generators[0].static is None:
            raise SystemExit(f"{arguments.bundle} has no static vector")
        for record in measure(engine, arguments.data, tasks, arguments.split):
            append_lines(arguments.output, [record])
            hits, best = record["exact"], record["choice"]
            assert isinstance(hits, list)
            assert isinstance(best, list)
            share = f"{100 * sum(best) / len(best):.1f}" if best else "-"
            print(f"{record['task']:40} {record['method']:10} {100 * sum(hits) / len(hits):5.1f} {share:>5}")


if __name__ == "__main__":
    main()
