"""A query, or a conversation that ends in one, in the target's chat template, as tokens. Training reads the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import jinja2
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from atv_local.errors import ModelError
from atv_local.target.vocabulary import Vocabulary

_MARK = "\ufdd0query\ufdd0"  # a Unicode noncharacter: no text contains it

Message = Mapping[str, str]
"""What one side of a conversation said: `role` (system, user, assistant) and `content`."""


@dataclass(frozen=True)
class Prompt:
    """Token ids of a whole prompt; the first `shared` of them are the same for every query."""

    tokens: tuple[int, ...]
    shared: int
    turns: tuple[int, ...] = ()
    """Of a conversation: how many tokens each earlier prompt had before its last one."""

    @property
    def segments(self) -> list[tuple[int, ...]]:
        """All tokens but the last, in the runs that are evaluated by themselves and can be kept for the next turn."""
        cuts = sorted({0, self.shared, *self.turns, len(self.tokens) - 1})
        return [self.tokens[start:end] for start, end in pairwise(cuts)]


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
        self._before: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self._before += [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        self._template = self._compile() if vocabulary.chat_template else None
        self._turn = lru_cache(maxsize=256)(lambda *messages: self._tokens([dict(message) for message in messages]))
        self._head = self._tokens_before(self._before)

    def __call__(self, query: str) -> Prompt:
        """The prompt for one query."""
        tokens = self._tokens(self._messages(query))
        return Prompt(tuple(tokens), _common(self._head, tokens))

    def after(self, *, system: str | None = None, turns: Sequence[tuple[str, str]] = ()) -> PromptFormat:
        """The same template, with a system message and earlier turns before every query."""
        return PromptFormat(self._vocabulary, system, turns)

    def conversation(self, messages: Sequence[Message], n_ctx: int | None = None) -> Prompt:
        """The prompt for the next answer in a conversation, which has its own system message if any.

        Of one that ends in the user's first words it is what a query gives. What an earlier turn's prompt had before
        its last token begins this one's, unless the template changes what was said before.

        Args:
            n_ctx: a prompt that is longer is not looked at for turns, as it cannot be evaluated.

        Raises:
            ModelError: the template does not take it, for example because the roles do not alternate.
        """
        tokens = self._tokens(messages)
        asked = [index for index, message in enumerate(messages) if message["role"] == "user"]
        head = self._tokens_before(messages[: asked[0]]) if asked else []
        ends = []
        for index in asked if n_ctx is None or len(tokens) <= n_ctx else ():
            if index + 1 < len(messages):
                *before, _ = self._turn(*(tuple(message.items()) for message in messages[: index + 1]))
                if before == tokens[: len(before)] and len(before) < len(tokens):
                    ends.append(len(before))
        return Prompt(tuple(tokens), _common(head, tokens), tuple(ends))

    def _messages(self, query: str) -> list[Message]:
        return [*self._before, {"role": "user", "content": query}]

    def _tokens_before(self, messages: Sequence[Message]) -> list[int]:
        """What stands before a query, whatever it is; a token may yet span the seam."""
        head, mark, _ = self.render([*messages, {"role": "user", "content": _MARK}]).partition(_MARK)
        return self._vocabulary.tokenize(head, special=True) if mark else []

    def _tokens(self, messages: Sequence[Message]) -> list[int]:
        """The rendered prompt as llama.cpp tokenises it; control tokens spelt in what was said stay mere text."""
        if not any(self._vocabulary.spells_control(message["content"]) for message in messages):
            return self._vocabulary.tokenize(self.render(messages), special=True)
        marked = [dict(message) | {"content": f"{_MARK}{index}{_MARK}"} for index, message in enumerate(messages)]
        tokens: list[int] = []
        for place, text in enumerate(re.split(f"{_MARK}(\\d+){_MARK}", self.render(marked))):
            said = place % 2 == 1
            part = messages[int(text)]["content"] if said else text
            if part:
                tokens += self._vocabulary.tokenize(part, special=not said, bos=not tokens)
        return tokens

    def answer(self, query: str, text: str) -> tuple[int, ...]:
        """A given answer as the target would write it after that prompt, ended as the template ends it."""
        prompt = self(query).tokens
        whole = self._vocabulary.tokenize(self.render(self._messages(query)) + text, special=True)
        if tuple(whole[: len(prompt)]) == prompt and not self._vocabulary.spells_control(text):
            return (*whole[len(prompt) :], self.end_of_answer)
        return (*self._vocabulary.tokenize(text, special=False), self.end_of_answer)

    @cached_property
    def end_of_answer(self) -> int:
        """The token that ends an answer in this template: what a trained answer must finish with."""
        answered = {"role": "assistant", "content": _MARK}
        text = self.render([*self._messages(""), answered]).partition(_MARK)[2]
        tokens = self._vocabulary.tokenize(text, special=True)
        return next((token for token in tokens if self._vocabulary.ends(token)), self._vocabulary.eos)

    def _compile(self) -> Jinja2ChatFormatter:
        try:
            return Jinja2ChatFormatter(
                self._vocabulary.chat_template, self._vocabulary.eos_text, self._vocabulary.bos_text
            )
        except jinja2.TemplateError as error:
            raise ModelError(f"the chat template in the GGUF cannot be read: {error}") from error

    def render(self, messages: Sequence[Message]) -> str:
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


def _common(head: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens of a prompt are those of what always stands before it; never the last one."""
    limit = min(len(head), len(tokens) - 1)
    return next((place for place in range(limit) if head[place] != tokens[place]), limit)
