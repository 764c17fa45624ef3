"""A Jinja environment for the chat templates of strangers: bounded in time and memory.

Jinja's sandbox keeps a template away from the objects of this process, but not from its time and memory. Here a render
has a limit of CPU time, checked at every line that runs, and what operators, filters, methods and output may produce is
counted before it is made. Results are those of llama-cpp-python's Jinja2ChatFormatter.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from types import FrameType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator
from jinja2.ext import loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

_SECONDS = 3.0
"""CPU time of one render."""
_SIZE = 1 << 25
"""Characters and items that one render may produce, intermediate values included: sixty times the text of one."""
_UNNEEDED = ("forceescape", "pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr")
"""Filters for HTML pages, some slow on long texts; chat templates have no use for them."""
_WIDTH = re.compile(r"\d{4,}|%[^a-z]*\*|\{[^{}]*:[^{}]*\{")
"""In a format string: a field of a thousand characters or more, or of a width that is a value."""
_MULTIPLY = frozenset(
    {"batch", "center", "expandtabs", "indent", "join", "ljust", "replace", "rjust", "slice", "to_bytes", "tojson"}
    | {"translate", "zfill"}
)
"""Filters and methods whose result can be as many times larger than their subject as an argument is."""


class TemplateLimitError(BaseException):  # Jinja goes on after some Exceptions
    """A template takes more time or memory than a conversation needs."""


class _Generator(CodeGenerator):
    """Passes to the environment what a sandbox does not intercept: `~`, and lists and dicts of the template."""

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:  # noqa: N802  # Jinja's name
        self.write("environment.join((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Any) -> None:  # noqa: N802
        self.write("environment.built(")
        super().visit_List(node, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Any) -> None:  # noqa: N802
        self.write("environment.built(")
        super().visit_Dict(node, frame)
        self.write(")")

    def visit_Tuple(self, node: nodes.Tuple, frame: Any) -> None:  # noqa: N802
        self.write("environment.built(" if node.ctx == "load" else "(")
        super().visit_Tuple(node, frame)
        self.write(")")


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """The environment; what it compiles and renders belongs within its `limits`."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[Jinja2ChatFormatter.IgnoreGenerationTags, loopcontrols]
        )
        self._local = threading.local()
        self.filters["tojson"] = Jinja2ChatFormatter.tojson
        for name in _UNNEEDED:
            del self.filters[name]
        self.filters = {name: self._counted(function) for name, function in self.filters.items()}
        self.concat = self.join  # type: ignore[method-assign]  # what joins output

    @contextmanager
    def limits(self) -> Iterator[None]:
        """Limit what this thread does within."""
        self._local.left = _SIZE
        end = time.thread_time() + _SECONDS
        before = sys.gettrace()

        def check(_frame: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
            if time.thread_time() > end:
                raise TemplateLimitError(f"it takes longer than {_SECONDS:g} s")
            return check

        sys.settrace(check)
        try:
            yield
        finally:
            sys.settrace(before)

    def count(self, size: int) -> None:
        """Account for a value before it is made."""
        left = self._local.left = self._local.left - size - 1
        if left < 0:
            raise TemplateLimitError(f"it makes more than {_SIZE} characters")

    def join(self, parts: Iterable[Any]) -> str:
        """The parts as one string, each counted as it comes."""
        texts = []
        for part in parts:
            text = str(part)
            self.count(len(text))
            texts.append(text)
        return "".join(texts)

    def built(self, value: Any) -> Any:
        """Account for a list, tuple or dict with all that is in it: printing or comparing it takes as long."""
        pending = [value]
        while pending:
            one = pending.pop()
            self.count(len(one) if isinstance(one, str | bytes) else 1)
            if isinstance(one, list | tuple):
                pending.extend(one)
            elif isinstance(one, dict):
                pending.extend(one.values())
        return value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute what an operator of the template does."""
        if operator == "+":
            self.count(_size(left) + _size(right) if isinstance(left, Sized) else 0)
        elif operator == "*":
            self.count(_product(left, right))
        elif operator == "**":
            self._count_power(left, right)
        else:
            self._count_format(left, (right,))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function or method from the template."""
        given = [value for name, value in kwargs.items() if name not in ("_loop_vars", "_block_vars")]
        subject = getattr(getattr(function, "__wrapped__", function), "__self__", None)  # Jinja wraps `format`
        if isinstance(subject, str | bytes | list | tuple | dict | int):
            self._count_call(getattr(function, "__name__", ""), subject, (*args, *given))
        result = super().call(context, function, *args, **kwargs)
        return self.built(result) if function is dict else result

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter whose values are counted; those of Jinja take the environment or context first."""

        @functools.wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            skipped = 1 if hasattr(function, "jinja_pass_arg") else 0
            subject, *others = args[skipped:] or [""]
            self._count_call(function.__name__, subject, (*others, *kwargs.values()))
            return function(*args, **kwargs)

        return counted

    def _count_call(self, name: str, subject: Any, arguments: Sequence[Any]) -> None:
        name = name.rpartition("do_")[2]
        largest = max((_weight(argument) for argument in arguments), default=1)
        if name.startswith("format"):
            self._count_format(subject, arguments)
        elif name == "round":  # computes a power of ten
            self.count(largest**2)
        elif name in _MULTIPLY:
            self.count((_size(subject) + 1) * max(largest, 1))
        else:
            self.count(_size(subject))

    def _count_format(self, form: Any, arguments: Sequence[Any]) -> None:
        if not isinstance(form, str):
            return
        if _WIDTH.search(form):
            raise TemplateLimitError("it formats a field of a thousand characters or more")
        fields = form.count("{") + form.count("%")
        self.count(len(form) + fields * sum(map(_total, arguments)))

    def _count_power(self, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > 1 << 12:
            raise TemplateLimitError(f"it computes a power of {right}")


def _size(value: Any) -> int:
    """The number of characters or items of a value, 1 for one that has none."""
    return len(value) if isinstance(value, str | bytes | list | tuple | dict | range) else 1


def _total(value: Any) -> int:
    """Characters of a text or of the texts in a tuple, as `%` takes it."""
    return sum(map(_size, value)) if isinstance(value, tuple | list) else _size(value)


def _weight(argument: Any) -> int:
    """How many times larger an argument can make something."""
    return min(abs(argument), 1 << 64) if isinstance(argument, int) else _size(argument)


def _product(left: Any, right: Any) -> int:
    """Size of a repeated sequence, or of a product of numbers."""
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | bytes | list | tuple) and isinstance(other, int):
            return len(one) * max(other, 0)
    numbers = [one.bit_length() for one in (left, right) if isinstance(one, int)]
    return sum(numbers) // 8
