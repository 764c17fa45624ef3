"""What can be refused before torch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from atv_local.data import check_replaceable, data_files, reading
from atv_train.run_folder import RUN, read_run_record, restore_run


def check_new_run(
    data: Iterable[Path], output: Path, *, valid: Iterable[Path] = (), others: Iterable[Path] = (), overwrite: bool
) -> None:
    """Check that all files of a run are there, and that its output can be written.

    Args:
        others: files that are no rows.

    Raises:
        NotFoundError: a missing file.
        DataError: a folder without files of rows.
        UsageError: a file that is given twice, or an output that exists or cannot be written.
    """
    check_replaceable(output, marker=RUN, overwrite=overwrite)
    for file in [*data_files(data), *data_files(valid), *others]:
        with reading(file):
            file.stat()


def check_resumed_run(folder: Path) -> None:
    """Check that there is a run to resume.

    Raises:
        NotFoundError: no run there.
        BundleError: a damaged one.
        UsageError: another process is writing it.
    """
    restore_run(folder)
    read_run_record(folder)
