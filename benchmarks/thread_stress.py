"""Many threads over shared targets: every answer must be the one that it is alone.

    python -m benchmarks.thread_stress [--seconds 60] [--threads 8] [--seed 0] [--model GGUF] [--bundle BUNDLE]

Threads answer, stream, close streams half way, answer many queries and ask for vectors, with engines that share two
targets. Prints one JSON record, and ends with 1 if an answer differs or a call raises what it should not.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import random
import sys
import threading
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any

from atv_local.answer import Engine
from atv_local.generator import Bundle, Generator
from atv_local.names import choose_bundle, choose_model
from atv_local.target import Sampling, Target
from atv_local.vectors import OFF, Positions, Steering
from benchmarks.json_lines import append_lines

QUERIES = ("apple 1", "dog 1", "what is this?", "the first\nof two lines", "Zürich 7", "a" * 60)
STEERINGS = (None, OFF, Steering(strength=0.5), Steering(positions=Positions.ALL))
SAMPLINGS = (Sampling(), Sampling(temperature=1.0, seed=7))
KINDS = ("answer", "chat", "stream", "stop", "many", "vector")
WEIGHTS = (6, 2, 4, 4, 1, 2)
MAX_TOKENS = 12

Case = tuple[str, Steering | None, Sampling]
CASES: list[Case] = list(itertools.product(QUERIES, STEERINGS, SAMPLINGS))


class Stress:
    """Engines that share targets, what each case's answer is alone, and what was seen."""

    def __init__(self, model: Path, bundle: Path) -> None:
        generator = Generator(Bundle(bundle))
        targets = [Target(model, n_ctx=256, n_threads=1) for _ in range(2)]
        self.engines = [Engine(target, generator) for target in targets for _ in range(2)]
        alone = self.engines[0]
        self.expected = [self._pieces(alone, case) for case in CASES]
        self.many = [self._many(alone, case) for case in CASES]
        self.vectors = {query: alone.vector(query) for query in QUERIES}
        self.seen: Counter[str] = Counter()
        self.failures: list[str] = []

    def _pieces(self, engine: Engine, case: Case) -> list[str]:
        query, steering, sampling = case
        return [
            event.text for event in engine.stream(query, steering=steering, sampling=sampling, max_tokens=MAX_TOKENS)
        ]

    def _many(self, engine: Engine, case: Case) -> list[str]:
        query, steering, sampling = case
        answers = engine.answer_many([query, query], steering=steering, sampling=sampling, max_tokens=MAX_TOKENS)
        return [answer.text for answer in answers]

    def one(self, dice: random.Random) -> None:
        """One call, compared with the lone answer."""
        engine, number = dice.choice(self.engines), dice.randrange(len(CASES))
        (query, steering, sampling), expected = CASES[number], self.expected[number]
        settings: dict[str, Any] = {"steering": steering, "sampling": sampling, "max_tokens": MAX_TOKENS}
        kind = dice.choices(KINDS, WEIGHTS)[0]
        whole = "".join(expected)
        if kind == "answer":
            same = engine.answer(query, **settings).text == whole
        elif kind == "chat":
            same = engine.chat([{"role": "user", "content": query}], **settings).text == whole
        elif kind == "stream":
            same = [event.text for event in engine.stream(query, **settings)] == expected
        elif kind == "stop":
            n = dice.randint(1, len(expected))
            events = engine.stream(query, **settings)
            same = [event.text for event in itertools.islice(events, n)] == expected[:n]
            events.close()
        elif kind == "many":
            same = self._many(engine, CASES[number]) == self.many[number]
        else:
            same = bool((engine.vector(query).array == self.vectors[query].array).all())
        self.seen[kind] += 1
        if not same:
            self.failures.append(f"{kind} of {CASES[number]} differs from the lone answer")

    def run(self, end: float, seed: int) -> None:
        """One thread."""
        dice = random.Random(seed)
        while monotonic() < end:
            try:
                self.one(dice)
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")


def main() -> int:
    """Run the threads and print the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--output", type=Path, help="append the record to this file")
    arguments = parser.parse_args()
    faulthandler.enable()
    bundle = arguments.bundle or choose_bundle(None, None).path()
    stress = Stress(arguments.model or choose_model(None).path(), bundle)
    end = monotonic() + arguments.seconds
    seeds = range(arguments.seed * arguments.threads, (arguments.seed + 1) * arguments.threads)
    threads = [threading.Thread(target=stress.run, args=(end, seed)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = {
        "seconds": arguments.seconds,
        "threads": arguments.threads,
        "calls": dict(sorted(stress.seen.items())),
        "failures": len(stress.failures),
        "first_failures": stress.failures[:5],
    }
    print(json.dumps(record))
    if arguments.output:
        append_lines(arguments.output, [{"what": "threads"} | record])
    return 1 if stress.failures or not stress.seen else 0


if __name__ == "__main__":
    sys.exit(main())
