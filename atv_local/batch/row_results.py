"""Rows to be answered, and the records that answer them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from atv_local.answer import Choices, Schema, load, said_instruction
from atv_local.batch.batch import Batch
from atv_local.batch.limits import DEFAULT_PARALLEL
from atv_local.batch.question import BatchQuestion, BatchReply
from atv_local.data import ResumableOutput, RowRequest, as_max_tokens
from atv_local.errors import DataError, UsageError
from atv_local.generator import GENERATOR_READ, Bundle, Precision, Provider
from atv_local.names import choose_bundles, choose_model, explain_defaults
from atv_local.target import DEFAULT_MAX_TOKENS, Prompt, Sampling, identity
from atv_local.vectors import OFF, GateDecision, scaled_vectors

ADDED = ("line", "text", "finish_reason", "tokens")
"""What a record has beside the columns of the row it answers."""
CONTROL_VECTORS = "control_vectors"
"""What a record has as well where control vectors steered, as `Answer.as_dict` has it."""
ADDED_COLUMNS = ("line", "text", "finish_reason", "prompt_tokens", "generated_tokens")
"""The same in a CSV file; see `as_csv_row`."""
PROBABILITIES = "probabilities"
"""What a record has besides where the answer is one of some choices."""
GATE = "gate"
"""What a record has besides where the bundle has a gate."""
BUNDLE = "bundle"
"""What a record has besides where there are several: the id of the one that steered, or None."""
STATIC = "static"
"""What a record has besides where the bundle's static vector steered."""
SOMETIMES_ADDED = (STATIC, CONTROL_VECTORS, PROBABILITIES, GENERATOR_READ, GATE, BUNDLE)
"""All that only some records have."""


@dataclass(frozen=True)
class AnswerSettings:
    """The models to load and how to answer. It can be sent to another process."""

    model: str | Path | None = None
    """A path or a name, as `load` takes it; so is `bundle`."""
    bundle: str | Path | Sequence[str | Path] | None = None
    off: bool = False
    control_vectors: Sequence[tuple[str | Path, float]] = ()
    """Files with their factors, beside a bundle that is named or in place of one, as in `load`."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields to replace in the bundle's own `Steering`."""
    task: str | None = None
    """What rows ask that have no task or instruction of their own, as for `Engine.answer`; so is `instruction`."""
    instruction: str | None = None
    system: str | None = None
    """For rows without one of their own, as is `max_tokens`."""
    max_tokens: int = DEFAULT_MAX_TOKENS
    sampling: Sampling = field(default_factory=Sampling)
    """Each row draws by a seed of its own: `Sampling.of_row` of its line."""
    choices: Choices | None = None
    """What answers are restricted to, as for `Engine.answer`; so are `schema` and `grammar`."""
    schema: Schema | None = None
    grammar: str | None = None
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int = -1
    provider: Provider | None = None
    precision: Precision | None = None
    template_variables: Mapping[str, Any] = field(default_factory=dict)
    """For the chat template, as `load` takes them."""
    parallel: int = DEFAULT_PARALLEL
    """Answers written at a time."""

    def identity(self) -> dict[str, Any]:
        """All that decides what the answers are, as JSON; the files by what is in them.

        Raises:
            ModelError, BundleError, VectorError: one that cannot be read.
        """
        model, ids, steering = choose_model(self.model), list[str](), dict[str, Any]()
        if not self.off:
            steering = {name: str(value) for name, value in self.changes.items()}
            bundles = choose_bundles(self.bundle, self.model)
            if vectors := scaled_vectors(self.control_vectors):
                steering["control_vectors"] = [(scaled.vector.sha256, scaled.scale) for scaled in vectors]
            if not (vectors and bundles[0].source):  # a bundle that is only the default
                paths = [bundle.path() for bundle in bundles]
                with explain_defaults(model, bundles[0]):
                    ids = [Bundle(path).id for path in paths]
        return {
            "model": identity(model.path()),
            "bundle": ids if len(ids) > 1 else next(iter(ids), None),
            **steering,
            "system": self.system,
            "max_tokens": self.max_tokens,
            "sampling": asdict(self.sampling) if self.sampling.temperature else "greedy",
            "n_ctx": self.n_ctx,
            "provider": None if self.off else self.provider,
            "precision": None if self.off else self.precision,
            **({"template_variables": dict(self.template_variables)} if self.template_variables else {}),
            **{name: value for name, value in (self.restriction | self.told).items() if value is not None},
        }

    @property
    def told(self) -> dict[str, Any]:
        """What rows ask without one of their own."""
        return {"task": self.task, "instruction": self.instruction}

    @property
    def restriction(self) -> dict[str, Any]:
        """The arguments of `Engine.constraint`."""
        return {"choices": self.choices, "schema": self.schema, "grammar": self.grammar}


@dataclass(frozen=True)
class RowResult:
    """The record that answers a row, or the error that says why there is none."""

    request: RowRequest
    record: dict[str, Any] | None = None
    error: str = ""


class Answerer:
    """A model and bundles, loaded to answer rows. Not for several threads.

    Raises:
        AtvError: what `load` and `Batch` raise.
        UsageError: steering that the target does not have, or `max_tokens` below 1.
    """

    def __init__(self, settings: AnswerSettings) -> None:
        as_max_tokens(settings.max_tokens)
        self._settings = settings
        self._engine = load(
            settings.model,
            settings.bundle,
            off=settings.off,
            control_vectors=settings.control_vectors,
            n_ctx=settings.n_ctx,
            n_threads=settings.n_threads,
            n_gpu_layers=settings.n_gpu_layers,
            provider=settings.provider,
            precision=settings.precision,
            template_variables=settings.template_variables,
        )
        target = self._engine.target
        steering = replace(self._engine.steering, **settings.changes)
        self._steering = OFF if settings.off else steering
        self._steering.range(target.n_rows)
        vectors = self._engine.control_vectors_of(self._steering)
        self._applied = {CONTROL_VECTORS: [vector.as_dict() for vector in vectors]} if vectors else {}
        self._engine.prompts.after(system=settings.system)  # a template that does not take it fails now
        self._constraint = self._engine.constraint(**settings.restriction, task=settings.task)
        said_instruction(settings.task, settings.instruction, (), self._engine.tasks)
        self._batch = Batch(self._engine, parallel=settings.parallel)
        ignored = settings.changes.get("gate") and self._engine.generators and not self._engine.has_gate
        self.note = "`gate` has no effect: the bundle has no gate and steers every query" if ignored else ""
        """What the user should know of these settings; empty if there is nothing."""

    def __call__(self, rows: Iterable[RowRequest]) -> Iterator[RowResult]:
        """The result of each row, in order. Rows are drawn as there is room, some hundreds ahead at most."""
        for reply in self._batch.ask(map(self._question, rows)):
            request: RowRequest = reply.question.tag
            if reply.error:
                yield RowResult(request, error=str(reply.error))
            else:
                asked, gate = reply.question.asked, reply.question.ways[0].gate
                assert asked is not None  # of a question that was made of a query
                steered_by = self._steered_by(asked.text, gate) | ({STATIC: True} if asked.static else {})
                yield RowResult(request, _record(request, reply) | self._applied | steered_by)

    def _steered_by(self, read: str, gate: GateDecision | None) -> dict[str, Any]:
        """Which of several bundles steered, and what the generator reads where that is not all of the query."""
        generator = None if self._steering.off else self._engine.chosen_generator(gate)
        bundle = {BUNDLE: generator.bundle.id if generator else None} if len(self._engine.generators) > 1 else {}
        return bundle | (generator.read(read).as_field() if generator else {})

    def _question(self, request: RowRequest) -> BatchQuestion:
        settings = self._settings
        if request.error:
            return BatchQuestion(Prompt((), 0), tag=request, error=DataError(request.error))
        return self._batch.question(
            request.query,
            **self._told(request),
            steering=self._steering,
            sampling=settings.sampling.of_row(request.line),
            max_tokens=request.max_tokens or settings.max_tokens,
            system=settings.system if request.system is None else request.system,
            turns=request.history,
            constraint=self._constraint,
            tag=request,
        )

    def _told(self, request: RowRequest) -> dict[str, Any]:
        """What a row asks; a task that the bundle has no instruction for is the user's own column."""
        if request.instruction is not None:
            return {"instruction": request.instruction, "listed": request.choices}
        if request.task in self._engine.instructions:
            return {"task": request.task, "listed": request.choices}
        return self._settings.told


def skip_answered(rows: Iterator[RowRequest], output: ResumableOutput) -> tuple[int, int]:
    """Draw the rows that an output has records for, so that the iterator continues after them.

    Returns:
        How many rows have a record, and how many before the last of them have none.

    Raises:
        UsageError: the rows are not those that were answered.
    """
    answered = drawn = 0
    for record in output.records():
        answered += 1
        line, row = record.get("line"), None
        while isinstance(line, int) and (row is None or row.line < line):
            if (row := next(rows, None)) is None:
                break
            drawn += 1
        if row is None or row.line != line or _columns(row.fields) != _columns(record):
            raise UsageError(
                f"line {line} of the input is not the row that {output.path} has the answer to; {output.remedy}"
            )
    return answered, drawn - answered


def as_csv_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with a column for each of its counts of tokens."""
    row: dict[str, Any] = {}
    for name, value in record.items():
        row.update({f"{kind}_tokens": n for kind, n in value.items()} if name == "tokens" else {name: value})
    return row


def _columns(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A row without what its record adds."""
    return {name: value for name, value in fields.items() if name not in (*ADDED, *SOMETIMES_ADDED)}


def _record(request: RowRequest, reply: BatchReply) -> dict[str, Any]:
    outcome = reply.outcomes[0]
    tokens = {"prompt": len(reply.question.prompt.tokens), "generated": outcome.n_generated}
    added = request.line, outcome.text, outcome.finish_reason, tokens
    record = request.fields | dict(zip(ADDED, added, strict=True))
    if outcome.probabilities is not None:
        record[PROBABILITIES] = dict(outcome.probabilities)
    if (gate := reply.question.ways[0].gate) is not None:
        record[GATE] = gate.as_dict()
    return record
