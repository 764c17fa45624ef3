"""What can be refused before torch is imported, which takes seconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from atv_local.data import check_replaceable, data_files, reading
from atv_local.generator import Bundle
from atv_local.names import resolve_bundle
from atv_train.hub_models import check_available, default_backbone
from atv_train.run_folder import RUN, read_run_record, restore_run


def check_new_run(
    data: Iterable[Path],
    output: Path,
    *,
    valid: Iterable[Path] = (),
    others: Iterable[Path] = (),
    backbone: str | None = None,
    weights: str | None = None,
    overwrite: bool,
) -> None:
    """Check that all files and models of a run are there or can be downloaded, and that its output can be written.

    Args:
        others: files that are no rows.

    Raises:
        NotFoundError: a missing file or folder.
        ModelError: a backbone or weights that are not on this machine and cannot be downloaded.
        DataError: a folder without files of rows.
        UsageError: a file that is given twice, or an output that exists or cannot be written.
    """
    check_replaceable(output, marker=RUN, overwrite=overwrite)
    for file in [*data_files(data), *data_files(valid), *others]:
        with reading(file):
            file.stat()
    check_available(backbone or default_backbone(), "backbone")
    if weights is not None:
        check_available(weights, "weights")


def check_start(name: str) -> None:
    """Check that there is a run or a bundle to go on from.

    Raises:
        NotFoundError: nothing of that name.
        BundleError: a damaged one, or neither.
    """
    if (Path(name) / RUN).exists():
        read_run_record(Path(name))
    else:
        Bundle(resolve_bundle(name))


def check_resumed_run(folder: Path) -> None:
    """Check that there is a run to resume.

    Raises:
        NotFoundError: no run there.
        BundleError: a damaged one.
        UsageError: another process is writing it.
    """
    restore_run(folder)
    read_run_record(folder)
