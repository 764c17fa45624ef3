"""A query in the target's chat template, as tokens. The same for running and training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from atv_local.errors import ModelError
from atv_local.vocabulary import Vocabulary

_MARK = "\ufdd0query\ufdd0"  # a Unicode noncharacter: no text contains it


@dataclass(frozen=True)
class Prompt:
    """Token ids of a whole prompt; the first `shared` of them are the same for every query."""

    tokens: tuple[int, ...]
    shared: int


class PromptFormat:
    """Renders queries with the chat template in the GGUF, or as they are where it has none (a base model).

    Args:
        turns: what was asked and answered before, such as demonstrations.

    Raises:
        ModelError: the template cannot be used, for example because it takes no system message.
    """

    def __init__(
        self, vocabulary: Vocabulary, system: str | None = None, turns: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._vocabulary = vocabulary
        self._system = system
        self._turns = [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        self._template = self._compile() if vocabulary.chat_template else None
        head, mark, _ = self._render(_MARK).partition(_MARK)
        self._head = vocabulary.tokenize(head, special=True) if mark else []

    def __call__(self, query: str) -> Prompt:
        """The prompt for one query."""
        tokens = self._tokens(query)
        shared = 0  # a token may span the seam between template and query; it is not shared
        limit = min(len(self._head), len(tokens) - 1)
        while shared < limit and tokens[shared] == self._head[shared]:
            shared += 1
        return Prompt(tuple(tokens), shared)

    def _tokens(self, query: str) -> list[int]:
        """The rendered prompt as llama.cpp tokenises it; control tokens spelt in the query stay mere text."""
        if not self._vocabulary.spells_control(query):
            return self._vocabulary.tokenize(self._render(query), special=True)
        head, _, tail = self._render(_MARK).partition(_MARK)
        tokens: list[int] = []
        for text, special in ((head, True), (query, False), (tail, True)):
            if text:
                tokens += self._vocabulary.tokenize(text, special=special, bos=not tokens)
        return tokens

    def answer(self, query: str, text: str) -> tuple[int, ...]:
        """A given answer as the target would write it after that prompt, ended as the template ends it."""
        prompt = self(query).tokens
        whole = self._vocabulary.tokenize(self._render(query) + text, special=True)
        if tuple(whole[: len(prompt)]) == prompt and not self._vocabulary.spells_control(text):
            return (*whole[len(prompt) :], self.end_of_answer)
        return (*self._vocabulary.tokenize(text, special=False), self.end_of_answer)

    @cached_property
    def end_of_answer(self) -> int:
        """The token that ends an answer in this template: what a trained answer must finish with."""
        text = self._render("", answer=_MARK).partition(_MARK)[2]
        tokens = self._vocabulary.tokenize(text, special=True)
        return next((token for token in tokens if self._vocabulary.ends(token)), self._vocabulary.eos)

    def _compile(self) -> Jinja2ChatFormatter:
        try:
            return Jinja2ChatFormatter(
                self._vocabulary.chat_template, self._vocabulary.eos_text, self._vocabulary.bos_text
            )
        except jinja2.TemplateError as error:
            raise ModelError(f"the chat template in the GGUF cannot be read: {error}") from error

    def _render(self, query: str, answer: str | None = None) -> str:
        messages = [*self._turns, {"role": "user", "content": query}]
        if answer is not None:
            messages.append({"role": "assistant", "content": answer})
        if self._system is not None:
            messages.insert(0, {"role": "system", "content": self._system})
        return self.render(messages)

    def render(self, messages: Sequence[dict[str, str]]) -> str:
        """A conversation, each message with `role` and `content`, up to where the next answer begins.

        Raises:
            ModelError: the template does not take it.
        """
        if self._template is None:
            return "\n\n".join(message["content"] for message in messages)
        taken: Any = messages
        try:
            return self._template(messages=taken).prompt
        except Exception as error:  # a template may fail in any way its author wrote
            system = any(message["role"] == "system" for message in messages)
            hint = "; try it without a system message" if system else ""
            raise ModelError(f"the chat template in the GGUF cannot render this prompt: {error}{hint}") from error
