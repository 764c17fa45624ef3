"""What an evaluation or a calibration calls while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from atv_eval.answer_records import EvalRecord
from atv_eval.eval_plan import EvalPlan


@dataclass(frozen=True)
class EvalHooks:
    """Functions that an evaluation calls while it works; each may be left out. A calibration calls only `on_message`.

    Args:
        on_plan: before the first answer.
        on_record: with each answer, also those that an earlier evaluation saved.
        on_message: with a line about what is measured next, or could not be.
    """

    on_plan: Callable[[EvalPlan], None] = lambda _: None
    on_record: Callable[[EvalRecord], None] = lambda _: None
    on_message: Callable[[str], None] = lambda _: None
