"""What generator and target read for a row: its input in a template, after its instruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from atv_local.data import Row, tell, with_choices
from atv_train.examples.templates import INPUT, Templates, template_texts

TaskInstructions = Mapping[str, Sequence[str]]
"""Sentences that say what each task asks."""


@dataclass(frozen=True)
class Wordings:
    """How rows are worded. TaskInstructions by task come before those of the rows themselves."""

    templates: Templates = field(default_factory=dict)
    instructions: TaskInstructions = field(default_factory=dict)

    def of_row(self, row: Row) -> list[str]:
        """All wordings of a row, at least one: each instruction with each template."""
        texts = [template.replace(INPUT, row.input) for template in template_texts(row.task, self.templates)]
        return [tell(instruction, text) for instruction in self.instructions_of(row) or (None,) for text in texts]

    def instructions_of(self, row: Row) -> list[str]:
        """What comes before the input, with the choices of the row; none for a row that has no instruction."""
        said = self.instructions.get(row.task) or ([row.instruction] if row.instruction else [])
        return [told for one in said if (told := with_choices(one, row.choices))]

    def instruction_of_task(self, rows: Iterable[Row]) -> str | None:
        """The first instruction that most of these rows have; None if they have none."""
        counts = Counter(told[0] for row in rows if (told := self.instructions_of(row)))
        return counts.most_common(1)[0][0] if counts else None
