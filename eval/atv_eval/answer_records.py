"""The answers to the questions of a plan, saved one by one, so that an interrupted evaluation can be resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from atv_eval.classifier import classifier_features, fit_classifier
from atv_eval.demonstrations import BM25
from atv_eval.eval_plan import EvalPlan
from atv_eval.eval_task import Task
from atv_eval.methods import Method
from atv_eval.metrics import Metric
from atv_eval.questions import EvalQuestion, Key, QuestionBuilder
from atv_local import __version__
from atv_local.answer import Engine
from atv_local.batch import Batch, BatchReply, Outcome
from atv_local.data import ResumableOutput, Row
from atv_local.errors import UsageError
from atv_local.target import identity
from atv_local.vectors import Steering

RECORDS = "answers.jsonl"
RESULTS = ("results.md", "results.json", "results.csv", "results.png")


@dataclass(frozen=True)
class EvalRecord:
    """One row answered by one method."""

    task: str
    row: int
    row_id: str
    """A hash of all that the row has."""
    method: Method
    output: str
    answer: str
    matched: str | None
    """The label or short right answer that `answer` is, if it is one."""
    chosen: str | None
    """The most likely of the row's choices; None if it has none."""
    prompt_tokens: int
    evaluated_tokens: int
    """Tokens of prompt and answer, without the beginning that all prompts share."""
    generated_tokens: int
    n_choices: int
    dropped: int
    """Demonstrations that did not fit the context."""
    error: str | None = None
    gate: Mapping[str, Any] | None = None
    """The decision of the bundle's gate on a row that is answered with steering, as `GateDecision.as_dict` has it."""
    scores: Mapping[Metric, float] = field(default_factory=dict)
    """The metrics of the task that each answer has; they are not saved, as they follow from the answer."""

    @property
    def key(self) -> Key:
        """The task, row and method, which no other record of an evaluation has together."""
        return Key(self.task, self.row, self.method)


def answer_plan(
    plan: EvalPlan, engine: Engine, folder: Path | None, on_record: Callable[[EvalRecord], None] = lambda _: None
) -> list[EvalRecord]:
    """Every answer of the plan. With a folder they are saved there as they come, and not asked again.

    Raises:
        UsageError: the folder holds the answers of another evaluation, or cannot be written.
    """
    tasks = {task.name: task for task in plan.tasks}
    wanted = {
        Key(task.name, index, method): row
        for task in plan.tasks
        for index, row in enumerate(task.rows)
        for method in plan.methods_of(task)
    }
    output = ResumableOutput(folder / RECORDS, fingerprint(plan, engine), in_place=True) if folder else None
    with output or nullcontext():
        records = _saved_records(output) if output else {}
        for key, record in records.items():
            if (row := wanted.get(key)) is not None:
                if record.row_id != _id(row):
                    where = f"row {record.row + 1} of {record.task!r}"
                    raise UsageError(f"{folder} has an answer to another {where}; choose another `output`")
                records[key] = _scored(record, row, tasks[key.task])
                on_record(records[key])
        batch = Batch(engine)
        replies = batch.ask(QuestionBuilder(plan, engine).questions(records))
        asked = (record for reply in replies for record in _records(reply, tasks))
        for record in chain(asked, _without_target(plan, engine, records)):
            records[record.key] = record
            if output is not None:
                output.append(_saved(record))
            on_record(record)
    return [record for key, record in sorted(records.items()) if key in wanted]


def check_folder(folder: Path) -> None:
    """Raise UsageError for a file in place of the folder, or results without the answers that they are of."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose a folder as `output`")
    if not (folder / RECORDS).exists():
        for name in RESULTS:
            if (folder / name).exists():
                raise UsageError(f"{folder / name} exists and is of no evaluation here; choose another `output`")


def _saved_records(output: ResumableOutput) -> dict[Key, EvalRecord]:
    records = {}
    for fields in output.records():
        try:
            record = EvalRecord(**(fields | {"method": Method(fields["method"])}))
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{output.path} is not a file of answers: {error}; {output.remedy}") from error
        records[record.key] = record
    return records


def fingerprint(plan: EvalPlan, engine: Engine) -> dict[str, Any]:
    """What must be the same for saved answers to be used again; rows and methods may differ."""
    texts = hashlib.sha256()
    for task in plan.tasks:
        said = [plan.instructions.given.get(task.name), plan.instructions.of_task(task)]
        texts.update(json.dumps([task.name, task.labels, [row.model_dump() for row in task.pool], said]).encode())
    learned = {task.name: task.learned.sha256[:12] for task in plan.tasks if task.learned is not None}
    vectors = [vector.as_dict() for vector in engine.control_vectors_of(plan.steering)]
    return {
        "version": __version__,
        "target": json.loads(engine.target.spec.model_dump_json()),
        "model": identity(engine.target.path),
        "bundle": _one_or_all([generator.bundle.id for generator in engine.generators]),
        "precision": _one_or_all([generator.precision for generator in engine.generators]),
        "strength": plan.steering.strength,
        "layers": list(plan.steering.layers) if plan.steering.layers else None,
        "positions": plan.steering.positions,
        **({} if plan.steering.gate == Steering().gate else {"gate": plan.steering.gate}),
        **({"control_vectors": vectors} if vectors else {}),
        **({"template_variables": variables} if (variables := dict(engine.prompts.variables)) else {}),
        **({"static": learned} if learned else {}),
        **({"classifier_reads": classifier_features(engine)} if engine.generator else {}),
        "n_ctx": engine.target.n_ctx,
        "shots": plan.n_shots,
        "seed": plan.seed,
        "max_tokens": plan.max_tokens,
        "whole": [task.name for task in plan.tasks if plan.whole_task(task)],
        "labels_and_shown": texts.hexdigest(),
    }


def _one_or_all(values: list[str]) -> str | list[str] | None:
    return values if len(values) > 1 else next(iter(values), None)


def _saved(record: EvalRecord) -> dict[str, Any]:
    fields = asdict(record)
    del fields["scores"]
    if record.gate is None:
        del fields["gate"]
    return fields


def _scored(record: EvalRecord, row: Row, task: Task) -> EvalRecord:
    if record.error:
        return replace(record, scores=dict.fromkeys((m for m in task.metrics if m.of_rows), 0.0))
    return replace(record, scores=task.score(row, record.answer, record.chosen))


def _records(reply: BatchReply, tasks: Mapping[str, Task]) -> list[EvalRecord]:
    question: EvalQuestion = reply.question.tag
    prompt, row = reply.question.prompt, question.row
    task = tasks[question.keys[0].task]
    choices = row.choices or ()
    none = Outcome("", (), None, ())
    records = []
    outcomes = reply.outcomes or [none] * len(question.keys)
    unasked = reply.question.error is not None  # then it has no ways
    gates = [None] * len(question.keys) if unasked else [way.gate for way in reply.question.ways]
    for place, key in enumerate(question.keys):
        outcome, gate = outcomes[place], gates[place]
        chooser = outcomes[question.choosing[place]] if reply.outcomes else none
        likely = max(zip(chooser.options, choices, strict=False), key=lambda pair: pair[0], default=None)
        record = EvalRecord(
            task=key.task,
            row=key.row,
            row_id=_id(row),
            method=key.method,
            output=row.output,
            answer=outcome.text,
            matched=task.match(row, outcome.text),
            chosen=likely[1] if likely else None,
            prompt_tokens=len(prompt.tokens),
            evaluated_tokens=len(prompt.tokens) - prompt.shared + len(outcome.tokens),
            generated_tokens=len(outcome.tokens),
            n_choices=len(choices),
            dropped=question.dropped,
            error=str(reply.error) if reply.error else None,
            gate=gate.as_dict() if gate else None,
        )
        records.append(_scored(record, row, task))
    return records


def _without_target(plan: EvalPlan, engine: Engine, done: Mapping[Key, object]) -> Iterator[EvalRecord]:
    """The answers of the methods that do not ask the target."""
    for task in plan.tasks:
        for method in plan.methods_of(task):
            keys = [Key(task.name, index, method) for index in range(len(task.rows))]
            if method.asks_target or not (missing := [key for key in keys if key not in done]):
                continue
            answer = _lookup(method, task, plan, engine)
            for key in missing:
                row = task.rows[key.row]
                text = answer(row.input)
                record = EvalRecord(
                    task=task.name,
                    row=key.row,
                    row_id=_id(row),
                    method=method,
                    output=row.output,
                    answer=text,
                    matched=task.match(row, text),
                    chosen=text if text in (row.choices or ()) else None,
                    prompt_tokens=0,
                    evaluated_tokens=0,
                    generated_tokens=0,
                    n_choices=len(row.choices or ()),
                    dropped=0,
                )
                yield _scored(record, row, task)


def _lookup(method: Method, task: Task, plan: EvalPlan, engine: Engine) -> Callable[[str], str]:
    """From a query to an output of the pool."""
    if method is Method.CLASSIFIER:
        return fit_classifier(engine, task.pool, plan.seed)
    nearest = BM25(task.pool)
    return lambda query: nearest.nearest(query, 1)[0].output


def _id(row: Row) -> str:
    return hashlib.sha256(row.model_dump_json().encode()).hexdigest()[:16]
