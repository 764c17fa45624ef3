"""Queries and conversations as tokens, in the target's chat template. Training uses the same prompts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, takewhile
from typing import Any

from atv_local.errors import UsageError
from atv_local.target.fitted_template import FittedTemplate, Message
from atv_local.target.vocabulary import Vocabulary
from atv_local.text import shown

MARK = "\ufdd0query\ufdd0"
"""Stands for the content of a message in a rendered template; text does not contain Unicode noncharacters."""

_END_MARK = f"{MARK}next{MARK}"
"""The same for a message that is not read yet."""

_END = 32
"""Tokens at the end of a prompt that decide how an answer after it is tokenised; some templates end with about 10."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as token ids.

    Attributes:
        tokens: the whole prompt.
        shared: how many tokens, from the first on, are the same for every query.
        turns: for a conversation, how many tokens each earlier prompt had before its last one, and how many there are
            before each message of the user but the first.
        begins_text: whether the tokenizer puts a space before an answer, as before every text; it is not part of it.
    """

    tokens: tuple[int, ...]
    shared: int
    turns: tuple[int, ...] = ()
    begins_text: bool = False

    @property
    def segments(self) -> list[tuple[int, ...]]:
        """All tokens but the last, in the runs that are evaluated by themselves and reused by later prompts."""
        cuts = sorted({0, self.shared, *self.turns, len(self.tokens) - 1})
        return [self.tokens[start:end] for start, end in pairwise(cuts)]

    def shared_with(self, other: Prompt) -> list[tuple[int, ...]]:
        """The segments that another prompt begins with too."""
        pairs = zip(self.segments, other.segments, strict=False)
        return [segment for segment, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]


class PromptFormat:
    """Renders queries with the chat template in the GGUF, or as they are if it has none (a base model).

    Args:
        vocabulary: of the target.
        system: a system message before every query.
        turns: pairs of query and answer before every query, such as demonstrations.
        template: of this GGUF, if it is compiled already.

    Raises:
        ModelError: the template cannot be used, for example because it leaves out the user's text.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        system: str | None = None,
        turns: Sequence[tuple[str, str]] = (),
        *,
        template: FittedTemplate | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._before: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self._before += [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        if template is None and (source := vocabulary.chat_template):
            template = FittedTemplate.compiled(source, eos=vocabulary.eos_text, bos=vocabulary.bos_text)
        self._template = template
        self._turn = lru_cache(maxsize=256)(lambda *messages: self._tokens([dict(message) for message in messages]))
        self._opening = lru_cache(maxsize=256)(
            lambda *messages: self._tokens_before([dict(message) for message in messages])
        )
        self._head = self._tokens_before(self._before)

    def __call__(self, query: str) -> Prompt:
        """The prompt for one query."""
        tokens = self._tokens(self._messages(query))
        return Prompt(tuple(tokens), _shared(self._head, tokens), begins_text=self._begins_text(tokens))

    def after(self, *, system: str | None = None, turns: Sequence[tuple[str, str]] = ()) -> PromptFormat:
        """The same template, with a system message and earlier turns before every query."""
        return PromptFormat(self._vocabulary, system, turns, template=self._template)

    def with_variables(self, variables: Mapping[str, Any]) -> PromptFormat:
        """The same template with values for its variables, without messages before every query."""
        if self._template is None or variables == self._template.variables:
            return self
        return PromptFormat(self._vocabulary, template=self._template.with_variables(variables))

    def check_variables(self, names: Iterable[str]) -> None:
        """Raise UsageError for a variable that the template does not read; `enable_thinking` is always known."""
        if self._template is not None:
            self._template.check_variables(names)
        elif unknown := set(names) - {"enable_thinking"}:
            raise UsageError(f"the GGUF has no chat template that could read {shown(min(unknown))}")

    def summary(self) -> str:
        """How the template takes what is said, in words."""
        return "none, so prompts are the query alone" if self._template is None else self._template.summary()

    @property
    def variables(self) -> Mapping[str, Any]:
        """The values of the template's variables."""
        return {} if self._template is None else self._template.variables

    @property
    def thinks(self) -> bool:
        """Whether answers begin inside a thinking block that the template opens."""
        return self._template is not None and self._template.thinks

    def conversation(self, messages: Sequence[Message], n_ctx: int | None = None) -> Prompt:
        """The prompt for the next answer in a conversation. A last message of the assistant is an answer that is begun
        and goes on.

        For a single message of the user it is the prompt of that query. It starts with the tokens that an earlier
        turn's prompt had before its last one, unless the template changes earlier messages.

        Args:
            messages: the whole conversation, with a system message if it has one.
            n_ctx: the turns of a longer prompt are not computed, as it cannot be evaluated.

        Raises:
            PromptError: a long text with more than `n_ctx` tokens.
            ModelError: the template does not take it, for example because the roles do not alternate.
        """
        tokens = self._tokens(messages, n_ctx)
        asked = [index for index, message in enumerate(messages) if message["role"] == "user"]
        if n_ctx is not None and len(tokens) > n_ctx:
            return Prompt(tuple(tokens), 0)
        head = self._tokens_before(messages[: asked[0]]) if asked else []
        ends = []
        for index in asked:
            if index > asked[0]:
                ends.append(_shared(self._opening(*(tuple(message.items()) for message in messages[:index])), tokens))
            if index + 1 < len(messages):
                *before, _ = self._turn(*(tuple(message.items()) for message in messages[: index + 1]))
                if before == tokens[: len(before)] and len(before) < len(tokens):
                    ends.append(len(before))
        begins_text = messages[-1]["role"] != "assistant" and self._begins_text(tokens)
        return Prompt(tuple(tokens), _shared(head, tokens), tuple(ends), begins_text)

    def ahead(self, messages: Sequence[Message], n_ctx: int) -> list[tuple[int, ...]]:
        """The segments that every prompt begins with in which the user says something after `messages`; none where it
        is longer than `n_ctx` tokens. Errors are those of `conversation`."""
        one, other = (self.conversation([*messages, {"role": "user", "content": text}], n_ctx) for text in "ab")
        return [] if len(one.tokens) >= n_ctx else one.shared_with(other)

    def _begins_text(self, tokens: Sequence[int]) -> bool:
        """In llama.cpp SentencePiece puts a space before a text after a control token, and not after a line break."""
        if self._template is None or not self._vocabulary.puts_space:
            return False
        last = self._vocabulary.piece(tokens[-1], special=True)
        return last == last.rstrip()

    def _messages(self, query: str) -> list[Message]:
        return [*self._before, {"role": "user", "content": query}]

    def _tokens_before(self, messages: Sequence[Message]) -> list[int]:
        """The tokens before any query; the last one may merge with the query's first."""
        spelt = self._spells_control(messages)
        marked = [*(_marked(messages) if spelt else messages), {"role": "user", "content": _END_MARK}]
        head, mark, _ = self.render(marked).partition(_END_MARK)
        if not mark:
            return []
        return self._unmarked(head, messages) if spelt else self._vocabulary.tokenize(head, special=True)

    def _tokens(
        self, messages: Sequence[Message], limit: int | None = None, *, rendered: str | None = None
    ) -> list[int]:
        """The prompt as llama.cpp tokenises it; control tokens spelt in a message stay plain text."""
        if not self._spells_control(messages):
            text = self._unanswered(messages) if rendered is None else rendered
            return self._vocabulary.tokenize(text, special=True, limit=limit)
        return self._unmarked(self._unanswered(_marked(messages)), messages, limit)

    def _spells_control(self, messages: Sequence[Message]) -> bool:
        return any(self._vocabulary.spells_control(message["content"]) for message in messages)

    def _unmarked(self, rendered: str, messages: Sequence[Message], limit: int | None = None) -> list[int]:
        """The tokens of a rendered conversation of `_marked` messages, whose contents are mere text."""
        tokens: list[int] = []
        for place, text in enumerate(re.split(f"{MARK}(\\d+){MARK}", rendered)):
            is_content = place % 2 == 1
            part = messages[int(text)]["content"] if is_content else text
            if part:
                tokens += self._vocabulary.tokenize(part, special=not is_content, bos=not tokens, limit=limit)
        return tokens

    def _unanswered(self, messages: Sequence[Message]) -> str:
        """A conversation as text, up to where the answer begins, or goes on that the last message begins."""
        if self._template is None or messages[-1]["role"] != "assistant":
            return self.render(messages)
        return self.render(messages[:-1]) + messages[-1]["content"]

    def answer(self, query: str, text: str) -> tuple[int, ...]:
        """The tokens of a given answer as the target would write it, with the one that ends answers in the template.

        Args:
            query: the query that it answers.
            text: the answer.
        """
        return self.example(query, text)[1]

    def example(self, query: str, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The tokens of a query's prompt and those of `answer`, together in half the time."""
        messages = self._messages(query)
        rendered = self.render(messages)
        prompt = tuple(self._tokens(messages, rendered=rendered))
        whole = self._vocabulary.tokenize(rendered + text, special=True)
        if tuple(whole[: len(prompt)]) == prompt and not self._vocabulary.spells_control(text):
            return prompt, (*whole[len(prompt) :], self.end_of_answer)
        return prompt, (*self._vocabulary.tokenize(text, special=False), self.end_of_answer)

    def answer_after(self, prompt: Prompt, text: str) -> tuple[int, ...]:
        """As `answer`, after any prompt."""
        end = self._vocabulary.text(prompt.tokens[-_END:])
        before = self._vocabulary.tokenize(end, special=True, bos=False)  # may begin with other tokens than the prompt
        whole = self._vocabulary.tokenize(end + text, special=True, bos=False)
        follows = before[-1:] == [prompt.tokens[-1]] and whole[: len(before)] == before
        if follows and not self._vocabulary.spells_control(text):
            return (*whole[len(before) :], self.end_of_answer)
        return (*self._vocabulary.tokenize(text, special=False), self.end_of_answer)

    @cached_property
    def end_of_answer(self) -> int:
        """The token that ends an answer in this template; trained answers end with it."""
        answered = {"role": "assistant", "content": MARK}
        text = self.render([*self._messages(""), answered]).partition(MARK)[2]
        tokens = self._vocabulary.tokenize(text, special=True)
        return next((token for token in tokens if self._vocabulary.ends(token)), self._vocabulary.eos)

    def render(self, messages: Sequence[Message]) -> str:
        """A conversation as text, up to where the next answer begins.

        Raises:
            ModelError: the template does not take it.
        """
        if self._template is None:
            return "\n\n".join(message["content"] for message in messages if message["content"])
        return self._template.render(messages)


def _marked(messages: Sequence[Message]) -> list[Message]:
    """Messages with marks in place of their contents."""
    return [{"role": message["role"], "content": f"{MARK}{index}{MARK}"} for index, message in enumerate(messages)]


def shared_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items, from the first on, two sequences have in common."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _shared(head: Sequence[int], tokens: Sequence[int]) -> int:
    """Tokens of a prompt that stand before every query; never the last one."""
    return min(shared_length(head, tokens), len(tokens) - 1)
