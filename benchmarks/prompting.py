"""Prompting the unsteered target: the baselines' way to an answer, with every advantage we can give it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from atv_local.target import Target
from benchmarks.tasks import Message


class Prompting:
    """Greedy answers to conversations; the part two prompts share is evaluated once."""

    def __init__(self, target: Target) -> None:
        self.target, self.vocabulary = target, target.vocabulary
        template = self.vocabulary.chat_template
        self._render = Jinja2ChatFormatter(template, self.vocabulary.eos_text, self.vocabulary.bos_text)

    def tokens(self, messages: list[Message]) -> list[int]:
        """A conversation as tokens, ready for the assistant's turn."""
        conversation: Any = messages
        return self.vocabulary.tokenize(self._render(messages=conversation).prompt, special=True)

    def prefill(self, tokens: list[int], shared: int) -> None:
        """Evaluate all but the last token; the first `shared` are kept for the next prompt that begins so."""
        self.target.prefill(tokens[:shared], tokens[shared:-1])

    def free(self, tokens: list[int], shared: int, max_tokens: int = 16) -> str:
        """What the target writes when nothing restricts it."""
        self.prefill(tokens, shared)
        logits, pieces = self.target.evaluate(tokens[-1:]), b""
        for _ in range(max_tokens):
            token = int(logits.argmax())
            if self.vocabulary.ends(token):
                break
            pieces += self.vocabulary.piece(token)
            logits = self.target.evaluate([token])
        return pieces.decode("utf-8", "replace")

    def choice(self, tokens: list[int], shared: int, labels: list[str]) -> str:
        """What it writes when every token must continue one of the labels: never an invalid answer."""
        options = [[*self.vocabulary.tokenize(label, special=False), self.vocabulary.eos] for label in labels]
        self.prefill(tokens, shared)
        return labels[restricted(options, lambda written: self.target.evaluate(written[-1:] or tokens[-1:]))]


def restricted(options: Sequence[Sequence[int]], logits: Callable[[Sequence[int]], Any]) -> int:
    """Which option greedy decoding writes when every token must continue one of them.

    Args:
        options: no option begins another.
        logits: from the tokens written so far, none at first and then one more each time, to [n_vocab] logits.
    """
    left, depth = list(range(len(options))), 0
    while len(left) > 1:
        found = logits(options[left[0]][:depth])
        best = max({options[index][depth] for index in left}, key=lambda token: float(found[token]))
        left, depth = [index for index in left if options[index][depth] == best], depth + 1
    return left[0]


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many leading tokens two prompts share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def clean(answer: str) -> str:
    """A free answer without what surrounds a label: case, quotes, a full stop, a repeated `Label:`."""
    line = next((line for line in answer.strip().splitlines() if line.strip()), "")
    return line.casefold().removeprefix("label:").removeprefix("reply:").strip(" \t.\"'`*")
