"""A function called in a process of its own, so that what kills it can be told. Knows nothing of what it does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from atv_local.errors import AtvError
from atv_local.text import one_line

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class TrialError(AtvError):
    """What the function raised, or what its process died of, in one line."""


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module returns. Its arguments and result are pickled; what it prints goes to stderr.

    Raises:
        TrialError: it raised anything, or its process died, as native code for another processor makes it.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, function, arguments), daemon=True)
    process.start()
    there.close()
    try:
        worked, found = here.recv()
    except EOFError:
        process.join()
        raise TrialError(_death(process.exitcode or 0)) from None
    process.join()
    if not worked:
        raise TrialError(found)
    return found


def _work(there: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.dup2(sys.__stderr__.fileno() if sys.__stderr__ else 2, 1)
    try:
        answer = True, function(*arguments)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of native code is no Exception
        answer = False, line(error)
    there.send(answer)


def line(error: BaseException) -> str:
    """An error in one line: our own as they are, others with their kind."""
    if isinstance(error, AtvError):
        return str(error)
    said = (str(error).strip() or "no reason given").splitlines()[0]
    return one_line(f"{type(error).__name__}: {said[:300]}")


def _death(code: int) -> str:
    try:
        cause = signal.Signals(-code).name
    except ValueError:
        cause = f"exit code {code}"
    return f"the process died of {cause}, as native code does that was built for another machine"
