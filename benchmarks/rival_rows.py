"""What rivals are measured on: the tasks, their rows, and prompts that show some."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from atv_eval import BM25, balanced
from atv_local.data import Row, read_rows, tell, with_choices
from atv_local.names import embedded_model
from atv_local.target import TargetFile
from atv_train import Example, encode
from benchmarks.forced import Asked
from benchmarks.paper_tasks import CATEGORIES, N_CTX, N_POOL, UNSEEN, worded

ROW_TOKENS, N_SHOTS = 1024, 16
INSTRUCTION = -1
"""In place of the number of a wording."""


@dataclass(frozen=True)
class Draw:
    """The rows of one seed.

    Args:
        data: folder with index.json, instructions.json and a folder for each task.
        seed: draws the training rows.
        n_tests: test rows of each task, the first ones; None for all.
        tasks: names; by default those of the paper, and `unseen_dev`.
        n_rows: training rows of each task.
        n_valid: validation rows of each task, at most: they choose epochs, learning rates and wordings.
    """

    data: Path
    seed: int
    n_tests: int | None = None
    tasks: tuple[str, ...] = ()
    n_rows: int = N_POOL
    n_valid: int = 30

    @cached_property
    def groups(self) -> dict[str, str]:
        """Of each task; those of `unseen_dev` are measured and never trained on."""
        index = json.loads((self.data / "index.json").read_text())
        paper = [task for tasks in CATEGORIES.values() for task in tasks]
        unseen = [name for name, entry in index.items() if entry["group"] == UNSEEN]
        tasks = self.tasks or (*paper, *unseen)
        if missing := [task for task in tasks if task not in index]:
            raise SystemExit(f"{self.data} has no {', '.join(missing)}, which this measures")
        return {name: index[name]["group"] for name in tasks}

    @property
    def trained(self) -> list[str]:
        """Tasks that are trained on."""
        return [task for task, group in self.groups.items() if group != UNSEEN]

    @cached_property
    def instructions(self) -> dict[str, str]:
        """By task."""
        return dict(json.loads((self.data / "instructions.json").read_text()))

    @cached_property
    def file(self) -> TargetFile:
        """The target's GGUF."""
        return TargetFile.open(embedded_model())

    def rows(self, task: str, split: str) -> list[Row]:
        """Of one task: the training rows of the seed, some validation rows, or all test rows."""
        every = list(read_rows(self.data / task / f"{split}.jsonl").rows)
        if split != "test":
            random.Random(f"{task}/{split}/{self.seed if split == 'train' else ''}").shuffle(every)
        limit = {"train": self.n_rows, "valid": self.n_valid, "test": self.n_tests}[split]
        return [row.model_copy(update={"task": task}) for row in every[:limit]]

    def told(self, row: Row) -> str:
        """A query after the instruction of its task, with the allowed answers."""
        return tell(with_choices(self.instructions[row.task], row.choices), row.input)

    def examples(self, split: str, *, told: bool = False) -> list[list[Example]]:
        """Of all tasks that are trained on."""
        rows = [row for task in self.trained for row in self.rows(task, split)]
        texts = [row.model_copy(update={"input": self.told(row) if told else row.input}) for row in rows]
        plain = [row.model_copy(update={"choices": None}) for row in texts]
        return encode(plain, self.file.prompts, ROW_TOKENS).rows

    def asked(self, row: Row, *, told: bool = False) -> Asked:
        """A row without demonstrations."""
        text = self.told(row) if told else row.input
        return self._with_options(row, text, *self.file.prompts.example(text, row.output))

    def shown(self, row: Row, shots: Sequence[Row], wording: int) -> Asked:
        """A row after demonstrations, of which the first ones go where the prompt would be too long."""
        left = list(shots)
        while True:
            text, turns = self._worded(row, left, wording)
            form = self.file.prompts.after(turns=turns) if turns else self.file.prompts
            prompt, answer = form.example(text, row.output)
            if len(prompt) + len(answer) <= N_CTX or not left:
                return self._with_options(row, text, prompt, answer)
            del left[0]

    def chooser(self, method: str, task: str) -> Callable[[Row], list[Row]]:
        """From a query to its demonstrations: none, the same balanced ones, or those most like it."""
        pool = self.rows(task, "train")
        if method == "bm25":
            index = BM25(pool)
            return lambda row: index.nearest(row.input, N_SHOTS)
        fixed = balanced(pool, N_SHOTS, self.seed) if method == "16-shot" else []
        return lambda _: fixed

    def _worded(self, row: Row, shots: Sequence[Row], wording: int) -> tuple[str, list[tuple[str, str]]]:
        """The last user message, and the turns before it."""
        if wording == INSTRUCTION:
            first, *others = [one.input for one in (*shots, row)]
            texts = [tell(with_choices(self.instructions[row.task], row.choices), first), *others]
        else:
            texts = worded(row.task, wording, shots, row)
        turns = [(text, one.output) for text, one in zip(texts[:-1], shots, strict=False)]
        return texts[-1], turns

    def _with_options(self, row: Row, text: str, prompt: Any, answer: Any) -> Asked:
        options = tuple(self.file.prompts.answer(text, choice) for choice in row.choices or ())
        right = row.choices.index(row.output) if row.choices else -1
        return Asked(Example(0, text, row.task, prompt, answer), options, right)
