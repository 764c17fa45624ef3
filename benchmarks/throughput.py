"""Queries per second: evaluation as `atv-local eval` does it, against a plain loop over llama-cpp-python.

The same prompts in turn, block by block, so that all meet the same machine: `Llama.create_completion` greedy with all
cores and with its default threads, our base model with whole answers, and as an evaluation reads them, to the token
that decides whether they can be right; and the steered model. The texts of the loop and of ours are compared. Figures
are medians of the blocks, ratios those of each block.

    python -m benchmarks.throughput [--queries 1000] [--max-tokens 16] --output benchmarks/results/throughput.jsonl
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp

import atv_local
from atv_eval import AnswerMatcher
from atv_eval.bench import ratios, spread
from atv_local import Engine
from atv_local.batch import Batch, BatchQuestion, SteeredPrompt
from atv_local.names import embedded_model
from atv_local.target import PromptFormat
from benchmarks.json_lines import append_lines
from benchmarks.tasks import Task, load_tasks

BLOCK = 100
Query = tuple[Task, str]
Run = Callable[[Sequence[Query]], list[str]]


def plain(n_threads: int | None, n_ctx: int, prompts: PromptFormat, max_tokens: int) -> Run:
    """The loop anyone would write; `None` leaves the threads to the library."""
    threads: dict[str, Any] = {} if n_threads is None else {"n_threads": n_threads}
    model = llama_cpp.Llama(str(embedded_model()), n_ctx=n_ctx, verbose=False, **threads)

    def run(queries: Sequence[Query]) -> list[str]:
        texts = []
        for _, query in queries:
            answer: Any = model.create_completion(list(prompts(query).tokens), max_tokens=max_tokens, temperature=0)
            texts.append(answer["choices"][0]["text"])
        return texts

    return run


def ours(engine: Engine, batch: Batch, prompts: PromptFormat, max_tokens: int, *, steered: bool, whole: bool) -> Run:
    """The same through `Batch`."""

    def run(queries: Sequence[Query]) -> list[str]:
        asked = (
            BatchQuestion(
                prompts(query),
                [SteeredPrompt.of(engine.steering, engine.vector(query)) if steered else SteeredPrompt()],
                max_tokens,
                enough=None if whole else AnswerMatcher(task.labels).decided(engine.target.vocabulary),
            )
            for task, query in queries
        )
        return [reply.outcomes[0].text for reply in batch.ask(asked)]

    return run


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--default-threads", action="store_true", help="also the loop with the library's threads")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    engine = atv_local.load()
    batch, prompts, n = Batch(engine), engine.target.prompts, arguments.max_tokens
    rows = [(task, query) for split in ("test", "train") for task in load_tasks(split) for query, _ in task.rows]
    queries = list(itertools.islice(rows, arguments.queries))
    runs = {
        "loop": plain(engine.target.n_threads, engine.target.n_ctx, prompts, n),
        "whole": ours(engine, batch, prompts, n, steered=False, whole=True),
        "evaluation": ours(engine, batch, prompts, n, steered=False, whole=False),
        "steered": ours(engine, batch, prompts, n, steered=True, whole=False),
    }
    if arguments.default_threads:
        runs["loop, default threads"] = plain(None, engine.target.n_ctx, prompts, n)
    blocks: dict[str, list[float]] = {name: [] for name in runs}
    texts: dict[str, list[str]] = {name: [] for name in runs}
    for start in range(0, len(queries), BLOCK):
        for name, run in runs.items():
            started = time.perf_counter()
            texts[name] += run(queries[start : start + BLOCK])
            blocks[name].append(time.perf_counter() - started)
        print(start + BLOCK, {name: round(values[-1], 1) for name, values in blocks.items()}, flush=True)
    record = {
        "queries": len(queries),
        "max_tokens": n,
        "prompt_tokens": sum(len(prompts(query).tokens) for _, query in queries) / len(queries),
        "threads": engine.target.n_threads,
        "per_second": {name: BLOCK / statistics.median(values) for name, values in blocks.items()},
        "times_the_loop": {name: spread(ratios(blocks["loop"], values))._asdict() for name, values in blocks.items()},
        "seconds": blocks,
        "same_text_as_the_loop": sum(a == b for a, b in zip(texts["loop"], texts["whole"], strict=True)) / len(queries),
    }
    print(json.dumps(record, indent=1))
    if arguments.output:
        append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
