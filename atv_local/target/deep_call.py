"""Runs a call of llama.cpp that needs more stack than a thread has, in a thread with a stack of the wanted size."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from atv_local.errors import PromptError

_PAGE = 1 << 12
_MOST = 1 << 32
"""Bytes of a stack; memory is taken only for what is used of it."""
_lock = threading.Lock()

T = TypeVar("T")


def deep_call(function: Callable[[], T], stack: int) -> T:
    """What a function returns that runs with so many bytes of stack, or with `_MOST`.

    Raises:
        PromptError: there is no memory for such a stack; only a long text needs one.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="deep") as executor:
        return _started(executor, function, min(stack, _MOST) // _PAGE * _PAGE).result()


def _started(executor: ThreadPoolExecutor, function: Callable[[], T], stack: int) -> Future[T]:
    with _lock:  # the size is one of the process, for threads that start from now on
        before = threading.stack_size(stack)
        try:
            return executor.submit(function)
        except RuntimeError as error:
            raise PromptError(f"the text needs {stack >> 20} MB of stack, which is not there; shorten it") from error
        finally:
            threading.stack_size(before)
