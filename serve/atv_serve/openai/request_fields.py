"""What the models of requests are made of: bounded types of fields, and what is done about unknown fields."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from atv_local.answer import MAX_CHOICE_CHARS
from atv_local.data import MAX_LABELS as MAX_ALLOWED_ANSWERS
from atv_local.target import MAX_GRAMMAR_CHARS
from atv_serve.openai.unknown_fields import asks_for_nothing, is_label

MAX_CHOICES = 128
MAX_TEXT = 1 << 20
MAX_QUERY = 1 << 16
"""Characters of a query. Generators read some hundred tokens, but their tokenizer stops all threads for the whole."""
MAX_TOKENS = 1 << 17


def _boolean(given: Any) -> Any:
    """Python takes 0 for False; JSON does not."""
    if given is not False:
        raise ValueError('this is false, or an object such as {"strength": 0.5}')
    return given


def _unsupported(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(given)
    except ValidationError as error:
        raise ValueError("this has no effect here; leave it out") from error


def _without_zeros(given: Any) -> Any:
    """A bias of 0 changes nothing."""
    return {} if isinstance(given, dict) and not any(given.values()) else given


def _no_functions(given: Any) -> Any:
    if given:
        raise ValueError(
            "no functions are called here; for JSON under a schema use response_format, and leave this out"
        )
    return given


LimitedText = Annotated[str, Field(max_length=MAX_TEXT)]
Query = Annotated[str, Field(max_length=MAX_QUERY)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
Tokens = Annotated[list[TokenId], Field(fail_fast=True, min_length=1, max_length=MAX_TOKENS)]
Stop = Annotated[str, Field(max_length=256)]
MaxTokens = Annotated[int, Field(ge=-1, lt=1 << 31)]
"""-1 means no limit, as for other local servers."""
AllowedAnswer = Annotated[str, Field(min_length=1, max_length=MAX_CHOICE_CHARS)]
Auto = Annotated[str, Field(pattern=r"^auto(:.|$)", max_length=MAX_QUERY)]
"""The labels of the bundle: all, or of one task as `auto:TASK`."""
AllowedAnswers = Annotated[list[AllowedAnswer], Field(min_length=1, max_length=MAX_ALLOWED_ANSWERS)]
Layer = Annotated[int, Field(ge=1, le=4096)]
FalseOnly = Annotated[Literal[False], BeforeValidator(_boolean)]
WITHOUT_EFFECT = WrapValidator(_unsupported)
"""For fields that have no effect here: only values that ask for no effect are accepted."""
Label = Annotated[str, Field(max_length=4096)] | None
Nothing = Annotated[
    Annotated[list[Any], Field(max_length=0)] | Annotated[dict[str, Any], Field(max_length=0)] | None, WITHOUT_EFFECT
]
GrammarText = Annotated[str | None, Field(max_length=MAX_GRAMMAR_CHARS), AfterValidator(lambda text: text or None)]
"""Clients with a field for it send an empty one."""
NoBias = Annotated[Nothing, BeforeValidator(_without_zeros)]
NoFunctions = Annotated[Nothing, BeforeValidator(_no_functions)]
Null = Annotated[None, WITHOUT_EFFECT]
Zero = Annotated[Annotated[float, Field(ge=0, le=0)] | None, WITHOUT_EFFECT]


class StrictRequest(BaseModel):
    """A part of a request in which every unknown field is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class TolerantRequest(StrictRequest):
    """A part of a request in which unknown fields are accepted that ask for nothing."""

    model_config = ConfigDict(extra="allow")
    _takes_labels: ClassVar[bool] = False
    """Whether unknown fields may be labels, such as an id."""

    @model_validator(mode="after")
    def _unknown_fields_ask_for_nothing(self) -> Self:
        known, unknown = type(self).model_fields, self.model_extra or {}
        accepts = is_label if self._takes_labels else asks_for_nothing
        if wrong := [name for name, value in unknown.items() if not accepts(name, value, known)]:
            errors = [InitErrorDetails(type="extra_forbidden", loc=(name,), input=None) for name in wrong]
            raise ValidationError.from_exception_data(type(self).__name__, errors)
        return self
