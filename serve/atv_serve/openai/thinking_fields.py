"""Whether to think before the answer, in the forms that other servers have for it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from atv_local.data import TemplateVariables
from atv_serve.openai.request_fields import TolerantRequest

_SWITCH = "enable_thinking"
_REMEDY = "this cannot be set here; set enable_thinking in chat_template_kwargs to true or false"


def _switch(given: Any) -> bool | None:
    """What an object such as `{"type": "disabled"}` says; how long or how hard to think cannot be set."""
    if given is None or isinstance(given, bool):
        return given
    if isinstance(given, dict):
        said = {name: value for name, value in given.items() if value is not None}
        if said.get("type") == "disabled" or said.get("enabled") is False or said.get("effort") == "none":
            return False
        if said in ({"type": "enabled"}, {"enabled": True}):
            return True
        if not said:
            return None
    raise ValueError(_REMEDY)


def _budget(given: Any) -> bool | None:
    """No tokens are for no thoughts, and -1 is for no limit."""
    if isinstance(given, bool) or given not in (None, 0, -1):
        raise ValueError(_REMEDY)
    return False if given == 0 else None


_Switch = Annotated[bool | None, BeforeValidator(_switch)]
_Budget = Annotated[bool | None, BeforeValidator(_budget)]
_FIELDS = (_SWITCH, "think", "thinking", "reasoning", "thinking_budget", "reasoning_budget")


class ThinkingFields(TolerantRequest):
    """Fields that stand for the template's variable `enable_thinking`."""

    enable_thinking: _Switch = None
    think: _Switch = None
    thinking: _Switch = None
    reasoning: _Switch = None
    thinking_budget: _Budget = None
    reasoning_budget: _Budget = None
    chat_template_kwargs: TemplateVariables | None = None

    @property
    def template_variables(self) -> dict[str, Any]:
        """Variables of the chat template that the request sets."""
        asked = {value for name in _FIELDS if (value := getattr(self, name)) is not None}
        return ({_SWITCH: asked.pop()} if asked else {}) | (self.chat_template_kwargs or {})

    @model_validator(mode="after")
    def _agree(self) -> ThinkingFields:
        values = {name: getattr(self, name) for name in _FIELDS}
        values[f"chat_template_kwargs.{_SWITCH}"] = (self.chat_template_kwargs or {}).get(_SWITCH)
        on, off = ([name for name, value in values.items() if value is asked] for asked in (True, False))
        if on and off:
            raise ValueError(f"{on[0]} and {off[0]} contradict each other; leave one out")
        return self
