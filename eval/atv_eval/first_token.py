"""Time to the first token of each method, one query at a time from an empty cache, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from contextlib import suppress

from atv_eval.eval_plan import EvalPlan
from atv_eval.methods import Method
from atv_eval.questions import QuestionBuilder
from atv_local.answer import Engine
from atv_local.batch import BatchQuestion
from atv_local.errors import AtvError
from atv_local.vectors import OFF


def first_token_ms(plan: EvalPlan, engine: Engine, n_queries: int) -> Mapping[Method, float]:
    """Median of the milliseconds from query to first token; the generator's time is in that of the steered one."""
    times: dict[Method, list[float]] = {method: [] for method in plan.methods}
    for queries in QuestionBuilder(plan, engine).samples(n_queries):
        for method, question in queries.items():
            with suppress(AtvError):  # a row that cannot be answered has been counted as such
                times[method].append(_first_token(plan, engine, method, question))
    return {method: statistics.median(values) for method, values in times.items() if values}


def _first_token(plan: EvalPlan, engine: Engine, method: Method, question: BatchQuestion) -> float:
    if question.error:
        raise question.error
    engine.target.reset()
    row = question.tag.row
    if method in (Method.BASE, Method.STEERED):
        steering = plan.steering if method is Method.STEERED else OFF
        prompt = question.prompt if row.system or row.history else None
        return next(engine.stream(row.input, steering=steering, max_tokens=1, prompt=prompt)).timings_ms.first_token
    started = time.perf_counter()
    engine.target.prefill(question.prompt.tokens[:-1])
    engine.target.evaluate(question.prompt.tokens[-1:]).argmax()
    return 1000 * (time.perf_counter() - started)
