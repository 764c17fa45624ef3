"""Half task queries, half general chat, through one server with several clients at a time.

python -m benchmarks.mixed_traffic [--bundle DIR] [--tests 70] [--clients 8] [--method NAME ...] --output FILE.jsonl

Each method answers the same queries in the same order, in a server of its own:

- base: the model without steering. Its answers to general queries are what the others are compared with.
- gate: the bundle, as it is served.
- always: the bundle, its gate off.
- router: a logistic regression over the states of the bundle's backbone, trained on training rows and on general
  queries, picks a task or none; a task's prompt has its instruction and 16 of its rows, the model is not steered.
- lora: one LoRA on the same rows changes the model for all queries; in PyTorch, without a server, so without times.

A line of the output has the mean score of each task, the share of general answers that are the base model's to the last
character, milliseconds to the first token and of the whole answer, and the memory of the server.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import atv_local
from atv_eval import Task, balanced, fit_classifier, read_tasks
from atv_eval.bench import spread
from atv_local.data import Row, read_unrelated_queries
from benchmarks.json_lines import append_lines
from benchmarks.server_process import JSON, PATH, server

DATA = Path(__file__).parent.parent / "data" / "demo"
CHAT = Path(__file__).with_name("chat_prompts.txt")
"""Prompts written for this benchmark, which no training has seen."""
METHODS = ("base", "gate", "always", "router", "lora")
GENERAL = "general"
N_SHOTS, MAX_TOKENS, N_WARM = 16, 64, 4
LORA_EPOCHS = 4

Message = dict[str, str]


@dataclass(frozen=True)
class Query:
    """A query of a task, or general chat, which has none."""

    text: str
    task: Task | None = None
    row: Row | None = None


@dataclass(frozen=True)
class Reply:
    """The answer to a query, and when it came, in milliseconds since it was asked."""

    text: str
    first_ms: float = 0.0
    total_ms: float = 0.0


def queries(tasks: Sequence[Task], chat: Sequence[str]) -> list[Query]:
    """Task rows and chat in random order, as many of one as of the other."""
    of_tasks = [Query(row.input, task, row) for task in tasks for row in task.rows]
    rng = random.Random(0)
    rng.shuffle(of_tasks)
    n = min(len(of_tasks), len(chat))
    mixed = of_tasks[:n] + [Query(text) for text in chat[:n]]
    rng.shuffle(mixed)
    return mixed


def served(
    asked: Sequence[Query], options: Sequence[str], body: Callable[[str], Mapping[str, Any]], clients: int
) -> tuple[list[Reply], float]:
    """The replies of a server, and the most memory that it took, in MB."""
    with server(*options, "--queue", str(clients)) as process:

        def ask(text: str) -> Reply:
            connection = http.client.HTTPConnection(process.address)
            started = time.perf_counter()
            request = {"stream": True, "max_tokens": MAX_TOKENS, "temperature": 0, **body(text)}
            connection.request("POST", PATH, json.dumps(request), JSON)
            pieces, first = [], 0.0
            for line in connection.getresponse():
                if line.startswith(b"data: {"):
                    for choice in json.loads(line[6:]).get("choices", ()):
                        if piece := choice["delta"].get("content"):
                            first = first or 1000 * (time.perf_counter() - started)
                            pieces.append(piece)
            connection.close()
            return Reply("".join(pieces), first, 1000 * (time.perf_counter() - started))

        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(ask, [query.text for query in asked[:N_WARM]]))
            replies = list(pool.map(ask, [query.text for query in asked]))
        return replies, psutil.Process(process.process.pid).memory_info().rss / 1e6


def plain(text: str) -> dict[str, Any]:
    """A request whose only message is the query."""
    return {"messages": [{"role": "user", "content": text}]}


def routed(tasks: Sequence[Task], bundle: str | None) -> Callable[[str], dict[str, Any]]:
    """Requests as a router makes them: a classifier chooses the task, whose instruction and rows precede the query."""
    instructions = json.loads((DATA / "instructions.json").read_text(encoding="utf-8"))
    rows = [Row(input=row.input, output=task.name) for task in tasks for row in balanced(task.pool, 300, 0)]
    general = read_unrelated_queries(None)
    rows += [Row(input=text, output=GENERAL) for text in random.Random(0).sample(general, min(len(general), 300))]
    with atv_local.load(None, bundle) as engine:
        classify = fit_classifier(engine, rows, 0)
        found: dict[str, str] = {}

        def chosen(text: str) -> str:
            if text not in found:
                found[text] = classify(text)
            return found[text]

    prompts = {task.name: demonstrations(task, instructions[task.name]) for task in tasks}
    return lambda text: {"messages": [*prompts.get(chosen(text), []), {"role": "user", "content": text}]}


def demonstrations(task: Task, instruction: str) -> list[Message]:
    """The turns before a query: an instruction and rows of the task."""
    shots = balanced(task.pool, N_SHOTS, 0)
    turns = [({"role": "user", "content": s.input}, {"role": "assistant", "content": s.output}) for s in shots]
    return [{"role": "system", "content": instruction}, *(message for turn in turns for message in turn)]


def replies_of(
    method: str, asked: Sequence[Query], tasks: Sequence[Task], bundle: str | None, clients: int
) -> tuple[list[Reply], float]:
    """The replies of a method with a server, and its megabytes."""
    named = ["-g", bundle] if bundle else []
    if method in ("gate", "always"):
        extra = {"steering": {"gate": "off"}} if method == "always" else {}
        return served(asked, named, lambda text: plain(text) | extra, clients)
    return served(asked, ["--off"], plain if method == "base" else routed(tasks, bundle), clients)


def lora(asked: Sequence[Query], tasks: Sequence[Task]) -> dict[str, Any]:
    """The record of a LoRA, which is compared with the same model in PyTorch without it."""
    from benchmarks.lora_answers import LoraAnswers

    texts = [query.text for query in asked]
    answers = LoraAnswers(
        [row.model_copy(update={"task": task.name}) for task in tasks for row in task.pool], LORA_EPOCHS
    )
    found, base = ([Reply(text) for text in ask(texts, MAX_TOKENS)] for ask in (answers, answers.base))
    return summary("lora", asked, found, base)


def summary(method: str, asked: Sequence[Query], replies: Sequence[Reply], base: Sequence[Reply]) -> dict[str, Any]:
    """What is said of a method."""
    scores: dict[str, list[float]] = {}
    same = []
    for query, reply, plain_reply in zip(asked, replies, base, strict=True):
        if query.task is None or query.row is None:
            same.append(reply.text == plain_reply.text)
        else:
            score = query.task.score(query.row, reply.text, None)[query.task.main]
            scores.setdefault(f"{query.task.name} {query.task.main.value}", []).append(score)
    timed = [reply for reply in replies if reply.total_ms]
    return {
        "method": method,
        "queries": len(asked),
        "tasks": {name: {"mean": statistics.mean(values), "rows": len(values)} for name, values in scores.items()},
        "same_general": statistics.mean(same),
        "general": len(same),
        "first_ms": spread([reply.first_ms for reply in timed if reply.first_ms])._asdict() if timed else None,
        "total_ms": spread([reply.total_ms for reply in timed])._asdict() if timed else None,
    }


def lines(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A record for each method."""
    files = {split: sorted((DATA / split).glob("*.jsonl")) for split in ("train", "test")}
    tasks = read_tasks(files["test"], files["train"], {}, arguments.tests, labels=False)
    chat = arguments.chat.read_text(encoding="utf-8").splitlines()
    asked = queries(tasks, chat)
    if "lora" in arguments.method:
        yield lora(asked, tasks)
    through_server = [method for method in METHODS if method in arguments.method and method != "lora"]
    if not through_server:
        return
    base, base_mb = replies_of("base", asked, tasks, arguments.bundle, arguments.clients)
    for method in through_server:
        replies, megabytes = base, base_mb
        if method != "base":
            replies, megabytes = replies_of(method, asked, tasks, arguments.bundle, arguments.clients)
        yield summary(method, asked, replies, base) | {"clients": arguments.clients, "server_mb": round(megabytes)}


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", help="the embedded demo by default")
    parser.add_argument("--chat", type=Path, default=CHAT, help="general queries, one per line")
    parser.add_argument("--tests", type=int, default=70, help="test rows a task")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    for record in lines(arguments):
        print(json.dumps(record), flush=True)
        if arguments.output:
            append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
