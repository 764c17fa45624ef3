"""What an evaluation asks: the prompts of rows with a system message or earlier turns."""

from __future__ import annotations

import pytest

from atv_eval.eval_plan import EvalPlan
from atv_eval.eval_task import Task
from atv_eval.instructions import Instructions
from atv_eval.methods import Method
from atv_eval.questions import QuestionBuilder
from atv_local.answer import Engine
from atv_local.data import Row
from atv_local.target import Target
from atv_local.vectors import Steering

POOL = [Row(input="hen", output="b"), Row(input="pear", output="a")]
ROWS = [
    Row(input="fig", output="a", system="Be brief."),
    Row(input="cat", output="b", system="Be brief.", history=(("hi", "hello"),)),
    Row(input="dog", output="b"),
]


@pytest.mark.parametrize("method", [Method.BASE, Method.ZERO_SHOT, Method.SHOTS, Method.BM25])
def test_every_prompt_of_a_row_has_its_system_message_and_earlier_turns(target: Target, method: Method) -> None:
    plan = EvalPlan(
        [Task.of("t", ROWS, POOL)], [method], Steering(), n_shots=1, instructions=Instructions({"t": "Sort it."})
    )
    questions = list(QuestionBuilder(plan, Engine(target)).questions({}))
    texts = {question.tag.row.input: target.vocabulary.text(question.prompt.tokens) for question in questions}
    assert [text.count("Be brief.") for text in map(texts.__getitem__, ("fig", "cat", "dog"))] == [1, 1, 0]
    assert ["hello" in text for text in map(texts.__getitem__, ("fig", "cat", "dog"))] == [False, True, False]
    if method is Method.BASE:
        assert [question.prompt.tokens for question in questions] == [
            target.prompts.after(system=row.system, turns=row.history)(row.input).tokens for row in ROWS
        ]
    else:
        assert all("Sort it." in text for text in texts.values())
