"""What an answer is restricted to: one of some choices, or a text that follows a schema or grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from atv_local.answer.queries import check_text
from atv_local.data import MAX_LABEL_CHARS, MAX_LABELS, is_iterable
from atv_local.errors import UsageError
from atv_local.generator import Manifest
from atv_local.target import Grammar, Sampling
from atv_local.text import one_line, shown, some_of

AUTO: Literal["auto"] = "auto"
"""The choices are the labels that the bundles were trained on; `auto:TASK` are those of one task."""

MAX_CHOICE_CHARS = MAX_LABEL_CHARS
"""Of one choice. Scoring keeps the distribution before each of its tokens, of up to 1 MB."""

Choices = Sequence[str] | Literal["auto"]
Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Constraint:
    """A restriction of answers: `choices`, or else `grammar`."""

    choices: tuple[str, ...] = ()
    grammar: Grammar | None = None

    @classmethod
    def of(
        cls,
        choices: Choices | None = None,
        schema: Schema | None = None,
        grammar: str | Grammar | None = None,
        *,
        bundles: Sequence[Manifest],
    ) -> Constraint | None:
        """The restriction that arguments of an answer ask for; None without one.

        Args:
            choices: allowed answers, or `auto`, or `auto:TASK`.
            schema: a JSON schema.
            grammar: a text in GBNF, or a grammar that has been checked.
            bundles: the descriptions of the bundles whose labels `auto` means.

        Raises:
            UsageError: more than one of them, or one that cannot be used.
        """
        given = {"choices": choices, "schema": schema, "grammar": grammar}
        names = [f"`{name}`" for name, value in given.items() if value is not None]
        if len(names) > 1:
            raise UsageError(f"{' and '.join(names)} exclude each other; give one of them")
        if schema is not None:
            return cls(grammar=Grammar.of_schema(schema))
        if grammar is not None:
            return cls(grammar=grammar if isinstance(grammar, Grammar) else Grammar.of_gbnf(grammar))
        if choices is None:
            return None
        return cls(choices=check_choices(_labels(choices, bundles) if is_auto(choices) else choices))


def is_auto(choices: object) -> TypeGuard[str]:
    """Whether choices are `auto` or `auto:TASK`."""
    return isinstance(choices, str) and (choices == AUTO or choices.startswith(f"{AUTO}:"))


def of_task(choices: Choices | None, task: str | None) -> Choices | None:
    """Choices for a query of a task: `auto` are then its labels."""
    return f"{AUTO}:{task}" if choices == AUTO and isinstance(task, str) else choices


def _labels(choices: str, bundles: Sequence[Manifest]) -> tuple[str, ...]:
    if not bundles:
        raise UsageError(f"`choices` cannot be {choices!r} without a bundle; list the allowed answers")
    tasks: dict[str, tuple[str, ...]] = {}
    for task in (task for bundle in bundles for task in bundle.tasks if task.labels):
        differ = tasks.setdefault(task.name, tuple(task.labels)) != tuple(task.labels)
        if differ and choices == f"{AUTO}:{task.name}":
            raise UsageError(
                f"`choices` cannot be {choices!r}: two bundles have a task {one_line(task.name)!r} with different "
                "labels; list the allowed answers"
            )
    if not tasks:
        has = "the bundle stores" if len(bundles) == 1 else "the bundles store"
        raise UsageError(f"`choices` cannot be {choices!r}: {has} no labels; list the allowed answers")
    known = some_of([one_line(name) for name in tasks])
    if choices != AUTO:
        if found := tasks.get(choices.removeprefix(f"{AUTO}:")):
            return found
        raise UsageError(f"`choices` {shown(choices)} is none of the bundle's tasks with labels, which are {known}")
    labels = tuple(dict.fromkeys(label for bundle in bundles for label in bundle.labels))
    if len(labels) > MAX_LABELS:
        raise UsageError(
            f"`choices` 'auto' are {len(labels)} labels of {len(tasks)} tasks, and {MAX_LABELS} are allowed; "
            f"choose one task with 'auto:TASK', of {known}"
        )
    return labels


def check_choices(choices: Sequence[str]) -> tuple[str, ...]:
    """Choices as a tuple.

    Raises:
        UsageError: not a list of different texts, none, too many, or one that is blank or too long.
    """
    if isinstance(choices, str | Mapping) or not is_iterable(choices):
        raise UsageError(
            f"`choices` {shown(choices)} is not a list of texts, such as ['yes', 'no'], nor 'auto' or 'auto:TASK'"
        )
    choices = tuple(choices)
    if not choices:
        raise UsageError("`choices` is empty; give the allowed answers")
    if len(choices) > MAX_LABELS:
        raise UsageError(f"`choices` has {len(choices)} answers, and {MAX_LABELS} are allowed")
    for choice in choices:
        check_text("one of `choices`", choice)
        if not choice.strip():
            raise UsageError(f"one of `choices` is blank: {shown(choice)}; leave it out")
        if len(choice) > MAX_CHOICE_CHARS:
            raise UsageError(
                f"{shown(choice)} of `choices` has {len(choice)} characters, and {MAX_CHOICE_CHARS} are allowed"
            )
    if twice := next((choice for place, choice in enumerate(choices) if choice in choices[:place]), None):
        raise UsageError(f"{shown(twice)} is twice in `choices`; give it once")
    return choices


def choose_answer(
    choices: Sequence[str], logprobs: Sequence[float], sampling: Sampling | None
) -> tuple[str, dict[str, float]]:
    """The choice that answers, and the probability of each.

    Args:
        choices: the allowed answers.
        logprobs: of each as a complete answer, in nats.
        sampling: with a temperature the choice is drawn; otherwise it is the most likely one, of equals the first.
            `top_p` and `top_k`, which are about tokens, have no effect.
    """
    totals = np.array(logprobs, dtype=np.float64)
    probabilities = _softmax(totals)
    if sampling is None or sampling.temperature == 0:
        index = int(totals.argmax())
    else:
        index = int(np.random.default_rng(sampling.seed).choice(len(totals), p=_softmax(totals / sampling.temperature)))
    return choices[index], dict(zip(choices, probabilities.tolist(), strict=True))


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.exp(values - values.max())
    shares /= shares.sum()
    return shares
