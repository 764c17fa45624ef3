"""From rows that are asked to records that answer them. Knows nothing of where either is kept, or of other machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from atv_local.answer import OFF, check_query, load
from atv_local.batch.batch import N_SEQUENCES, Batch, BatchQuestion, BatchReply, SteeredPrompt
from atv_local.data import RowRequest
from atv_local.errors import AtvError, DataError, UsageError
from atv_local.generator import Bundle, Precision, Provider
from atv_local.names import embedded_bundle, embedded_model
from atv_local.target import Prompt, Sampling, identity

ADDED = ("line", "text", "finish_reason", "tokens")
"""What a record has beside the row it answers."""


@dataclass(frozen=True)
class AnswerSettings:
    """What to load and how to answer: a plain value, so that other processes can be told."""

    model: Path | None = None
    bundle: Path | None = None
    off: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of the bundle's own `Steering`: what is to be otherwise."""
    system: str | None = None
    """For rows that have none of their own; so is `max_tokens`."""
    max_tokens: int = 256
    sampling: Sampling = field(default_factory=Sampling)
    """Each row draws by a seed of its own: `Sampling.of_row` of its line."""
    n_ctx: int | None = None
    n_threads: int | None = None
    n_gpu_layers: int = -1
    provider: Provider | None = None
    precision: Precision | None = None
    n_sequences: int = N_SEQUENCES - 1
    """Answers written at a time."""

    def identity(self) -> dict[str, Any]:
        """All that decides what the answers are, as JSON; the files by what is in them.

        Raises:
            ModelError, BundleError: one that cannot be read.
        """
        return {
            "model": identity(self.model or embedded_model()),
            "bundle": None if self.off else Bundle(self.bundle or embedded_bundle()).id,
            **{name: str(value) for name, value in self.changes.items()},
            "system": self.system,
            "max_tokens": self.max_tokens,
            "sampling": asdict(self.sampling) if self.sampling.temperature else "greedy",
            "ctx_size": self.n_ctx,
            "provider": self.provider,
            "precision": self.precision,
        }


@dataclass(frozen=True)
class RowResult:
    """What became of a row: its record, or the error that says why it has none."""

    asked: RowRequest
    record: dict[str, Any] | None = None
    error: str = ""


class Answerer:
    """A loaded recipe. Not for several threads.

    Raises:
        AtvError: what `load` and `Batch` raise.
        UsageError: steering that the target does not have, or `max_tokens` below 1.
    """

    def __init__(self, recipe: AnswerSettings) -> None:
        if recipe.max_tokens < 1:
            raise UsageError(f"`max_tokens` {recipe.max_tokens} is below 1")
        self._recipe = recipe
        self._engine = load(
            recipe.model,
            recipe.bundle,
            steered=not recipe.off,
            n_ctx=recipe.n_ctx,
            n_threads=recipe.n_threads,
            n_gpu_layers=recipe.n_gpu_layers,
            provider=recipe.provider,
            precision=recipe.precision,
        )
        target = self._engine.target
        self._steering = OFF if recipe.off else replace(self._engine.steering, **recipe.changes)
        self._steering.range(target.n_rows)
        self._format = lru_cache(maxsize=8)(lambda system: target.prompts.after(system=system))
        self._format(recipe.system)
        self._batch = Batch(self._engine, n_sequences=recipe.n_sequences + 1)  # one for what prompts share

    def __call__(self, rows: Iterable[RowRequest]) -> Iterator[RowResult]:
        """What becomes of each row, in order. Rows are drawn as there is room, some hundreds ahead at most."""
        for reply in self._batch.ask(map(self._question, rows)):
            asked: RowRequest = reply.question.tag
            yield RowResult(asked, error=str(reply.error)) if reply.error else RowResult(asked, _record(asked, reply))

    def _question(self, asked: RowRequest) -> BatchQuestion:
        recipe = self._recipe
        try:
            if asked.error:
                raise DataError(asked.error)
            check_query(asked.query)
            prompt = self._format(recipe.system if asked.system is None else asked.system)(asked.query)
            way = (
                SteeredPrompt()
                if self._steering.off
                else SteeredPrompt.of(self._steering, self._engine.vector(asked.query))
            )
        except AtvError as error:
            return BatchQuestion(Prompt((), 0), tag=asked, error=error)
        sampling = recipe.sampling.of_row(asked.line)
        return BatchQuestion(prompt, [way], asked.max_tokens or recipe.max_tokens, sampling=sampling, tag=asked)


def _record(asked: RowRequest, reply: BatchReply) -> dict[str, Any]:
    outcome = reply.outcomes[0]
    tokens = {"prompt": len(reply.question.prompt.tokens), "generated": outcome.n_generated}
    added = asked.line, outcome.text, outcome.finish, tokens
    return asked.fields | dict(zip(ADDED, added, strict=True))
