"""Reading the tasks and unrelated queries of an evaluation from files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from atv_eval.eval_task import Task
from atv_eval.metrics import Metric
from atv_local.data import (
    MAX_LABELS,
    Columns,
    Row,
    RowFile,
    describe_variants,
    held_out,
    read_row_files,
    read_unrelated_queries,
)
from atv_local.errors import DataError
from atv_local.text import counted

_MAX_NAMES = 5
Paths = str | Path | Sequence[str | Path]


def read_tasks(
    data: Paths,
    shots_from: Paths,
    columns: Columns,
    rows: int | None,
    labels: bool,
    metrics: Collection[Metric] = (),
    skip_bad_rows: bool = False,
    on_message: Callable[[str], None] = lambda _: None,
) -> list[Task]:
    """Rows by the name of their task, in the order of the files; the first `rows` of each, if not all.

    Args:
        data: files of rows to answer.
        shots_from: files of rows to show. They belong to the task of the same name; a single task in `data` and a
            single one in `shots_from` are the same, whatever their names.
        columns: the names of a row's parts.
        rows: the limit for each task.
        labels: give rows without choices all outputs of their task as choices.
        metrics: those to measure, of which each task has the ones that suit it; by default those of its kind.
        skip_bad_rows: go on without the rows that cannot be read.
        on_message: called with a line about what is not read, about rows to show that go by another name, and about
            tasks without a partner.

    Raises:
        DataError: rows that cannot be read, that are asked and shown both, or too many labels.
        UsageError: none of the metrics suits a task.
    """
    by_task, by_shown = map(
        _by_task,
        read_row_files(
            _paths(data), _paths(shots_from), columns=columns, skip_bad_rows=skip_bad_rows, on_note=on_message
        ),
    )
    pools = _matched(by_task, by_shown, on_message)
    tasks = []
    for name, of_task in by_task.items():
        asked, shown = of_task, pools.get(name, [])
        if variants := describe_variants(name, [row.output for row in [*asked, *shown]]):
            on_message(variants)
        if labels:
            outputs = tuple(dict.fromkeys(row.output for row in [*shown, *of_task]))
            if len(outputs) > MAX_LABELS:
                raise DataError(
                    f"task {name!r} has {len(outputs)} outputs, too many to be labels; leave `labels=True` out"
                )
            asked = [row if row.choices else row.model_copy(update={"choices": outputs}) for row in asked]
        if common := {row.input for row in asked[:rows]} & {row.input for row in shown}:
            text = next(row.input for row in asked if row.input in common)[:60]
            raise DataError(
                f"task {name!r} has rows that are also in `shots_from`, such as {text!r} ({len(common)} in all); "
                "use other rows as demonstrations"
            )
        tasks.append(Task.of(name, asked, shown, rows, metrics))
    return tasks


def _paths(paths: Paths) -> list[Path]:
    return [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]


def _by_task(files: Sequence[RowFile]) -> dict[str, list[Row]]:
    tasks: dict[str, list[Row]] = {}
    for row in (row for file in files for row in file.rows):
        tasks.setdefault(row.task, []).append(row)
    return tasks


def _matched(
    asked: Mapping[str, list[Row]], shown: Mapping[str, list[Row]], on_message: Callable[[str], None]
) -> Mapping[str, list[Row]]:
    """Rows to show by the name of the task that is asked."""
    if len(asked) == len(shown) == 1:
        (name,), (other,) = asked, shown
        if name != other:
            on_message(f"task {name!r} is shown {counted(len(shown[other]), 'row')} of {other!r}")
        return {name: shown[other]}
    if shown and (without := asked.keys() - shown.keys()):
        on_message(
            f'no rows to show for {_names(without)}; name their task in "task", or give the files of a task the same '
            "name"
        )
    if unused := shown.keys() - asked.keys():
        on_message(f"rows to show of {_names(unused)} are not used: no task to answer has this name")
    return shown


def _names(tasks: Collection[str]) -> str:
    """A few names of tasks, quoted."""
    listed = [repr(name) for name in sorted(tasks)]
    more = f" and {len(listed) - _MAX_NAMES} more" if len(listed) > _MAX_NAMES else ""
    return ", ".join(listed[:_MAX_NAMES]) + more


def read_unrelated(path: str | Path | None) -> list[str]:
    """Queries unrelated to any task: the lines of a file, by default those of our own that no training has seen.

    Raises:
        DataError: the file cannot be read, or has too few lines.
    """
    return held_out(read_unrelated_queries(None)) if path is None else read_unrelated_queries(Path(path))
