"""Runs a benchmark of steering with any GGUF and returns one record. `costs.py` measures each part.

Without a bundle that fits, a random vector stands in for the generator, so that everything but the generator itself
can be measured with any model that llama.cpp steers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atv_eval.bench import costs
from atv_eval.bench.bench_results import BenchResults
from atv_eval.bench.costs import BenchPlan, Subject
from atv_eval.bench.machine import describe_machine, describe_model, resident
from atv_local.answer import Engine
from atv_local.errors import AtvError, ModelError, UsageError
from atv_local.generator import Bundle, Generator, Provider
from atv_local.names import Choice, choose_bundle, explain_defaults, resolve_model
from atv_local.target import Target
from atv_local.vectors import Steering, random_vector

BenchRecord = dict[str, Any]

PARTS: dict[str, Callable[[Subject, BenchPlan, BenchResults], None]] = {
    "memory": costs.memory,  # first, as the others need memory too
    "generator": costs.generator,
    "vector": costs.vector,
    "first-token": costs.first_token,
    "decode": costs.decode,
    "batch": costs.batch,
}
"""What can be measured, in that order."""

QUICK = BenchPlan(rounds=3, prompts=(32,), n_decode=32, n_queries=12)
MAX_ROUNDS = 10000


@dataclass(frozen=True)
class BenchOptions:
    """What to measure on what; the first ones are those of `atv_local.load`.

    Args:
        bundle: by default the default bundle if it fits the model, else a random vector.
        rounds: how often to repeat each part; by default 7, or 3 if `quick`.
        quick: also with shorter answers.
        only: names of parts; by default all.
    """

    model: str | Path | None = None
    bundle: str | Path | None = None
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int = -1
    provider: Provider | None = None
    template_variables: Mapping[str, Any] | None = None
    rounds: int | None = None
    quick: bool = False
    only: tuple[str, ...] = ()


def parse_parts(text: str) -> tuple[str, ...]:
    """Parts from a list such as `decode,batch`.

    Raises:
        UsageError: no such part.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in PARTS:
            raise UsageError(f"`only` {name!r} is not a part; the parts are {','.join(PARTS)}")
    return tuple(name for name in PARTS if name in names)


def run_benchmark(options: BenchOptions, say: Callable[[str], None]) -> BenchRecord:
    """Measure. The record holds `ratios` and `medians` as in `BenchResults`, with the target, machine and settings.

    Args:
        say: takes lines about the progress.

    Raises:
        AtvError: what `atv_local.load` raises, and nothing that can be measured.
    """
    plan = QUICK if options.quick else BenchPlan()
    if options.rounds is not None:
        if not 2 <= options.rounds <= MAX_ROUNDS:
            raise UsageError(f"`rounds` {options.rounds} is not within 2 to {MAX_ROUNDS}")
        plan = replace(plan, rounds=options.rounds)
    results = BenchResults(say)
    subject = _load(options, results)
    target, generator = subject.engine.target, subject.engine.generator
    if "generator" in options.only and generator is None:
        raise UsageError(f"no bundle fits {target.path}, so it has no generator; name a bundle with `bundle=...`")
    parts = options.only or tuple(name for name in PARTS if generator or name != "generator")
    facts = {"machine": describe_machine(target), "model": describe_model(target)}
    for name in parts:
        say(name)
        try:
            PARTS[name](subject, plan, results)
        except AtvError as error:  # what one part needs, such as a second context, may not be there
            results.note(f"{name} could not be measured: {error}")
    if not results.medians:
        raise UsageError("; ".join(results.notes))
    return {
        "benchmark": "atv-local bench",
        **facts,
        "bundle": _describe(generator) if generator else None,
        "settings": {"parts": parts, "n_gpu_layers": options.n_gpu_layers, **vars(plan)},
        "notes": results.notes,
        "ratios": results.ratios,
        "medians": results.medians,
    }


def _load(options: BenchOptions, results: BenchResults) -> Subject:
    """Target and generator, and the memory before, between and after."""
    memory = {"before the target": resident()}
    path = resolve_model(options.model)
    chosen = choose_bundle(options.bundle, options.model)
    bundle = None if chosen.source else Bundle(chosen.path())
    target = Target(path, n_ctx=options.n_ctx, n_threads=options.n_threads, n_gpu_layers=options.n_gpu_layers)
    memory["with the target"] = resident()
    if bundle is None:
        bundle = _fitting(target, chosen)
    else:
        bundle.check_target(target.spec)
    if bundle is not None:
        generator = Generator(bundle, provider=options.provider)
        forced = replace(generator.steering, gate=0.0)  # the queries belong to no task
        engine = Engine(target, generator, steering=forced, template_variables=options.template_variables)
        memory["with the generator"] = resident()
    elif options.provider:
        raise UsageError(f"no bundle fits {path}, so `provider` has no effect; name a bundle with `bundle=...`")
    else:
        results.note(f"no bundle fits {path.name}: a random vector stands in for the generator")
        engine = Engine(
            target,
            control_vectors=[random_vector(target.n_rows, target.n_embd)],
            steering=Steering(),
            template_variables=options.template_variables,
        )
    return Subject(engine, options.provider, memory)


def _fitting(target: Target, chosen: Choice) -> Bundle | None:
    """The default bundle, if it is there and was made for this target."""
    try:
        path = chosen.path()
        with explain_defaults(None, chosen):
            bundle = Bundle(path)
    except ModelError:
        return None
    return None if bundle.manifest.target.mismatch(target.spec) else bundle


def _describe(generator: Generator) -> BenchRecord:
    import onnxruntime as ort

    spec = generator.bundle.manifest
    return {
        "id": generator.bundle.id,
        "backbone": spec.generator.backbone,
        "max_tokens": spec.generator.max_tokens,
        "precision": generator.precision,
        "provider": generator.provider,
        "positions": spec.injection.positions.value,
        "onnxruntime": ort.__version__,
    }
