"""What generator and target read for a row: its input in a template, after its instruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atv_local.data import Row, tell, with_choices
from atv_local.generator import TaskSpec
from atv_train.examples.templates import INPUT, Templates, template_texts

TaskInstructions = Mapping[str, Sequence[str]]
"""Sentences that say what each task asks."""


@dataclass(frozen=True)
class Wordings:
    """How rows are worded. Instructions by task come before those of the rows themselves, and these before those of
    `earlier` tasks, of a run or bundle that training goes on from."""

    templates: Templates = field(default_factory=dict)
    instructions: TaskInstructions = field(default_factory=dict)
    earlier: Mapping[str, TaskSpec] = field(default_factory=dict)

    def of_row(self, row: Row) -> list[str]:
        """All wordings of a row, at least one: each instruction with each template."""
        texts = [template.replace(INPUT, row.input) for template in template_texts(row.task, self.templates)]
        return [tell(instruction, text) for instruction in self.instructions_of(row) or (None,) for text in texts]

    def instructions_of(self, row: Row) -> list[str]:
        """What comes before the input, with the choices of the row; none for a row that has no instruction."""
        known = self.earlier.get(row.task)
        choices = row.choices or (known.choices if known and not self._has_own(row) else ())
        return [told for one in self._said(row) if (told := with_choices(one, choices))]

    def of_task(self, rows: Sequence[Row]) -> tuple[str | None, tuple[str, ...]]:
        """The first instruction that most of these rows have, None without any, and the choices that all of them have,
        in the order of the first one; none where they differ."""
        told = [row for row in rows if self._said(row)]
        if not told:
            return None, ()
        instruction = Counter(self._said(row)[0] for row in told).most_common(1)[0][0]
        known = self.earlier.get(told[0].task)
        choices = [tuple(row.choices or (known.choices if known else ())) for row in told]
        return instruction, choices[0] if len({frozenset(one) for one in choices}) == 1 else ()

    def _said(self, row: Row) -> Sequence[str]:
        if said := self.instructions.get(row.task):
            return said
        if row.instruction:
            return [row.instruction]
        known = self.earlier.get(row.task)
        return [known.instruction] if known and known.instruction else []

    def _has_own(self, row: Row) -> bool:
        """Whether the row says what it asks itself, and so all that its answer may be."""
        return row.instruction is not None and not self.instructions.get(row.task)
