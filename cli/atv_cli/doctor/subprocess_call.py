"""Call a function in a process of its own, so that a crash of native code is an error and not the end."""

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


class SubprocessError(AtvError):
    """One line on what the function raised, or how its process died."""


def call_in_subprocess(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a module-level function returns. Arguments and result are pickled; its stdout goes to stderr.

    Raises:
        SubprocessError: the function raised anything, or its process died, as native code for another processor does.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, function, arguments), daemon=True)
    process.start()
    there.close()
    try:
        worked, result = here.recv()
    except EOFError:
        process.join()
        raise SubprocessError(_death(process.exitcode or 0)) from None
    process.join()
    if not worked:
        raise SubprocessError(result)
    return result


def _work(there: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.dup2(sys.__stderr__.fileno() if sys.__stderr__ else 2, 1)
    try:
        outcome = True, function(*arguments)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a Rust panic is not an Exception
        outcome = False, describe_error(error)
    there.send(outcome)


def describe_error(error: BaseException) -> str:
    """One line on an error; one that is not ours begins with its type."""
    if isinstance(error, AtvError):
        return str(error)
    message = (str(error).strip() or "no reason given").splitlines()[0]
    return one_line(f"{type(error).__name__}: {message[:300]}")


def _death(code: int) -> str:
    try:
        cause = signal.Signals(-code).name
    except ValueError:
        cause = f"exit code {code}"
    return f"the process died of {cause}; its native code may be built for another processor"
