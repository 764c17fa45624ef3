"""Decoding under a JSON schema against free decoding, and whether the answers are valid, with the embedded target.

Each query is answered freely, under a schema and under a grammar that allows any text, in turn; a sample is the tokens
per second after the first token. The free answers are those of a prompt that asks for the same JSON, so that they are
about as long. Valid is JSON with exactly the keys and types that the schema asks for.

    python -m benchmarks.structured [--rows N] [--threads N] [--output FILE.jsonl]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import atv_local
from atv_eval.bench import Samples, in_turn, ratios, spread
from atv_local.answer import Engine
from atv_local.vectors import OFF
from benchmarks.json_lines import append_lines

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["name", "age", "city"],
}
TYPES = {"name": str, "age": int, "city": str}
SYSTEM = 'Answer with a JSON object with the keys "name", "age" and "city", and nothing else.'
NAMES = ("Anna", "Bert", "Chloé", "Dmitri", "Esra", "Fatima", "Gábor", "Hannah", "Ivo", "Jürgen")
CITIES = ("Oslo", "Lima", "São Paulo", "Kyoto", "Nairobi")
RESTRICTIONS: Mapping[str, Mapping[str, Any]] = {
    "free": {},
    "schema": {"schema": SCHEMA},
    "any text": {"grammar": "root ::= .*"},
}
MAX_TOKENS = 64


def queries(count: int) -> list[str]:
    """Different sentences about people."""
    people = ((NAMES[n % 10], 18 + 7 * n % 60, CITIES[n // 10 % 5]) for n in range(count))
    return [f"{name}, who is {age} years old, has just moved to {city}." for name, age, city in people]


def is_valid(text: str) -> bool:
    """Whether an answer is what the schema asks for."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and {key: type(value) for key, value in found.items()} == TYPES


def decoding(engine: Engine, query: str, texts: list[str], restriction: Mapping[str, Any]) -> Callable[[], float]:
    """Tokens per second after the first; the answer is added to `texts`."""

    def measure() -> float:
        stream = engine.stream(query, system=SYSTEM, steering=OFF, max_tokens=MAX_TOKENS, **restriction)
        events = [next(stream)]
        started = perf_counter()
        events += stream
        elapsed = perf_counter() - started
        texts.append("".join(event.text for event in events))
        return (len(events) - 1) / elapsed

    return measure


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50, help="queries")
    parser.add_argument("--threads", type=int, default=None, help="of llama.cpp; by default all cores")
    parser.add_argument("--output", type=Path, help="append the figures to this file")
    arguments = parser.parse_args()
    rates: Samples = {name: [] for name in RESTRICTIONS}
    texts: dict[str, list[str]] = {name: [] for name in RESTRICTIONS}
    with atv_local.load(off=True, n_threads=arguments.threads) as engine:
        for restriction in RESTRICTIONS.values():  # compiled, and the prompt's beginning evaluated
            decoding(engine, "Warm up.", [], restriction)()
        for place, query in enumerate(queries(arguments.rows)):
            turn = list(RESTRICTIONS.items())[:: -1 if place % 2 else 1]
            measures = {name: decoding(engine, query, texts[name], given) for name, given in turn}
            for name, samples in in_turn(measures, rounds=1, warm=()).items():
                rates[name] += samples
    valid = {name: sum(map(is_valid, answers)) for name, answers in texts.items()}
    against = {name: spread(ratios(rates[name], rates["free"])) for name in RESTRICTIONS if name != "free"}
    print(f"decoding, {arguments.rows} queries, each answered in turn; median")
    for name, values in rates.items():
        print(f"  {name:10} {spread(values).median:6.1f} tokens/s, {valid[name]} of {arguments.rows} answers valid")
    for name, ratio in against.items():
        print(f"  {name} / free  {ratio.median:.3f}  (quartiles {ratio.low:.3f} to {ratio.high:.3f})")
    if arguments.output:
        record = {
            "rows": arguments.rows,
            "threads": engine.target.n_threads,
            "tokens_per_second": {name: spread(values)._asdict() for name, values in rates.items()},
            "times_free": {name: ratio._asdict() for name, ratio in against.items()},
            "valid": valid,
        }
        append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
