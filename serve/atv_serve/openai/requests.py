"""Requests in the shapes of OpenAI's API. Every field is bounded; unknown ones must ask for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, Field, model_validator

from atv_local.answer import Role, as_message
from atv_local.data import MAX_INSTRUCTION_CHARS
from atv_local.target import MAX_GRAMMAR_CHARS, Message, Sampling
from atv_local.vectors import MAX_STRENGTH, Positions
from atv_serve.openai.request_fields import (
    MAX_CHOICES,
    MAX_QUERY,
    MAX_TOKENS,
    WITHOUT_EFFECT,
    AllowedAnswers,
    Auto,
    FalseOnly,
    GrammarText,
    Label,
    Layer,
    LimitedText,
    MaxTokens,
    NoBias,
    NoFunctions,
    Nothing,
    Null,
    Query,
    Stop,
    StrictRequest,
    TokenId,
    Tokens,
    TolerantRequest,
    Zero,
)
from atv_serve.openai.thinking_fields import ThinkingFields

_LEAST = 1e-6
"""In place of a `top_p` of 0: only the most likely token."""


def _kinds(kind: type[StrictRequest]) -> Iterator[type[StrictRequest]]:
    yield kind
    for more in kind.__subclasses__():
        yield from _kinds(more)


class ControlVectorRequest(StrictRequest):
    """A control vector of the server, and the factor on it."""

    name: Annotated[str, Field(max_length=256)]
    scale: Annotated[float, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH)] = 1.0


class SteeringRequest(StrictRequest):
    """What to change in how a bundle steers. `layers` are the first and the last; `query` steers in place of the
    user's last words; `control_vectors` are added, or steer alone with the model `base`; `gate` is the score that a
    query needs, where the bundle has a gate: `auto` is 0.5, `off` is 0. The instruction of a `task` of the bundle, or
    an `instruction` in words with the allowed `choices`, is read before the user's last words, and a bundle
    that was trained with instructions then steers unless `gate` says otherwise; both are for chats."""

    bundle: Annotated[str, Field(max_length=256)] | None = None
    strength: Annotated[float, Field(ge=-MAX_STRENGTH, le=MAX_STRENGTH)] | None = None
    layers: Annotated[list[Layer], Field(min_length=2, max_length=2)] | None = None
    positions: Positions | None = None
    gate: Literal["auto", "off"] | Annotated[float, Field(ge=0, le=1)] | None = None
    query: Annotated[str, Field(min_length=1, max_length=MAX_QUERY)] | None = None
    task: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    instruction: Annotated[str, Field(min_length=1, max_length=MAX_INSTRUCTION_CHARS)] | None = None
    control_vectors: Annotated[list[ControlVectorRequest], Field(max_length=16)] | None = None


class _Steered(TolerantRequest):
    model: Annotated[str, Field(max_length=256)] | None = None
    steering: FalseOnly | SteeringRequest | None = None


class StreamOptions(TolerantRequest):
    """Options of a streamed answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _Generation(_Steered):
    """What chats and completions have in common. The default temperature is 0, which is greedy: bundles are measured
    with it. `choices` are the allowed answers, or `auto` for the labels of the bundle, `auto:TASK` for those of
    one task; the answer follows `grammar`, which is GBNF. The fields at the end have no effect.
    """

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, lt=1 << 31)] | None = None
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: MaxTokens | None = None
    choices: Auto | AllowedAnswers | None = None
    grammar: GrammarText | None = None
    frequency_penalty: Zero = None
    presence_penalty: Zero = None
    logit_bias: NoBias = None
    user: Label = None
    safety_identifier: Label = None
    prompt_cache_key: Label = None
    service_tier: Annotated[Literal["auto", "default"] | None, WITHOUT_EFFECT] = None

    @property
    def sampling(self) -> Sampling:
        """The sampling settings of the request."""
        seed = None if self.seed in (None, -1) else self.seed % (1 << 32)  # -1 is a random one for other local servers
        top_p = 1.0 if self.top_p is None else max(self.top_p, _LEAST)
        return Sampling(self.temperature or 0.0, top_p, max(0, self.top_k or 0), seed)

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings: they end an answer and are no part of it."""
        return tuple(filter(None, [self.stop] if isinstance(self.stop, str) else self.stop or ()))


class TextPart(TolerantRequest):
    """A part of a message; only text is understood."""

    _takes_labels: ClassVar[bool] = True

    type: Literal["text"]
    text: LimitedText


class ChatMessage(TolerantRequest):
    """One message of a conversation; the fields at the end are what OpenAI's client sends back with an answer."""

    _takes_labels: ClassVar[bool] = True

    role: Role
    content: LimitedText | Annotated[list[TextPart], Field(max_length=256)] | None = None
    name: Annotated[str, Field(max_length=256)] | None = None
    type: Literal["text"] | None = None
    refusal: Null = None
    audio: Null = None
    function_call: Null = None
    annotations: Nothing = None
    tool_calls: Nothing = None
    parsed: Any = None

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and self.role != "assistant":
            raise ValueError("only an assistant's message may have no content")
        return self

    def as_message(self) -> Message:
        """The message in the form that chat templates take."""
        return as_message(self.model_dump(include={"role", "content"}))


class JsonSchemaFormat(TolerantRequest):
    """A JSON schema, by the name that a client has for it. It always holds, whatever `strict` is; without a schema the
    answer is any object."""

    name: Annotated[str, Field(max_length=256)] | None = None
    description: Annotated[str, Field(max_length=MAX_GRAMMAR_CHARS)] | None = None
    definition: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(TolerantRequest):
    """Free text, any JSON object, or JSON that is valid under a schema; `schema` beside `json_object` is llama.cpp's
    form of the latter."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None
    definition: dict[str, Any] | None = Field(None, alias="schema")

    @model_validator(mode="after")
    def _has_a_schema(self) -> ResponseFormat:
        if (self.json_schema is None) == (self.type == "json_schema"):
            raise ValueError("json_schema is needed with type json_schema, and only then")
        if self.definition and self.type != "json_object":
            raise ValueError("schema is for type json_object; put it into json_schema")
        return self

    @property
    def wanted_schema(self) -> dict[str, Any] | None:
        """The schema that an answer must be valid under; None for free text."""
        if self.type == "text":
            return None
        definition = self.json_schema.definition if self.json_schema else self.definition
        return {"type": "object"} if definition is None else definition


class ChatRequest(_Generation, ThinkingFields):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=256)]
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: NoFunctions = None
    tool_choice: Annotated[Literal["none", "auto"] | None, WITHOUT_EFFECT] = None
    parallel_tool_calls: bool | None = None
    functions: NoFunctions = None
    function_call: Annotated[Literal["none", "auto"] | None, WITHOUT_EFFECT] = None
    modalities: Annotated[Annotated[list[Literal["text"]], Field(max_length=1)] | None, WITHOUT_EFFECT] = None
    audio: Null = None
    prediction: Null = None
    reasoning_effort: Null = None
    verbosity: Null = None
    web_search_options: Null = None
    store: Annotated[FalseOnly | None, WITHOUT_EFFECT] = None
    metadata: Annotated[dict[str, Any], Field(max_length=16)] | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> ChatRequest:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if 0 in (self.max_tokens, self.max_completion_tokens):
            raise ValueError("max_tokens must be at least 1, or -1 for no limit")
        return self


class CompletionRequest(_Generation):
    """`POST /v1/completions`."""

    prompt: (
        LimitedText
        | Annotated[list[LimitedText], Field(min_length=1, max_length=MAX_CHOICES)]
        | Tokens
        | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_CHOICES)]
    )
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    suffix: Null = None

    @model_validator(mode="after")
    def _is_supported(self) -> CompletionRequest:
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens 0 is for echo: true")
        if self.best_of not in (None, self.n or 1):
            raise ValueError("best_of other than n is not supported")
        if len(self.prompts) * (self.n or 1) > MAX_CHOICES:
            raise ValueError(f"prompts times n are more than {MAX_CHOICES}")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return self.prompt  # type: ignore[return-value]  # and here none is


class EmbeddingRequest(TolerantRequest):
    """`POST /v1/embeddings`: the task vectors of queries, those of all layers concatenated."""

    model: Annotated[str, Field(max_length=256)] | None = None
    input: Query | Annotated[list[Query], Field(min_length=1, max_length=MAX_CHOICES)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Null = None
    user: Label = None


class VectorRequest(_Steered):
    """`POST /v1/steering`: the vector that would steer a query."""

    query: Query


class TokenizeRequest(TolerantRequest):
    """`POST /tokenize`: the target's tokens of a text; control tokens spelt in it become themselves.
    `content` is llama.cpp's name for `prompt`."""

    model: Annotated[str, Field(max_length=256)] | None = None
    prompt: Annotated[LimitedText, Field(validation_alias=AliasChoices("prompt", "content"))]
    add_special_tokens: bool | None = None


class DetokenizeRequest(TolerantRequest):
    """`POST /detokenize`."""

    model: Annotated[str, Field(max_length=256)] | None = None
    tokens: Annotated[list[TokenId], Field(fail_fast=True, max_length=MAX_TOKENS)]


REQUEST_FIELDS = frozenset(
    field.alias or name for kind in _kinds(StrictRequest) for name, field in kind.model_fields.items()
)
"""Names of all fields of all requests."""
