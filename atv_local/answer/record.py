"""An answer as a JSON record: counts, times and what steered it. What `run --json` prints and chats keep."""

from __future__ import annotations

from typing import Any

from atv_local.answer.engine import Engine, Event
from atv_local.vectors import Steering


def answer_record(engine: Engine, steering: Steering, last: Event) -> dict[str, Any]:
    """Everything about an answer but its text, by its last event; times in milliseconds."""
    steered = not steering.off
    generator = engine.generator if steered else None
    return {
        "finish_reason": last.finish,
        "tokens": {
            "prompt": last.prompt_tokens,
            "evaluated": last.evaluated_tokens,
            "generated": last.generated_tokens,
        },
        "timings_ms": {
            "generator": round(last.generator_ms, 2),
            "first_token": round(last.first_token_ms, 2),
            "total": round(last.total_ms, 2),
        },
        "bundle": generator.bundle.id if generator else None,
        "precision": generator.precision if generator else None,
        "provider": generator.provider if generator else None,
        "strength": steering.strength,
        "layers": list(steering.range(engine.target.n_rows)) if steered else None,
        "positions": steering.positions if steered else None,
    }
