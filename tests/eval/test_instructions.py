"""Instructions in prompts, and which method can answer which task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atv_eval.eval_plan import EvalPlan, left_out, possible_methods
from atv_eval.eval_task import Task
from atv_eval.instructions import Instructions
from atv_eval.methods import Method
from atv_eval.questions import QuestionBuilder
from atv_eval.wordings import choose_wordings
from atv_local.answer.engine import Engine
from atv_local.batch.batch import Batch
from atv_local.data import Row, read_instructions
from atv_local.errors import DataError, UsageError
from atv_local.vectors.steering import OFF, Steering

LABELS = Task.of("labels", [Row(input=f"q{n}", output="ab"[n % 2]) for n in range(6)], [])
SLOTS = [Row(input=f"q{n}", output=json.dumps({"day": n, "kind": "ab"[n % 2], "who": [f"x{n}"]})) for n in range(6)]
TEXT = Task.of("text", [Row(input="q", output="one two three four")], [Row(input="r", output="five six seven eight")])


def test_an_instruction_lists_labels_or_keys() -> None:
    given = Instructions({"labels": "Sort it."})
    text = given.of_task(LABELS)
    assert text is not None
    assert text.startswith("Sort it.\n")
    assert "a, b." in text
    slots = given.of_task(Task.of("slots", SLOTS, []))
    assert slots is not None
    assert all(key in slots for key in ("day", 'kind (one of "a", "b")', "who[]"))
    assert given.of_task(TEXT) is None
    own = Task.of("own", [Row(input="q", output="one two three four", instruction="Count.")], [])
    assert Instructions().of_task(own) == "Count."
    assert Instructions({"own": "Add."}).of_task(own) == "Add."


@pytest.mark.parametrize(("length", "listed"), [(20, True), (100, False)])
def test_many_labels_are_listed_unless_they_would_fill_the_prompt(length: int, listed: bool) -> None:
    labels = [f"label {n:0{length - 6}}" for n in range(150)]
    task = Task.of("many", [Row(input=f"q{n}", output=label) for n, label in enumerate(labels * 4)], [])
    text = Instructions({"many": "Sort it."}).of_task(task)
    assert text is not None
    assert all((label in text) is listed for label in labels)
    assert Instructions().without_labels([LABELS, TEXT, task]) == ([] if listed else ["many"])
    assert (Method.ZERO_SHOT in possible_methods([task], Instructions())) is listed


def test_a_file_of_instructions_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "said.json"
    file.write_text('{"t": "Do it.", "u": ["Do it.", "Please do it."]}')
    assert read_instructions(file) == {"t": ["Do it."], "u": ["Do it.", "Please do it."]}
    for wrong in ('{"t": 1}', '{"t": []}', '["Do it."]', "no", '{"t": "' + "x" * (1 << 20) + '"}'):
        file.write_text(wrong)
        with pytest.raises(DataError, match=r"said\.json"):
            read_instructions(file)


def test_methods_that_cannot_answer_are_left_out_with_the_reason() -> None:
    assert possible_methods([LABELS], Instructions()) == [Method.BASE, Method.STEERED, Method.ZERO_SHOT]
    tasks = [LABELS, TEXT]
    lines = list(left_out(list(Method), tasks, Instructions()))
    assert [line.partition(":")[0] for line in lines] == [
        f"left out for '{name}'" for name in ("text", "labels", "text")
    ]
    plan = EvalPlan(tasks, possible_methods(tasks, Instructions()), Steering())
    assert plan.methods_of(LABELS) == [Method.BASE, Method.STEERED, Method.ZERO_SHOT]
    assert Method.ZERO_SHOT not in plan.methods_of(TEXT)
    assert Method.STATIC in plan.methods_of(TEXT)
    assert plan.n_answers == 3 * 6 + 6
    with pytest.raises(UsageError, match="classifier cannot answer"):
        EvalPlan([TEXT], [Method.CLASSIFIER], Steering())


def test_prompts_begin_with_the_instruction_and_share_it(tiny: Engine) -> None:
    pool = [Row(input=f"s{n}", output="ab"[n % 2]) for n in range(4)]
    task = Task.of("labels", LABELS.rows, pool)
    plan = EvalPlan(
        [task], [Method.ZERO_SHOT, Method.SHOTS], Steering(), 2, instructions=Instructions({"labels": "Do."})
    )
    said = {}
    for question in QuestionBuilder(plan, tiny).questions({}):
        text = tiny.target.vocabulary.text(question.prompt.tokens, special=True)
        said[question.tag.keys[0].method] = (text, question.prompt.shared / len(question.prompt.tokens))
        assert question.tag.row.input in text
    for method, (text, shared) in said.items():
        assert text.count("Do.\nAnswer with one of these") == 1, method
        assert shared > 0.7
    assert said[Method.SHOTS][0].index("Do.") < min(said[Method.SHOTS][0].index(f"\n{row.input}<") for row in pool[:2])


def test_a_wording_is_chosen_on_the_rows_to_show(tiny: Engine) -> None:
    pool = [Row(input=f"s{n}", output="ab"[n % 2]) for n in range(4)]
    task, bare = Task.of("labels", LABELS.rows, pool), Task.of("bare", LABELS.rows, [])
    sentences = {"labels": ["One.", "Two two.", "Three, three."], "bare": ["One.", "Two."]}
    best = []
    for order in (1, -1):
        chosen = choose_wordings({name: said[::order] for name, said in sentences.items()}, [task, bare], tiny, 0)
        assert chosen.given["bare"] == sentences["bare"][::order][0]
        best.append(chosen.given["labels"])
    assert best[0] == best[1]
    scores = {}
    for wording in sentences["labels"]:
        form = Instructions({"labels": wording}).of_row(task, pool[0])
        with Batch(tiny) as batch:
            pairs = [(f"{form}\n\n{row.input}", row.output) for row in pool]
            scores[wording] = sum(next(batch.score([query], [output], steering=OFF))[0] for query, output in pairs)
    assert best[0] == max(scores, key=scores.__getitem__)


def test_without_its_package_the_classifier_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task.of("labels", LABELS.rows, [Row(input="s", output="a")])
    assert Method.CLASSIFIER in possible_methods([task], Instructions())
    monkeypatch.setattr("atv_eval.eval_plan.find_spec", lambda _: None)
    assert Method.CLASSIFIER not in possible_methods([task], Instructions())
    (line,) = left_out(list(Method), [task], Instructions())
    assert "classifier" in line
    assert "atv-local[eval]" in line
