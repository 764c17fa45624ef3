"""The options of an export: parsed, and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atv_export.paper_checkpoint import PaperOptions
from atv_local.answer import check_query
from atv_local.data import check_replaceable
from atv_local.errors import NotFoundError, UsageError
from atv_local.generator import GRAPHS, MANIFEST, Precision

MAX_QUERIES = 2000


def parse_precisions(given: str | Sequence[str]) -> list[Precision]:
    """Precisions from a list, or from text such as `int8,fp16`.

    Raises:
        UsageError: none, or an unknown one.
    """
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    if not names:
        raise UsageError(f"`precisions` is empty; name one of {', '.join(GRAPHS)}")
    for name in names:
        if name not in GRAPHS:
            raise UsageError(f"`precisions` {name!r} is not one of {', '.join(GRAPHS)}")
    return [precision for precision in GRAPHS if precision in names]


def paper_options(checkpoint: Path, **options: Any) -> PaperOptions:
    """Those options for a file of the paper's authors that are not None.

    Raises:
        UsageError: any if `checkpoint` is a folder of ours.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if given and checkpoint.is_dir():
        raise UsageError(f"{checkpoint} states how it was trained; leave out `{next(iter(given))}`, which is for a .pt")
    return PaperOptions(**given)


def check_paths(checkpoint: Path, output: Path, *, overwrite: bool) -> None:
    """Raise NotFoundError if there is no checkpoint, and UsageError for an output that cannot be written or exists."""
    if not checkpoint.exists():
        raise NotFoundError(
            f"{checkpoint} does not exist; name the folder of a training run or a .pt of the paper's authors"
        )
    if output.suffix == ".zip":
        raise UsageError(f"{output} would be a folder; choose a name for one, and zip its content")
    check_replaceable(output, MANIFEST, overwrite=overwrite)


def check_processor(processor: str, precisions: Sequence[Precision]) -> None:
    """Raise UsageError for a processor that has no effect."""
    if processor != "any" and "int8" not in precisions:
        raise UsageError(f"`processor={processor}` has no effect without int8 in `precisions`")


def check_test_queries(queries: Sequence[str]) -> None:
    """Raise UsageError for too many queries, or one that is empty or not Unicode."""
    if len(queries) > MAX_QUERIES:
        raise UsageError(f"`queries` has {len(queries)} queries; graphs are verified with at most {MAX_QUERIES}")
    for query in queries:
        check_query(query)
