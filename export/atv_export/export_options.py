"""The options of an export: parsed, and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from atv_export.export_choices import Layer0Method, PaperPooling, Processor
from atv_export.paper_checkpoint import PaperOptions
from atv_local.answer import check_query
from atv_local.errors import BundleError, UsageError
from atv_local.generator import GRAPHS, Precision
from atv_local.vectors import Positions

MAX_QUERIES = 2000
_PAPER_CHOICES: Mapping[str, Sequence[str]] = {
    "positions": list(Positions),
    "pooling": get_args(PaperPooling),
    "layer0": get_args(Layer0Method),
}


def parse_precisions(given: str | Sequence[str]) -> list[Precision]:
    """Precisions from a list, or from text such as `int8,fp16`.

    Raises:
        UsageError: none, or an unknown one.
    """
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    if not names:
        raise UsageError(f"`precisions` is empty; name one of {', '.join(GRAPHS)}")
    for name in names:
        _check_choice("precisions", name, list(GRAPHS))
    return [precision for precision in GRAPHS if precision in names]


def paper_options(checkpoint: Path, **options: Any) -> PaperOptions:
    """Those options for a file of the paper's authors that are not None.

    Raises:
        UsageError: an invalid one, or any if `checkpoint` is a folder of ours.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if given and checkpoint.is_dir():
        raise UsageError(f"{checkpoint} states how it was trained; leave out `{next(iter(given))}`, which is for a .pt")
    for name, choices in _PAPER_CHOICES.items():
        if name in given:
            _check_choice(name, given[name], choices)
    if "positions" in given:
        given["positions"] = Positions(given["positions"])
    return PaperOptions(**given)


def check_paths(checkpoint: Path, output: Path) -> None:
    """Raise BundleError if there is no checkpoint, and UsageError for an output that would not be a folder."""
    if not checkpoint.exists():
        raise BundleError(
            f"{checkpoint} does not exist; name a folder of `atv-local train` or a .pt of the paper's authors"
        )
    if output.suffix == ".zip":
        raise UsageError(f"{output} would be a folder; choose a name for one, and zip its content")


def check_processor(processor: str, precisions: Sequence[Precision]) -> None:
    """Raise UsageError for an unknown processor, or one that has no effect."""
    _check_choice("processor", processor, get_args(Processor))
    if processor != "any" and "int8" not in precisions:
        raise UsageError(f"`processor={processor}` has no effect without int8 in `precisions`")


def check_queries(queries: Sequence[str]) -> None:
    """Raise UsageError for too many queries, or one that is empty or not Unicode."""
    if len(queries) > MAX_QUERIES:
        raise UsageError(f"`queries` has {len(queries)} queries; graphs are verified with at most {MAX_QUERIES}")
    for query in queries:
        check_query(query)


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(f"`{name}` {value!r} is not one of {', '.join(choices)}")
