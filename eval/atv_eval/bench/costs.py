"""Measures each cost of steering on a loaded engine.

Prompts are random words, since the time does not depend on what they say.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import cycle, islice
from time import perf_counter

import numpy as np

from atv_eval.bench.bench_results import BenchResults
from atv_eval.bench.machine import resident
from atv_eval.bench.timing import Samples, in_turn, seconds
from atv_local.answer import Engine
from atv_local.batch import Batch
from atv_local.errors import BundleError
from atv_local.generator import Generator, Provider
from atv_local.target import PromptFormat
from atv_local.vectors import OFF, Steering, TaskVector

SHOTS = 17
"""A prompt with 16 demonstrations is this many times as long as one with none, if each is as long as the query."""

_SEED = 0
_MANY = 4  # samples of what is quick, for each one of what is slow
_PROMPT = 32


@dataclass(frozen=True)
class BenchPlan:
    """How much to measure; lengths in tokens."""

    rounds: int = 7
    queries: tuple[int, ...] = (8, 32, 64, 128, 256)
    """Lengths in tokens of the queries that the generator reads."""
    prompts: tuple[int, ...] = (32, 128, 512)
    """Lengths in tokens of the queries that the target reads, without the chat template."""
    n_decode: int = 128
    n_toggles: int = 16
    n_queries: int = 24
    """Answered one by one and together: queries of `n_query` tokens, answers of at most `n_answer`."""
    n_query: int = 8
    n_answer: int = 16


@dataclass
class Subject:
    """An engine that steers, and the resident memory in MiB at stages of its loading."""

    engine: Engine
    provider: Provider | None
    memory: dict[str, float]

    @cached_property
    def together(self) -> Batch:
        """A context for many queries."""
        return Batch(self.engine)

    @cached_property
    def prompts(self) -> PromptFormat:
        """The engine's prompt format."""
        return self.engine.prompts

    @cached_property
    def template(self) -> int:
        """Tokens of a prompt around its query, nearly: they may merge with it."""
        own = self.engine.target.vocabulary.tokenize(self._words[0], special=False)
        return len(self.prompts(self._words[0]).tokens) - len(own)

    def text(self, tokens: int, number: int = 0) -> str:
        """A query of at most that many tokens in the target's prompt; another one for each number."""
        words = list(islice(cycle(self._words), number * tokens, (number + 1) * tokens))
        limit = tokens + self.template
        fitting = bisect_right(range(1, tokens + 1), limit, key=lambda n: len(self.prompts(" ".join(words[:n])).tokens))
        return " ".join(words[: max(1, fitting)])

    def vector(self) -> TaskVector:
        """The rows of some query."""
        return self.engine.steering.apply(self.engine.vector(self.text(_PROMPT)))

    @cached_property
    def _words(self) -> list[str]:
        vocabulary = self.engine.target.vocabulary
        order = np.random.default_rng(_SEED).permutation(vocabulary.n_tokens)
        pieces = (vocabulary.piece(int(token)).decode("utf-8", "replace").strip() for token in order)
        return list(islice((piece for piece in pieces if piece.isascii() and piece.isalpha()), 500)) or ["a"]


def memory(subject: Subject, _plan: BenchPlan, results: BenchResults) -> None:
    """Resident memory of this process as it grew; with a context for many queries in the end."""
    stages = dict(subject.memory)
    assert subject.together  # makes it
    stages["with a context for many queries"] = resident()
    values = {name: [value] for name, value in stages.items()}
    below, above = "with the target", "with the generator"
    results.add("memory", None, "MB", values, [(above, below)] if above in values else [])


def generator(subject: Subject, plan: BenchPlan, results: BenchResults) -> None:
    """Query to vector, by the length of the query and the precision of the graph."""
    loaded = subject.engine.generator
    assert loaded is not None
    graphs = {loaded.precision: loaded}
    for precision in loaded.bundle.graphs:
        if precision != loaded.precision:
            try:
                graphs[precision] = Generator(loaded.bundle, provider=subject.provider, precision=precision)
            except BundleError as error:
                results.note(f"the {precision} graph is left out: {error}")
    around = len(loaded.read("a").ids) - 1
    longest = loaded.bundle.manifest.generator.max_tokens
    names = {precision: f"{precision} on {graph.provider}" for precision, graph in graphs.items()}
    for length in [n for n in plan.queries if n <= longest] or [longest]:
        text = " ".join(["a"] * max(1, length - around))
        measures = {names[p]: partial(_milliseconds, partial(graph, text)) for p, graph in graphs.items()}
        samples = in_turn(measures, _MANY * plan.rounds)
        first, *others = names.values()
        results.add("generator", len(loaded.read(text).ids), "ms", samples, [(other, first) for other in others])


def vector(subject: Subject, plan: BenchPlan, results: BenchResults) -> None:
    """What it costs to change the vector once, and to switch it at every token."""
    target, rows = subject.engine.target, subject.vector()
    *head, last = subject.prompts(subject.text(_PROMPT)).tokens
    step = partial(target.evaluate, [last])

    def begin() -> None:
        target.prefill(head)
        target.apply(rows)
        step()  # the first token after a change is slow

    same, call, changed = "token under the same vector", "apply", "token after a change"
    samples: Samples = {same: [], call: [], changed: []}
    for _ in range(_MANY * plan.rounds):
        begin()
        samples[same].append(_milliseconds(step))
        samples[call].append(_milliseconds(partial(target.apply, 0.5 * rows)))
        samples[changed].append(_milliseconds(step))
    results.add("vector", None, "ms", samples, [(changed, same)])
    added = [a + b - c for a, b, c in zip(samples[call], samples[changed], samples[same], strict=True)]
    results.add("vector", None, "ms", {"what a change adds, apply included": added})

    def switched(switch: Callable[[int], None]) -> float:
        begin()
        started = perf_counter()
        for place in range(plan.n_toggles):
            switch(place)
            step()
        return 1000 * (perf_counter() - started) / plan.n_toggles

    steady, toggled = "token, vector kept", "token, vector off and on"
    measures = {
        steady: partial(switched, lambda _: None),
        toggled: partial(switched, lambda place: target.apply(rows) if place % 2 else target.clear()),
    }
    results.add("vector", plan.n_toggles, "ms", in_turn(measures, plan.rounds), [(toggled, steady)])


def first_token(subject: Subject, plan: BenchPlan, results: BenchResults) -> None:
    """From query to first token with an empty cache: base, steered (generator included), and 16-shot."""
    engine = subject.engine
    room = engine.target.n_ctx - subject.template - 1

    def measure(text: str, steering: Steering) -> float:
        engine.target.reset()
        return next(engine.stream(text, steering=steering, max_tokens=1)).timings_ms.first_token

    for length in plan.prompts:
        if length > room:
            results.note(f"the context of {engine.target.n_ctx} tokens has no room for a prompt of {length}")
            continue
        results.say(f"first-token, {length} tokens")
        long = min(SHOTS * length, room)
        if long < SHOTS * length:
            results.note(f"the 16-shot prompt of queries of {length} tokens is cut to {long} tokens by the context")
        text = subject.text(length)
        measures = {
            "base": partial(measure, text, OFF),
            "steered": partial(measure, text, engine.steering),
            "16-shot": partial(measure, subject.text(long), OFF),
        }
        samples = in_turn(measures, plan.rounds, warm=("base", "steered"))
        results.add("first-token", length, "ms", samples, [("steered", "base"), ("16-shot", "steered")])


def decode(subject: Subject, plan: BenchPlan, results: BenchResults) -> None:
    """Tokens per second of a greedy loop, the first token not counted; ends of an answer are ignored."""
    target, rows = subject.engine.target, subject.vector()
    *head, last = subject.prompts(subject.text(_PROMPT)).tokens
    length = max(1, min(plan.n_decode, target.n_ctx - len(head) - 1))

    def measure(steered: bool) -> float:
        target.prefill(head)
        if steered:
            target.apply(rows)
        token = int(target.evaluate([last]).argmax())
        started = perf_counter()
        for _ in range(length):
            token = int(target.evaluate([token]).argmax())
        return length / (perf_counter() - started)

    samples = in_turn({"off": partial(measure, False), "steered": partial(measure, True)}, plan.rounds)
    results.add("decode", length, "tokens/s", samples, [("steered", "off")])


def batch(subject: Subject, plan: BenchPlan, results: BenchResults) -> None:
    """Steered queries per second, one by one and together."""
    engine = subject.engine
    queries = [subject.text(plan.n_query, number) for number in range(plan.n_queries)]
    answers: dict[str, list[str]] = {}

    def alone() -> None:
        engine.target.reset()
        answers["one by one"] = [engine.answer(query, max_tokens=plan.n_answer).text for query in queries]

    def together() -> None:
        answers["together"] = [answer.text for answer in subject.together.answer(queries, max_tokens=plan.n_answer)]

    measures = {
        "one by one": lambda: len(queries) / seconds(alone),
        "together": lambda: len(queries) / seconds(together),
    }
    samples = in_turn(measures, plan.rounds)
    results.add("batch", len(queries), "queries/s", samples, [("together", "one by one")])
    alike = sum(a == b for a, b in zip(*answers.values(), strict=True))
    results.note(f"{alike} of {len(queries)} answers are the same together as one by one")


def _milliseconds(work: Callable[[], object]) -> float:
    return 1000 * seconds(work)
