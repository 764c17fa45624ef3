"""Prompting baselines on the paper's tasks: zero-shot, sixteen demonstrations (icl), or the nearest ones (bm25).

The unsteered target gets a task's wording in its chat template. Demonstrations come from the 90 training rows that the
seed draws: for icl the same for every query, balanced over the answers; for bm25 those most like the query, the most
similar last. Each answer is scored twice: what is written freely, cleaned of what surrounds a label, and the best
among the row's choices. Rows are appended as they are answered; a second run resumes where the first ended.

    python -m benchmarks.prompted --data FOLDER --method zero|icl|bm25 --output FILE.jsonl [--rows N] [--wording 0]
    python -m benchmarks.prompted --summary FILE.jsonl ...
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atv_eval import BM25, balanced, mean_over_tasks
from atv_local.names import embedded_model
from atv_local.target import Target
from benchmarks.paper_tasks import DATA, GROUPS, N_POOL, Row, Task, conversation, load
from benchmarks.prompting import Prompting, clean, common_prefix

Line = dict[str, Any]
KEY = ("method", "shots", "seed", "group", "task", "wording", "index")
MAX_PROMPT = 4096  # tokens; beyond it the first demonstrations go
MAX_ANSWER = 8  # tokens; the longest label has three


def says(answer: str, choices: Sequence[str]) -> str | None:
    """The choice that a free answer is: alone or, as in `A. text` and `(A)`, marked off from what follows."""
    text = clean(answer).removeprefix("answer:").strip(" \"'(*")
    return next((c for c in choices if re.match(rf"{re.escape(c.casefold())}([.):]|$)", text)), None)


def chooser(method: str, pool: Sequence[Row], shots: int, seed: int) -> Callable[[Row], list[Row]]:
    """From a query to its demonstrations."""
    if method == "bm25":
        index = BM25(pool)
        return lambda query: index.nearest(query.input, shots)
    fixed = balanced(pool, shots, seed)
    return lambda _: fixed


def jobs(tasks: list[Task], rows: int, wordings: list[int], task_by_task: bool) -> list[tuple[Task, int, int]]:
    """Task, wording and index: task by task where demonstrations are shared, else row 0 of every task first."""
    every = [(task, w, i) for task in tasks for w in wordings for i in range(min(rows, len(task.rows)))]
    return every if task_by_task else sorted(every, key=lambda job: job[2])


def fit(prompting: Prompting, task: Task, wording: int, shots: list[Row], row: Row) -> list[Row]:
    """The demonstrations without the first ones, as many as it takes for the prompt to fit."""
    while shots and len(prompting.tokens(conversation(task, wording, shots, row))) > MAX_PROMPT:
        shots = shots[1:]
    return shots


def answer(prompting: Prompting, task: Task, wording: int, row: Row, shots: list[Row], fixed: bool) -> Line:
    """One row answered freely and among its choices, on one evaluation of the prompt.

    Where the demonstrations are `fixed` they fit the longest query of the task, so that all share one evaluation.
    """
    longest = max(task.rows, key=lambda row: len(row.input)) if fixed else row
    fitting = fit(prompting, task, wording, shots, longest)
    tokens = prompting.tokens(conversation(task, wording, fitting, row))
    probes = [row._replace(input=text) for text in ("a", "1")]  # the part no query changes is what these two share
    if fixed:
        frames = [prompting.tokens(conversation(task, wording, fitting, probe)) for probe in probes]
    else:
        frames = [prompting.tokens([{"role": "user", "content": probe.input}]) for probe in probes]
    shared = common_prefix(frames[0][: common_prefix(*frames)], tokens)
    text = prompting.free(tokens, shared, MAX_ANSWER)
    choice = prompting.choice(tokens, shared, list(row.choices))
    return {
        "free": says(text, row.choices) == row.output,
        "choice": choice == row.output,
        "answer": text,
        "tokens": len(tokens),
        "dropped": len(shots) - len(fitting),
    }


def read(path: Path) -> Iterator[Line]:
    """The lines of an output file, without one that an interrupt tore."""
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            print(f"{path}: ignoring a torn line", file=sys.stderr)


def measure(arguments: argparse.Namespace) -> None:
    """Answer every row that the output file lacks."""
    method, shots, seed = arguments.method, arguments.shots, arguments.seed
    if method == "zero":
        shots = seed = 0
    done = {tuple(line[name] for name in KEY) for line in read(arguments.output)}
    prompting = Prompting(Target(embedded_model(), n_ctx=2 * MAX_PROMPT, n_threads=arguments.threads))
    tasks = [t for group in arguments.group for t in load(group, "test", sys.maxsize, 0, arguments.data)]
    pools = [t for group in arguments.group for t in load(group, "train", N_POOL, seed, arguments.data)]
    choosers = {pool.name: chooser(method, pool.rows, shots, seed) for pool in pools}
    wordings = [0, 1, 2] if arguments.wording == "all" else [int(arguments.wording)]
    started, n_answered = time.perf_counter(), 0
    with arguments.output.open("a", encoding="utf-8") as file:
        if arguments.output.read_bytes()[-1:] not in (b"", b"\n"):
            file.write("\n")  # a torn line ends here
        for task, wording, index in jobs(tasks, arguments.rows, wordings, method == "icl"):
            key = (method, shots, seed, task.group, task.name, wording, index)
            if key in done:
                continue
            row = task.rows[index]
            line = dict(zip(KEY, key, strict=True))
            line |= answer(prompting, task, wording, row, choosers[task.name](row), fixed=method == "icl")
            file.write(json.dumps(line) + "\n")
            file.flush()
            n_answered += 1
    seconds = time.perf_counter() - started
    print(f"{n_answered} answers in {seconds:.0f} s, {prompting.target.n_evaluated / seconds:.0f} tokens/s")


def best_hits(lines: list[Line], score: str) -> dict[str, NDArray[np.float64]]:
    """For each task the hits of its best wording, on the rows that every wording has answered."""
    tasks: dict[str, dict[int, dict[int, bool]]] = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        tasks[line["task"]][line["wording"]][line["index"]] = line[score]
    best = {}
    for task, wordings in tasks.items():
        common = set.intersection(*map(set, wordings.values()))
        if common:
            hits = [np.array([answers[i] for i in sorted(common)], dtype=np.float64) for answers in wordings.values()]
            best[task] = max(hits, key=lambda found: float(found.mean()))
    return best


def summary(paths: list[Path]) -> None:
    """A line for each method: the best wording counts for each task, chosen on these very rows."""
    runs: dict[tuple[Any, ...], list[Line]] = defaultdict(list)
    for line in (line for path in paths for line in read(path)):
        runs[line["group"], line["method"], line["shots"], line["seed"]].append(line)
    print("group       method shots seed  tasks  rows  free                  choice                 tokens  dropped")
    for (group, method, shots, seed), lines in sorted(runs.items()):
        free, choice = best_hits(lines, "free"), best_hits(lines, "choice")
        tokens = defaultdict(list)
        for line in lines:
            tokens[line["task"]].append(line["tokens"])
        size = f"{len(free):5}  {sum(map(len, free.values())):4}"
        cost = f"{np.mean([np.mean(task) for task in tokens.values()]):7.0f}  {sum(x['dropped'] for x in lines):7}"
        free_text, choices = (f"{mean_over_tasks(hits).percent():20}" for hits in (free, choice))
        print(f"{group:11} {method:6} {shots:5} {seed:4}  {size}  {free_text}  {choices}  {cost}")


def main() -> None:
    """Measure, or sum up what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of tasks; by default $ATV_TASKS")
    parser.add_argument("--rows", type=int, default=150, help="test rows per task")
    parser.add_argument("--method", choices=("zero", "icl", "bm25"))
    parser.add_argument("--wording", choices=("0", "1", "2", "all"), default="all")
    parser.add_argument("--group", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--shots", type=int, default=16, help="demonstrations")
    parser.add_argument("--seed", type=int, default=42, help="draws the rows that demonstrations come from")
    parser.add_argument("--threads", type=int, default=None, help="all cores by default")
    parser.add_argument("--output", type=Path, help="JSON lines, appended to")
    parser.add_argument("--summary", type=Path, nargs="+", metavar="FILE", help="measure nothing; print a table")
    arguments = parser.parse_args()
    if arguments.summary:
        summary(arguments.summary)
    elif arguments.method and arguments.output:
        measure(arguments)
    else:
        parser.error("--method and --output, or --summary")


if __name__ == "__main__":
    main()
