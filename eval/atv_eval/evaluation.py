"""A plan through the target, row by row into a file, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from atv_eval.match import AnswerMatcher
from atv_eval.methods import Method
from atv_eval.questions import Asker, EvalPlan, EvalQuestion, Key
from atv_local.answer import Engine
from atv_local.batch import Batch, BatchReply, Outcome
from atv_local.data import Row
from atv_local.errors import UsageError
from atv_local.target import identity

RECORDS = "answers.jsonl"


@dataclass(frozen=True)
class EvalRecord:
    """One row answered by one method."""

    task: str
    row: int
    row_id: str
    """Of its input, output and choices."""
    method: Method
    output: str
    answer: str
    said: str | None
    """Which answer the free text is."""
    chosen: str | None
    """The most likely of the row's choices, none if it has none."""
    prompt_tokens: int
    evaluated_tokens: int
    """Of prompt and answer, beyond what the prompts have in common."""
    generated_tokens: int
    n_choices: int
    dropped: int
    """Demonstrations that did not fit the context."""
    error: str | None = None

    @property
    def key(self) -> Key:
        """Row and method."""
        return Key(self.task, self.row, self.method)


def measure(
    plan: EvalPlan, engine: Engine, folder: Path | None, on_record: Callable[[EvalRecord], None] = lambda _: None
) -> list[EvalRecord]:
    """Every answer of the plan. With a folder they are kept there as they come, and those kept before are not asked.

    Raises:
        UsageError: the folder holds the answers of another evaluation, or cannot be written.
    """
    records: dict[Key, EvalRecord] = {}
    log = None
    try:
        if folder is not None:
            log = _Log(folder / RECORDS, fingerprint(plan, engine))
            records = {record.key: record for record in log.kept}
        wanted = {
            Key(task.name, index, method): _id(row)
            for task in plan.tasks
            for index, row in enumerate(task.rows)
            for method in plan.methods
        }
        for record in records.values():
            if record.key in wanted:
                if record.row_id != wanted[record.key]:
                    where = f"row {record.row + 1} of {record.task!r}"
                    raise UsageError(f"{folder} holds an answer to another {where}; choose another folder")
                on_record(record)
        batch = Batch(engine)
        candidates = {task.name: task for task in plan.tasks}
        for reply in batch.ask(Asker(plan, engine).questions(records)):
            for record in _records(reply, lambda row, task: candidates[task].candidates(row)):
                records[record.key] = record
                if log is not None:
                    log.append(record)
                on_record(record)
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        if log is not None:
            log.close()
    return [record for key, record in sorted(records.items()) if key in wanted]


def fingerprint(plan: EvalPlan, engine: Engine) -> dict[str, Any]:
    """What must be the same for answers to stand beside each other; more rows or other methods may come."""
    texts = hashlib.sha256()
    for task in plan.tasks:
        texts.update(json.dumps([task.name, task.labels, [row.model_dump() for row in task.pool]]).encode())
    return {
        "version": version("atv-local"),
        "target": json.loads(engine.target.spec.model_dump_json()),
        "model": identity(engine.target.model.path),
        "bundle": engine.generator.bundle.id if engine.generator else None,
        "precision": engine.generator.precision if engine.generator else None,
        "strength": plan.steering.strength,
        "layers": list(plan.steering.layers) if plan.steering.layers else None,
        "positions": plan.steering.positions,
        "n_ctx": engine.target.n_ctx,
        "shots": plan.n_shots,
        "seed": plan.seed,
        "max_tokens": plan.max_tokens,
        "whole": plan.whole,
        "labels_and_shown": texts.hexdigest(),
    }


def _records(reply: BatchReply, candidates: Callable[[Row, str], tuple[str, ...]]) -> list[EvalRecord]:
    asked: EvalQuestion = reply.question.tag
    prompt, choices = reply.question.prompt, asked.row.choices or ()
    none = Outcome("", (), None, ())
    found = []
    for key, outcome in zip(asked.keys, reply.outcomes or [none] * len(asked.keys), strict=True):
        likely = max(zip(outcome.options, choices, strict=False), default=None)
        found.append(
            EvalRecord(
                task=key.task,
                row=key.row,
                row_id=_id(asked.row),
                method=key.method,
                output=asked.row.output,
                answer=outcome.text,
                said=AnswerMatcher(candidates(asked.row, key.task)).said(outcome.text),
                chosen=likely[1] if likely else None,
                prompt_tokens=len(prompt.tokens),
                evaluated_tokens=len(prompt.tokens) - prompt.shared + len(outcome.tokens),
                generated_tokens=len(outcome.tokens),
                n_choices=len(choices),
                dropped=asked.dropped,
                error=str(reply.error) if reply.error else None,
            )
        )
    return found


def _id(row: Row) -> str:
    return hashlib.sha256(row.model_dump_json().encode()).hexdigest()[:16]


class _Log:
    """One JSON line for the evaluation, then one for each record; a line that a crash tore is cut off."""

    def __init__(self, path: Path, wanted: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        if not lock_descriptor(self._file.fileno(), blocking=False):
            raise UsageError(f"another process is writing {path}; wait for it, or choose another folder")
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        head, *lines = whole.decode("utf-8", "replace").split("\n")[:-1] or [""]
        try:
            found = dict(json.loads(head)) if head else wanted
            self.kept = [
                EvalRecord(**(fields | {"method": Method(fields["method"])})) for fields in map(json.loads, lines)
            ]
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{path} is not a file of answers: {error}; choose another folder") from error
        if changed := [name for name, value in wanted.items() if found.get(name) != value]:
            name = changed[0]
            raise UsageError(
                f"{path} holds answers with {name} {found.get(name)!r}, not {wanted[name]!r}; choose another folder"
            )
        self._file.truncate(len(whole))
        if not head:
            self._write(wanted)

    def append(self, record: EvalRecord) -> None:
        self._write(asdict(record))

    def close(self) -> None:
        self._file.close()

    def _write(self, fields: dict[str, Any]) -> None:
        self._file.write(json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        self._file.flush()
