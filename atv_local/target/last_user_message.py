"""Which part of a rendered conversation the generator reads. Knows nothing of tasks or models."""

from __future__ import annotations

from itertools import takewhile

from atv_local.errors import ModelError
from atv_local.target.prompt import PromptFormat

MARK = "\ufdd0"
"""A Unicode noncharacter: no text contains it."""

_ROLES = ("user", "assistant", "user")


class LastUserMessage:
    """Finds the user's last message in a context, by what the chat template has before and after every one."""

    def __init__(self, prompts: PromptFormat) -> None:
        self._opening = self._closing = ""
        try:
            text = prompts.render([{"role": role, "content": MARK} for role in _ROLES])
        except ModelError:
            return  # a template that takes no such conversation
        if text.count(MARK) == len(_ROLES):
            first, answered, again, last = text.split(MARK)
            self._opening = _common(first[::-1], again[::-1])[::-1]
            self._closing = _common(answered, last)

    def __call__(self, context: str) -> str:
        """That message, or the whole of a context that is not in the template."""
        _, opening, rest = context.rpartition(self._opening) if self._opening else ("", "", "")
        return rest.partition(self._closing)[0] if opening and self._closing else context


def _common(one: str, other: str) -> str:
    """The beginning that both have."""
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
