"""Accuracy on `test` rows: steered through the bundle and llama.cpp, against prompting the same target.

Steered: greedy, free text, exact match. Prompting gets the instruction and the labels in the chat template, three
wordings, zero and sixteen demonstrations, each scored twice: free text (cleaned of case, quotes and full stops) and
greedy among the labels. The best wording counts, chosen on these very rows, which favours prompting. And on stderr how
many queries outside the tasks are answered as without steering, and the first rows of each task at other strengths.

    python -m benchmarks.accuracy [--rows N] [--bundle DIR] [--update FILE.md ...]
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

import atv_local
from atv_local import Engine
from atv_local.data import held_out, read_unrelated_queries
from atv_local.names import embedded_model
from atv_local.target import Target
from benchmarks.prompting import Prompting, clean, common_prefix
from benchmarks.tasks import WORDINGS, Task, load_tasks

Scores = dict[str, float]
STRENGTHS, STRENGTH_ROWS = (0.5, 2.0), 60


def steered(bundle: Path | None, tasks: list[Task], strength: float = 1) -> Scores:
    """Share of exactly right answers per task, by the path that `atv-local run` takes."""
    engine = atv_local.load(bundle=bundle)
    scores = {}
    for task in tasks:
        right = [answer(engine, query, strength).strip() == output for query, output in task.rows]
        scores[task.name] = mean(right)
        report(f"steered, strength {strength:g}", task, scores[task.name])
    return scores


def answer(engine: Engine, query: str, strength: float) -> str:
    """Sixteen greedy tokens."""
    steering = replace(engine.steering, strength=strength)
    return engine.answer(query, steering=steering, max_tokens=16).text


def left_alone(bundle: Path | None) -> None:
    """How many of the unrelated queries held out in training get the unsteered answer, word for word in 16 tokens."""
    engine, queries = atv_local.load(bundle=bundle), held_out(read_unrelated_queries(None))
    same = sum(answer(engine, query, 1) == answer(engine, query, 0) for query in queries)
    print(f"{same} of {len(queries)} queries outside the tasks are answered as without steering", file=sys.stderr)


def prompted(tasks: list[Task], n_shots: int) -> tuple[Scores, Scores]:
    """Free text and restricted choice, each with the best of the wordings per task."""
    prompting = Prompting(Target(embedded_model(), n_ctx=4096))
    free: Scores = {}
    choice: Scores = {}
    for task in tasks:
        results: dict[str, list[list[bool]]] = {"free": [], "choice": []}
        for wording in WORDINGS:
            prompts = [prompting.tokens(wording(task, task.shots[:n_shots], query)) for query, _ in task.rows]
            shared = min((common_prefix(prompts[0], prompt) for prompt in prompts[1:]), default=0)
            free_hits, choice_hits = [], []
            for tokens, (_, output) in zip(prompts, task.rows, strict=True):
                head = min(shared, len(tokens) - 1)
                free_hits.append(clean(prompting.free(tokens, head)) == output.casefold())
                choice_hits.append(prompting.choice(tokens, head, task.labels) == output)
            results["free"].append(free_hits)
            results["choice"].append(choice_hits)
            report(f"{n_shots}-shot {wording.__name__}", task, mean(free_hits), mean(choice_hits))
        free[task.name] = max(map(mean, results["free"]))
        choice[task.name] = max(map(mean, results["choice"]))
    return free, choice


def mean(hits: list[bool]) -> float:
    """Share of hits in percent."""
    return 100 * sum(hits) / len(hits)


def report(name: str, task: Task, *scores: float) -> None:
    """One line of progress on stderr."""
    print(f"{name:24} {task.name:18}", *(f"{score:5.1f}" for score in scores), file=sys.stderr, flush=True)


def table(columns: dict[str, Scores]) -> str:
    """Markdown: a row per task and one for the mean of tasks."""
    names = list(next(iter(columns.values())))
    lines = ["| task | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name in names:
        lines.append(f"| {name} | " + " | ".join(f"{scores[name]:.1f}" for scores in columns.values()) + " |")
    means = (sum(scores.values()) / len(scores) for scores in columns.values())
    return "\n".join([*lines, "| **mean** | " + " | ".join(f"**{value:.1f}**" for value in means) + " |"])


def update(path: Path, text: str) -> None:
    """Put the table between the markers of a document."""
    pattern = re.compile(r"(<!-- accuracy -->\n).*?(<!-- /accuracy -->)", re.DOTALL)
    path.write_text(pattern.sub(lambda match: f"{match[1]}{text}\n{match[2]}", path.read_text()))


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=None, help="rows per task, all by default")
    parser.add_argument("--bundle", type=Path, default=None, help="the demo bundle by default")
    parser.add_argument("--update", type=Path, nargs="*", default=[], help="documents whose table to replace")
    arguments = parser.parse_args()
    tasks = [Task(t.name, t.rows[: arguments.rows], t.labels, t.shots) for t in load_tasks()]
    columns = {"steered": steered(arguments.bundle, tasks)}
    left_alone(arguments.bundle)
    first = [Task(t.name, t.rows[:STRENGTH_ROWS], t.labels, t.shots) for t in tasks]
    for strength in STRENGTHS:
        steered(arguments.bundle, first, strength)
    for n_shots in (0, 16):
        name = "16-shot" if n_shots else "zero-shot"
        columns[name], columns[f"{name}, labels only"] = prompted(tasks, n_shots)
    text = table(columns)
    print(text)
    for path in arguments.update:
        update(path, text)


if __name__ == "__main__":
    main()
