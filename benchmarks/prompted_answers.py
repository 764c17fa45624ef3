"""Answers of the unsteered target to the prompts of `atv-local eval`, in PyTorch: many long ones at once on a GPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import atv_local
from atv_eval import EvalPlan, Instructions, Method, QuestionBuilder, Task
from atv_local.names import embedded_model
from atv_local.vectors import OFF, Positions
from atv_train import Example
from atv_train.frozen_target import FrozenTarget, greedy_answers, load_target, target_dtype
from benchmarks.lora import DEVICE

_BATCH = 64


def prompted_answers(
    tasks: Sequence[Task], method: str, instructions: Mapping[str, str], seed: int, n_ctx: int
) -> dict[str, list[str]]:
    """Greedy answers to all rows of each task, which differ from llama.cpp's by rounding: it rounds what it multiplies
    with quantised weights to 8 bits."""
    plan = EvalPlan(tasks, [Method(method)], OFF, seed=seed, instructions=Instructions(instructions))
    target = FrozenTarget(load_target(embedded_model(), target_dtype(DEVICE), DEVICE), Positions.DECODE)
    answers: dict[str, list[str]] = defaultdict(list)
    with atv_local.load(embedded_model(), off=True, n_ctx=n_ctx) as engine:
        vocabulary, of_task = engine.target.vocabulary, defaultdict(list)
        for question in QuestionBuilder(plan, engine).questions({}):
            if question.error:
                raise question.error
            of_task[question.tag.keys[0].task].append(question)
        for task, questions in of_task.items():
            for start in range(0, len(questions), _BATCH):
                batch = questions[start : start + _BATCH]
                examples = [Example(0, "", task, question.prompt.tokens, ()) for question in batch]
                limits = [question.max_tokens for question in batch]
                written = greedy_answers(target, examples, target.zeros(len(batch)), limits, vocabulary.ends)
                for tokens in written:
                    kept = tokens[:-1] if tokens and vocabulary.ends(tokens[-1]) else tokens
                    answers[task].append(vocabulary.text(kept, special=False))
    return dict(answers)
