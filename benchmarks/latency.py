"""Time to the first token and tokens per second on real queries, against llama-cpp-python and 16-shot prompting.

First token: for every query llama-cpp-python alone, our base model, the steered one (generator included) and a 16-shot
prompt answer in turn, each from an empty cache; and once more, base and steered, with the chat template's prefix
already evaluated. Decoding: a bare llama-cpp-python loop and ours under a vector, in turn, the same number of tokens.
What needs no real queries, with any model: `atv-local bench`.

    python -m benchmarks.latency [--rows N] [--rounds N] [--output benchmarks/results/latency.jsonl]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import llama_cpp

import atv_local
from atv_eval.bench import Measure, Samples, in_turn, ratios, seconds, spread
from atv_local.answer import Engine
from atv_local.names import embedded_model
from atv_local.vectors import OFF, Steering
from benchmarks.json_lines import append_lines
from benchmarks.tasks import inline, load_tasks

N_DECODE = 128


def first_token(engine: Engine, query: str, steering: Steering, cold: bool) -> Measure:
    """Milliseconds from query to first token."""

    def measure() -> float:
        if cold:
            engine.target.reset()
        return next(engine.stream(query, steering=steering, max_tokens=1)).timings_ms.first_token

    return measure


def sixteen_shot(engine: Engine, tokens: list[int]) -> Measure:
    """The same for a prompt with demonstrations, from an empty cache."""

    def answer() -> None:
        engine.target.prefill([], tokens[:-1])
        engine.target.evaluate(tokens[-1:]).argmax()

    def measure() -> float:
        engine.target.reset()
        return 1000 * seconds(answer)

    return measure


def bare_first_token(model: llama_cpp.Llama, tokens: list[int]) -> Measure:
    """The same for llama-cpp-python alone, the whole prompt in one batch."""

    def measure() -> float:
        model.reset()
        return 1000 * seconds(lambda: next(model.generate(tokens, temp=0.0, repeat_penalty=1.0)))

    return measure


def bare_decode(model: llama_cpp.Llama, tokens: list[int]) -> float:
    """Tokens per second of llama-cpp-python's own greedy loop, the first token not counted."""
    stream = model.generate(tokens, temp=0.0, repeat_penalty=1.0)
    next(stream)
    started = time.perf_counter()
    for _ in range(N_DECODE):
        next(stream)
    return N_DECODE / (time.perf_counter() - started)


def our_decode(engine: Engine, query: str, steering: Steering) -> float:
    """Tokens per second of ours, the first token not counted."""
    stream = engine.stream(query, steering=steering, max_tokens=N_DECODE + 1)
    next(stream)
    started = time.perf_counter()
    count = sum(1 for _ in stream)
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10, help="queries per task")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of decoding")
    parser.add_argument("--output", type=Path, help="JSON lines, appended to")
    arguments = parser.parse_args()
    engine = atv_local.load(n_ctx=4096)
    always = replace(engine.steering, gate=0.0)  # the gate is computed, and every query steered
    threads = engine.target.n_threads
    model = llama_cpp.Llama(str(embedded_model()), n_ctx=4096, n_threads=threads, flash_attn=True, verbose=False)
    names = ("bare", "base", "steered", "16-shot", "base warm", "steered warm")
    times: Samples = {name: [] for name in names}
    for task in load_tasks():
        for query, _ in task.rows[: arguments.rows]:
            measures = {
                "bare": bare_first_token(model, list(engine.prompts(query).tokens)),
                "base": first_token(engine, query, OFF, cold=True),
                "steered": first_token(engine, query, always, cold=True),
                "16-shot": sixteen_shot(engine, list(engine.prompts(inline(task, task.shots, query)).tokens)),
            }
            for name, samples in in_turn(measures, rounds=1, warm=()).items():
                times[name] += samples
            for name, steering in (("base warm", OFF), ("steered warm", always)):
                first_token(engine, "warm the prefix", OFF, cold=False)()
                times[name].append(first_token(engine, query, steering, cold=False)())
    found = {
        "steered / base": ratios(times["steered"], times["base"]),
        "steered / bare llama-cpp-python": ratios(times["steered"], times["bare"]),
        "steered / base, template evaluated": ratios(times["steered warm"], times["base warm"]),
        "16-shot / steered": ratios(times["16-shot"], times["steered"]),
    }
    query = "Tell me a long story about a ship, its crew and the sea."
    tokens = list(engine.prompts(query).tokens)
    soft = Steering(strength=0.05, gate=0.0)  # weak enough that the answer stays long
    decoding = {"bare": partial(bare_decode, model, tokens), "steered": partial(our_decode, engine, query, soft)}
    rates = in_turn(decoding, max(2, arguments.rounds))
    record = {
        "queries": len(times["base"]),
        "decoded": N_DECODE,
        "threads": threads,
        "first_token_ms": {name: _spread(values) for name, values in times.items()},
        "first_token": {name: _spread(values) for name, values in found.items()},
        "tokens_per_second": {name: _spread(values) for name, values in rates.items()},
        "decoding": {"steered / bare loop": _spread(ratios(rates["steered"], rates["bare"]))},
    }
    print(json.dumps(record, indent=1))
    if arguments.output:
        append_lines(arguments.output, [record])


def _spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    found = spread(values)
    return {name: round(value, 3) for name, value in found._asdict().items()}


if __name__ == "__main__":
    main()
