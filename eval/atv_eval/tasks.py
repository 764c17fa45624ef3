"""Tasks and queries from files. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atv_eval.questions import MAX_LABELS, Task
from atv_local.data import Columns, Row, data_files, held_out, read_rows, read_unrelated_queries
from atv_local.errors import DataError


def read_tasks(
    data: Sequence[Path], shots_from: Sequence[Path], columns: Columns, rows: int | None, labels: bool
) -> list[Task]:
    """Rows by the name of their task, in the order of the files; the first `rows` of each, if not all.

    With `labels` a row without choices has all outputs of its task for choices.

    Raises:
        DataError: rows that cannot be read, that are asked and shown both, or too many labels.
    """
    pool = [row for file in data_files(shots_from) for row in read_rows(file, columns).rows]
    found: dict[str, list[Row]] = {}
    for row in (row for file in data_files(data) for row in read_rows(file, columns).rows):
        found.setdefault(row.task, []).append(row)
    tasks = []
    for name, some in found.items():
        shown, asked = [row for row in pool if row.task == name], some
        if labels:
            outputs = tuple(dict.fromkeys(row.output for row in [*shown, *some]))
            if len(outputs) > MAX_LABELS:
                raise DataError(f"task {name!r} has {len(outputs)} outputs, too many for labels; leave --labels out")
            asked = [row if row.choices else row.model_copy(update={"choices": outputs}) for row in asked]
        if common := {row.input for row in asked[:rows]} & {row.input for row in shown}:
            text = next(iter(common))[:60]
            raise DataError(f"task {name!r}: {len(common)} rows are among those to show, such as {text!r}")
        tasks.append(Task.of(name, asked, shown, rows))
    return tasks


def read_unrelated(path: Path | None) -> list[str]:
    """Queries unrelated to any task: the lines of a file, by default those of our own that no training has seen.

    Raises:
        DataError: the file cannot be read, or has too few lines.
    """
    return held_out(read_unrelated_queries(None)) if path is None else read_unrelated_queries(path)
