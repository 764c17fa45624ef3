"""The chat template of a GGUF as text: Jinja, or the name of one that llama.cpp has built in."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import llama_cpp as lib
from jinja2 import meta, nodes
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from atv_local.target.template_sandbox import TemplateSandbox

_GIVEN = (
    *("messages", "add_generation_prompt", "bos_token", "eos_token", "raise_exception", "strftime_now"),
    *("functions", "function_call", "tools", "tool_choice"),
)
"""Variables that this program gives every template."""
_WITH_DEFAULT = ("defined", "undefined", "default", "d")
"""Tests and filters of a variable that may be missing."""


class ChatTemplate:
    """A compiled Jinja template. For several threads. Results are those of llama-cpp-python's Jinja2ChatFormatter.

    Raises:
        jinja2.TemplateError: it cannot be compiled.
        TemplateLimitError: compiling it takes too much.
    """

    def __init__(self, source: str, *, eos: str, bos: str) -> None:
        self._source = source
        self._sandbox = TemplateSandbox()
        self._tokens = {"eos_token": eos, "bos_token": bos}
        with self._sandbox.limits():
            self._template = self._sandbox.from_string(source)

    @cached_property
    def variables(self) -> list[str]:
        """The variables that it reads and that neither this program nor the template itself sets.

        One that the template sets where it is not defined is among them.
        """
        with self._sandbox.limits():
            tree = self._sandbox.parse(self._source)
            names = meta.find_undeclared_variables(tree)
            own = {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
            tested = {
                node.node.name
                for node in tree.find_all((nodes.Test, nodes.Filter))
                if node.name in _WITH_DEFAULT and isinstance(node.node, nodes.Name)
            }
        return sorted(names - (own - tested) - {*_GIVEN, *self._sandbox.globals})

    def render(self, messages: Sequence[Any], variables: Mapping[str, Any] | None = None) -> str:
        """The prompt, up to where the next answer begins.

        Args:
            messages: dictionaries with `role` and `content`.
            variables: further ones by name, such as `enable_thinking`.

        Raises:
            TemplateLimitError: it takes too much time or memory.
            Exception: whatever the template raises.
        """
        with self._sandbox.limits():
            return self._template.render(
                {
                    **(variables or {}),
                    "messages": messages,
                    "add_generation_prompt": True,
                    "functions": None,
                    "function_call": None,
                    "tools": None,
                    "tool_choice": None,
                    "raise_exception": _raise,
                    "strftime_now": Jinja2ChatFormatter.strftime_now,
                    **self._tokens,
                }
            )


class BuiltinTemplate:
    """One of llama.cpp's own templates, by its name. It reads no variables."""

    variables: Sequence[str] = ()

    def __init__(self, name: str) -> None:
        self._name = name.encode()

    def render(self, messages: Sequence[Any], _variables: Mapping[str, Any] | None = None) -> str:
        """The prompt, up to where the next answer begins.

        Raises:
            ValueError: a text that C cannot hold, or a conversation that llama.cpp refuses.
        """
        texts = [(message["role"].encode(), message["content"].encode("utf-8", "replace")) for message in messages]
        if any(b"\0" in content for _, content in texts):
            raise ValueError("a message contains a NUL character")
        chat = (lib.llama_chat_message * len(texts))(*(lib.llama_chat_message(*text) for text in texts))
        size = 1024
        while True:
            buffer = ctypes.create_string_buffer(size)
            needed = lib.llama_chat_apply_template(self._name, chat, len(texts), True, buffer, size)
            if needed < 0:
                raise ValueError(f"llama.cpp does not render it as {self._name.decode()}")
            if needed <= size:
                return buffer.raw[:needed].decode("utf-8", "replace")
            size = needed


@cache
def builtin_templates() -> frozenset[str]:
    """The names of llama.cpp's own templates (llama_chat_builtin_templates)."""
    count = lib.llama_chat_builtin_templates(None, 0)
    names = (ctypes.c_char_p * count)()
    lib.llama_chat_builtin_templates(names, count)
    return frozenset(name.decode() for name in names if name)


def _raise(message: str) -> None:
    raise ValueError(message)
