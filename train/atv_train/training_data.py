"""The rows of a run, split into training and validation and encoded as examples."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from atv_local.data import Row, RowFile, are_labels, read_row_files, tell, with_choices
from atv_local.target import PromptFormat
from atv_local.text import counted, some_of
from atv_train.examples import EncodedRows, Example, Wordings, encode, find_warnings
from atv_train.job import TrainingJob
from atv_train.replay import FEW_ROWS, Replay, read_replay, with_replay

_HELD_OUT = 0.1


@dataclass(frozen=True)
class TrainingData:
    """Rows and their examples. `files` are those of training, `hashes` those of all files; `warnings` are sentences.

    Of a run that starts from another, the first `n_new` rows are those of the files, then come earlier ones, and
    `others` are earlier ones that are not trained on again.
    """

    files: list[RowFile]
    rows: list[Row]
    valid_rows: list[Row]
    held_out: bool
    train: EncodedRows
    valid: EncodedRows
    hashes: list[str]
    warnings: list[str]
    n_new: int
    replay: Replay
    others: list[Row]

    @property
    def new(self) -> list[Example]:
        """Each row of the files once."""
        return [example for example in self.train.first if example.index < self.n_new]

    @property
    def n_earlier(self) -> int:
        """Rows of the training that are of the run before."""
        new = {id(row) for row in self.rows[: self.n_new]}
        return sum(id(row) not in new for row in self.rows) if self.replay.train else 0

    def of_tasks(self, worded: Wordings) -> list[Example]:
        """Queries of all tasks, for a gate."""
        others = [Example(-1, worded.of_row(row)[0], row.task, (), ()) for row in self.others]
        return [*self.train.first, *others]

    @property
    def to_keep(self) -> list[Row]:
        """Each training row once, for later runs."""
        drawn = {id(row): row for row in self.rows}
        return [*drawn.values(), *self.others]

    @property
    def examples(self) -> list[Example]:
        """All that training and validation read."""
        return [*self.train.all, *self.valid.first]

    @property
    def tasks(self) -> list[str]:
        """The names of all tasks, sorted."""
        return sorted({row.task for row in (*self.rows, *self.valid_rows)})

    def instructions(self, worded: Wordings) -> list[str]:
        """What is read before the queries of each task that has an instruction."""
        rows: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            rows[row.task].append(row)
        return [told for own in rows.values() if (told := with_choices(*worded.of_task(own)))]

    def unseen_tasks(self, worded: Wordings) -> frozenset[str]:
        """Tasks that only validation has, told by an instruction."""
        told = {row.task for row in self.valid_rows if worded.instructions_of(row)}
        return frozenset(told - {row.task for row in self.rows})

    @cached_property
    def text_tasks(self) -> frozenset[str]:
        """Tasks whose outputs are written for each row, by the rows of the training files, also those held out of them;
        a task without such rows is judged by those for validation."""
        trained, unseen = defaultdict(list), defaultdict(list)
        for row in (*(row for file in self.files for row in file.rows), *self.replay.train):
            trained[row.task].append(row.output)
        for row in self.valid_rows:
            unseen[row.task].append(row.output)
        return frozenset(task for task, outputs in (unseen | trained).items() if not are_labels(outputs))


def read_training_data(job: TrainingJob, prompts: PromptFormat) -> TrainingData:
    """Read all files of a job and encode their rows with the target's prompt format.

    Raises:
        DataError: a file that cannot be read, bad rows, or no row that is short enough.
        UsageError: a file that is given twice.
    """
    notes: list[str] = []
    files, valid_files = read_row_files(
        job.data, job.valid, columns=job.columns, skip_bad_rows=job.skip_bad_rows, on_note=notes.append
    )
    rows = [row for file in files for row in file.rows]
    valid_rows = [row for file in valid_files for row in file.rows]
    replay = Replay() if job.start is None else read_replay(job.start)
    held_out = job.hold_out and not valid_files and (not replay.train or len(rows) >= FEW_ROWS)
    if held_out:
        rows, valid_rows = hold_out(rows, job.settings.seed)
    n_new, others = len(rows), list[Row]()
    warnings = notes + find_warnings(
        _as_asked(rows, job.worded), _as_asked(valid_rows, job.worded), frozenset(row.task for row in replay.train)
    )
    if replay.train:
        mixed = with_replay(rows, replay, job.worded, job.settings.seed)
        rows, valid_rows, others = mixed.rows, [*valid_rows, *mixed.valid], mixed.others
    train, valid = (encode(part, prompts, job.max_row_tokens, job.worded) for part in (rows, valid_rows))
    hashes = [file.sha256 for file in (*files, *valid_files)]
    hashes += [replay.sha256] if replay.train else []
    bare = {repr(row.task) for row in rows if job.instructions and not job.worded.instructions_of(row)}
    if bare:
        warnings.append(f"there is no instruction for {some_of(sorted(bare))}, which is trained without one")
    if too_long := [*train.too_long, *valid.too_long]:
        left_out = f"{counted(len(too_long), 'row')} {'is' if len(too_long) == 1 else 'are'} left out as too long"
        warnings.append(f"{left_out}, the first: {too_long[0]}")
    return TrainingData(files, rows, valid_rows, held_out, train, valid, hashes, warnings, n_new, replay, others)


def _as_asked(rows: Sequence[Row], worded: Wordings) -> list[Row]:
    """The rows with their instruction as a part of the input, which they may differ in."""
    told = [worded.instructions_of(row)[:1] for row in rows]
    return [
        row.model_copy(update={"input": tell(said[0], row.input)}) if said else row
        for row, said in zip(rows, told, strict=True)
    ]


def hold_out(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """(training, validation): a tenth of each task's inputs, at least one; equal inputs stay on one side."""
    tasks: dict[str, list[str]] = {}
    for row in rows:
        tasks.setdefault(row.task, []).append(row.input)
    held: set[str] = set()
    for task, texts in tasks.items():
        unique = list(dict.fromkeys(texts))
        free = [text for text in unique if text not in held]
        wanted = max(1, round(len(unique) * _HELD_OUT)) - (len(unique) - len(free))
        held |= set(random.Random(f"{seed}/{task}").sample(free, max(0, min(wanted, len(free) - 1))))
    return [row for row in rows if row.input not in held], [row for row in rows if row.input in held]
