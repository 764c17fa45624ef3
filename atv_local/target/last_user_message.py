"""Finds the last user message in a rendered conversation: the text that the generator reads."""

from __future__ import annotations

from atv_local.errors import ModelError
from atv_local.target.prompt import MARK, PromptFormat, shared_length

_ROLES = ("user", "assistant", "user")


class LastUserMessage:
    """Finds the user's last message in a text, by what the chat template puts before and after every one.

    Args:
        prompts: the target's chat template.
    """

    def __init__(self, prompts: PromptFormat) -> None:
        self._opening = self._closing = ""
        try:
            text = prompts.render([{"role": role, "content": MARK} for role in _ROLES])
        except ModelError:
            return  # the template does not take such a conversation
        if text.count(MARK) == len(_ROLES):
            first, answered, again, last = text.split(MARK)
            self._opening = first[len(first) - shared_length(first[::-1], again[::-1]) :]
            self._closing = answered[: shared_length(answered, last)]

    def __call__(self, context: str) -> str:
        """The message, or the whole text if it is not in the template."""
        _, opening, rest = context.rpartition(self._opening) if self._opening else ("", "", "")
        return rest.partition(self._closing)[0] if opening and self._closing else context
