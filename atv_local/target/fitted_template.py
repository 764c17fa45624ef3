"""A chat template fitted to plain messages, so that nothing that is said is lost.

Rendering a few marked texts shows what a template does with them. One that takes content as a list of parts gets it so;
a system message that it does not take is put at the start of the user's next message, as llama.cpp's server does; one
that leaves out the user's text, or writes it in another way, is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import jinja2

from atv_local.errors import ModelError, UsageError, first_line
from atv_local.target.chat_template import BuiltinTemplate, ChatTemplate, builtin_templates
from atv_local.target.template_sandbox import TemplateLimitError
from atv_local.target.thinking import closing
from atv_local.text import shown, some_of

Message = Mapping[str, str]
"""One message of a conversation: `role` (system, user, assistant) and `content`."""

_PROBES = {
    "user": ("user",),
    "assistant": ("user", "assistant", "user"),
    "system": ("system", "user"),
    "later system": ("user", "assistant", "later system", "user"),
}
"""A conversation for each kind of message, in which it must be said."""
_THINKING = "enable_thinking"
_SENTENCES = "0. " * 1000
_CHANGED = "aB\n\n\"'<&>"
"""What templates change that write HTML, one line or one case."""
_ENDED_THOUGHTS = ("</think>", "</thought>")
"""Where templates cut earlier answers, and some the user's text too."""
_REMEDY = "write a GGUF with another one with `gguf-new-metadata --chat-template-file`"


class TemplateWarning(UserWarning):
    """A chat template that does not take everything as it was said."""


class FittedTemplate:
    """The chat template of a GGUF. For several threads.

    Args:
        template: the compiled template; see `compiled`.
        variables: values for its variables. `enable_thinking=False` also closes a thinking block that prompts would
            end in.

    Raises:
        ModelError: it takes too much time or memory, or leaves out or changes the user's text.
    """

    def __init__(self, template: ChatTemplate | BuiltinTemplate, variables: Mapping[str, Any] | None = None) -> None:
        self._template, self.variables = template, dict(variables or {})
        self._takes_parts: dict[str, bool | None] = {}
        if self._form("user") is None:
            query = "a < B"
            probe = self._rendered([{"role": "user", "content": query}])  # raises where the template does
            raise ModelError(
                "the chat template in the GGUF leaves out the user's text or a part of it, or changes it "
                f"(it makes {probe[:60]!r} of the query {query!r}); {_REMEDY}"
            )

    @classmethod
    def compiled(cls, source: str, *, eos: str, bos: str) -> FittedTemplate:
        """Compile Jinja, or take one of llama.cpp's templates by its name.

        Args:
            source: what the GGUF has.
            eos: text of the end-of-sequence token.
            bos: text of the beginning-of-sequence token.

        Raises:
            ModelError: it cannot be compiled, or fitted.
        """
        name = source.strip().lower()
        if name in builtin_templates():
            return cls(BuiltinTemplate(name))
        try:
            return cls(ChatTemplate(source, eos=eos, bos=bos))
        except (jinja2.TemplateError, RecursionError, TemplateLimitError) as error:
            raise ModelError(f"the chat template in the GGUF cannot be read: {first_line(error)}") from error

    def with_variables(self, variables: Mapping[str, Any]) -> FittedTemplate:
        """The same template with other values for its variables."""
        return self if variables == self.variables else FittedTemplate(self._template, variables)

    def check_variables(self, names: Iterable[str]) -> None:
        """Raise UsageError for a variable that the template does not read; all take `enable_thinking`."""
        for name in names:
            if name != _THINKING and name not in self._template.variables:  # to find those, it is parsed once more
                known = self._template.variables
                has = f"its variables are {some_of(known)}" if known else "it has no variables"
                raise UsageError(f"the chat template in the GGUF does not read {shown(name)}; {has}")

    def summary(self) -> str:
        """How it takes what is said, in words."""
        built_in = isinstance(self._template, BuiltinTemplate)
        facts = ["one of llama.cpp's" if built_in else "Jinja"]
        facts += ["content in parts"] * bool(self._form("user"))
        system = self._form("system") is not None
        facts.append("takes a system message" if system else "a system message is put before the user's text")
        facts += ["leaves out earlier turns"] * (self._form("assistant") is None)
        facts += [f"cuts or changes the user's text at {end}" for end in self._cut_at]
        facts += ["answers begin inside a thinking block, which enable_thinking=false closes"] * self.thinks
        if self._template.variables:
            facts.append(f"variables {some_of(self._template.variables)}")
        return ", ".join(facts)

    @property
    def thinks(self) -> bool:
        """Whether answers begin inside a thinking block."""
        return bool(self._closing) and self.variables.get(_THINKING) is not False

    @cached_property
    def _closing(self) -> str:
        """What closes the thinking block that the template opens; empty if it opens none, or closes it."""
        mark = _mark(0)
        return closing(self._rendered(self._given([{"role": "user", "content": mark}])).rpartition(mark)[2])

    @cached_property
    def _cut_at(self) -> list[str]:
        """Ends of thoughts where it takes the user's text for an answer, whose thoughts it leaves out."""
        texts = {end: f"{_mark(0)}{end}{_mark(1)}" for end in _ENDED_THOUGHTS}
        parts = bool(self._form("user"))
        return [
            end for end, text in texts.items() if text not in self._rendered([_message({"role": "user"}, text, parts)])
        ]

    def render(self, messages: Sequence[Message]) -> str:
        """A conversation as text, up to where the next answer begins.

        Raises:
            ModelError: the template does not take it.
        """
        text = self._rendered(self._given(messages))
        return text + self._closing if self.variables.get(_THINKING) is False else text

    def _given(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages in the form that the template takes them in."""
        given: list[dict[str, Any]] = []
        pending: list[str] = []
        for place, message in enumerate(messages):
            role, content = message["role"], message["content"]
            kind = "later system" if role == "system" and place else role
            form = self._form(kind)
            if role == "system" and form is None:
                warnings.warn(
                    "the chat template takes no system message here; it is put before the user's text",
                    TemplateWarning,
                    stacklevel=2,
                )
                pending.append(content)
                continue
            if role == "assistant" and form is None:
                warnings.warn("the chat template leaves out earlier turns", TemplateWarning, stacklevel=2)
            if role == "user":
                content, pending = "\n".join([*pending, content]), []
                if "</th" in content and (ends := [end for end in self._cut_at if end in content]):
                    text = f"the chat template cuts or changes the user's text at {ends[0]}"
                    warnings.warn(text, TemplateWarning, stacklevel=2)
            given.append(_message(message, content, bool(form)))
        if pending:
            given.append(_message({"role": "user"}, "\n".join(pending), bool(self._form("user"))))
        return given

    def _form(self, kind: str) -> bool | None:
        """Whether the template takes the content of such messages as parts; None if it says them in no form."""
        if kind not in _PROBES:
            return False
        if kind not in self._takes_parts:
            self._takes_parts[kind] = self._probe(kind)
        return self._takes_parts[kind]

    def _probe(self, kind: str) -> bool | None:
        roles = _PROBES[kind]
        marks = [_mark(place) for place in range(len(roles))]
        for parts in (False, True):
            forms = [parts if role == kind else bool(self._form(role)) for role in roles]
            try:
                text = self._render(
                    [
                        _message({"role": role.rpartition(" ")[2]}, mark, form)
                        for role, mark, form in zip(roles, marks, forms, strict=True)
                    ]
                )
            except TemplateLimitError as error:
                raise _refusal(error) from error
            except Exception:  # a template may fail in any way its author wrote
                continue
            if all(mark in text for mark in marks):
                return parts
        return None

    def _rendered(self, messages: Sequence[Mapping[str, Any]]) -> str:
        try:
            return self._render(messages)
        except TemplateLimitError as error:
            raise _refusal(error) from error
        except Exception as error:
            system = any(message["role"] == "system" for message in messages)
            hint = "; try it without a system message" if system else ""
            raise ModelError(
                f"the chat template in the GGUF cannot render this prompt: {first_line(error)}{hint}"
            ) from error

    def _render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        return self._template.render(messages, self.variables)


def _mark(place: int) -> str:
    """Stands for a text: some sentences, as a template may take the first one only, or so many characters. Text does
    not contain Unicode noncharacters."""
    return f"\ufdd0{place}. {_CHANGED}{_SENTENCES}\ufdd0"


def _message(message: Mapping[str, Any], content: str, parts: bool) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": content}] if parts else content}


def _refusal(error: TemplateLimitError) -> ModelError:
    return ModelError(f"the chat template in the GGUF is refused: {error}")
