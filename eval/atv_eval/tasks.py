"""Reading the tasks and unrelated queries of an evaluation from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atv_eval.questions import Task
from atv_local.data import MAX_LABELS, Columns, Row, data_files, held_out, read_rows, read_unrelated_queries
from atv_local.errors import DataError

Paths = str | Path | Sequence[str | Path]


def read_tasks(data: Paths, shots_from: Paths, columns: Columns, rows: int | None, labels: bool) -> list[Task]:
    """Rows by the name of their task, in the order of the files; the first `rows` of each, if not all.

    With `labels` a row without choices has all outputs of its task for choices.

    Raises:
        DataError: rows that cannot be read, that are asked and shown both, or too many labels.
    """
    pool = _rows(shots_from, columns)
    by_task: dict[str, list[Row]] = {}
    for row in _rows(data, columns):
        by_task.setdefault(row.task, []).append(row)
    tasks = []
    for name, of_task in by_task.items():
        asked, shown = of_task, [row for row in pool if row.task == name]
        if labels:
            outputs = tuple(dict.fromkeys(row.output for row in [*shown, *of_task]))
            if len(outputs) > MAX_LABELS:
                raise DataError(
                    f"task {name!r} has {len(outputs)} outputs, too many to be labels; leave `labels=True` out"
                )
            asked = [row if row.choices else row.model_copy(update={"choices": outputs}) for row in asked]
        if common := {row.input for row in asked[:rows]} & {row.input for row in shown}:
            text = next(iter(common))[:60]
            raise DataError(
                f"task {name!r}: {len(common)} rows are also in `shots_from`, such as {text!r}; "
                "use other rows as demonstrations"
            )
        tasks.append(Task.of(name, asked, shown, rows))
    return tasks


def _rows(paths: Paths, columns: Columns) -> list[Row]:
    files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    return [row for file in data_files(files) for row in read_rows(file, columns).rows]


def read_unrelated(path: str | Path | None) -> list[str]:
    """Queries unrelated to any task: the lines of a file, by default those of our own that no training has seen.

    Raises:
        DataError: the file cannot be read, or has too few lines.
    """
    return held_out(read_unrelated_queries(None)) if path is None else read_unrelated_queries(Path(path))
