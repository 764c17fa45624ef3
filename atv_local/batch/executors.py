"""Where else than in this process rows can be answered: executors, which are plug-ins.

A package registers one in the entry-point group `atv_local.executors`, under the name that `--executor` takes:

    [project.entry-points."atv_local.executors"]
    ray = "atv_plugins.ray_cluster:answers"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Protocol

from atv_local.batch.row_results import AnswerSettings, RowResult
from atv_local.data import RowRequest
from atv_local.entry_points import load_plugin, plugin_errors, plugin_names
from atv_local.errors import UsageError

GROUP = "atv_local.executors"


class Executor(Protocol):
    """A function that answers rows in order, exactly as `Answerer` does."""

    def __call__(
        self,
        settings: AnswerSettings,
        rows: Iterator[RowRequest],
        *,
        options: Mapping[str, str],
        say: Callable[[str], None],
    ) -> Iterator[RowResult]:
        """The result of each row, in order.

        Args:
            settings: a plain value that can be pickled; its files are named by path.
            rows: to be drawn as they are needed, so that a file of any size can be answered.
            options: settings of the executor's own, as texts.
            say: prints a line about the progress.

        Raises:
            UsageError: an option that it does not have, or an invalid value of one.
        """


def load_executor(name: str, options: Mapping[str, str]) -> Callable[..., Iterator[RowResult]]:
    """The executor of that name, with its options; it takes the other parameters of `Executor`.

    Raises:
        UsageError: there is none, or a package that it needs is not installed.
        PluginError: it cannot be loaded.
    """
    if name not in (known := plugin_names(GROUP)):
        raise UsageError(f"there is no executor {name!r}; installed are {', '.join(known) or 'none'}")
    return partial(_run, name, load_plugin(GROUP, name), options=options)


def _run(
    name: str,
    execute: Executor,
    settings: AnswerSettings,
    rows: Iterator[RowRequest],
    *,
    options: Mapping[str, str],
    say: Callable[[str], None],
) -> Iterator[RowResult]:
    with plugin_errors(GROUP, name):
        yield from execute(settings, rows, options=options, say=say)
