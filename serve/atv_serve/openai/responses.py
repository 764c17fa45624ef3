"""Responses in the shapes of OpenAI's API: the server builds its answers of these models.

Fields that a model has a default for are left out of an answer unless they are set (`exclude_unset`).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from atv_local.vectors import Positions

FinishReason = Literal["stop", "length"]


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    def as_json(self) -> dict[str, Any]:
        """The response as values that JSON has, without the fields that were not set."""
        return self.model_dump(mode="json", exclude_unset=True)


class ControlVectorResponse(_Response):
    """A control vector that requests can name."""

    name: str
    sha256: str
    """The first 12 digits, of its file."""


class AppliedControlVector(ControlVectorResponse):
    """A control vector that steered an answer, and the factor on it."""

    scale: float


class SteeringResponse(_Response):
    """How an answer was steered."""

    bundle: str | None
    """Its name among the models; null where control vectors steer alone, and `auto` before the query is known."""
    bundle_id: str | None
    strength: float
    layers: tuple[int, int]
    """First and last, 1-based."""
    positions: Positions
    query: str = ""
    """What the generator read in place of the user's words."""
    instruction: str = ""
    """What was read before the user's words."""
    static: bool = False
    """Whether the static vector of the bundle steered, as the instruction is unlike those of its tasks."""
    control_vectors: list[AppliedControlVector] = []


class CachedTokens(_Response):
    """Details of a prompt."""

    cached_tokens: int


class UsageResponse(_Response):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class _Answer(_Response):
    id: str
    object: str
    created: int
    """Seconds since 1970."""
    model: str
    choices: list[Any]
    steering: SteeringResponse | Literal[False]
    """False is the base model."""


class TokenLogprob(_Response):
    """A token of a chat with its log-probability in nats."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenLogprob(TokenLogprob):
    """A token of an answer, and the most likely ones in its place."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(_Response):
    """Log-probabilities of each token of a chat's answer."""

    content: list[ChosenLogprob]
    refusal: None


class GeneratorRead(_Response):
    """What the generator read of a query that has more tokens than it reads, or parts that it does not know."""

    chars: int
    """Characters from the first on."""
    of: int
    """Characters of the query."""
    unknown: int
    """Parts that are all read as the same token."""


class GateResponse(_Response):
    """Whether a query is steered: how well it fits `task`, from 0 to 1, and how well it has to."""

    task: str
    score: float
    threshold: float
    steered: bool
    bundle: str = ""
    """With the model `auto`, the bundle whose tasks these are."""
    bundle_id: str = ""


class AssistantMessage(_Response):
    """An answer's message."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(_Response):
    """One of `n` answers."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    probabilities: dict[str, float] | None = None
    """Of each of the request's `choices`."""
    generator_read: GeneratorRead | None = None
    """Only where the generator did not read all of the query."""
    gate: GateResponse | None = None
    """Where the bundle has a gate; of a stream in the first chunk of a choice."""


class ChatResponse(_Answer):
    """`POST /v1/chat/completions`."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: UsageResponse


class Delta(_Response):
    """What a chunk adds to a message."""

    role: Literal["assistant"] = "assistant"
    content: str = ""


class ChatChunkChoice(_Response):
    """What a chunk adds to one of `n` answers."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    probabilities: dict[str, float] | None = None
    """Of each of the request's `choices`."""
    generator_read: GeneratorRead | None = None
    """Only where the generator did not read all of the query."""
    gate: GateResponse | None = None
    """Where the bundle has a gate; of a stream in the first chunk of a choice."""


class ChatChunk(_Answer):
    """An event of a streamed `POST /v1/chat/completions`; the one with `usage` has no choices."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: UsageResponse | None = None


class TextLogprobs(_Response):
    """Log-probabilities of each token of a text; the first token of an echoed prompt has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(_Response):
    """One of the continuations, or what a chunk adds to it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None
    """Null in a chunk that is not the last one."""
    probabilities: dict[str, float] | None = None
    """Of each of the request's `choices`."""
    generator_read: GeneratorRead | None = None
    """Only where the generator did not read all of the query."""
    gate: GateResponse | None = None
    """Where the bundle has a gate; of a stream in the first chunk of a choice."""


class CompletionResponse(_Answer):
    """`POST /v1/completions`, and each event of a streamed one."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]
    usage: UsageResponse | None = None
    """Not in a chunk, but in the one without choices."""


class Embedding(_Response):
    """A task vector, those of all layers concatenated."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Numbers, or little-endian float32 in base64."""
    generator_read: GeneratorRead | None = None
    """Only where the generator did not read all of the text."""


class EmbeddingUsage(_Response):
    """Tokens that the generator read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(_Response):
    """`POST /v1/embeddings`."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class VectorResponse(_Response):
    """`POST /v1/steering`: the norm at each layer as it would be added."""

    steering: SteeringResponse | Literal[False]
    norms: list[float]
    read_length: int = 0
    """Characters of the query that the generator reads; it has a limit."""
    gate: GateResponse | None = None
    """Where the bundle has a gate. The norms are those of a query that it accepts."""


class ModelResponse(_Response):
    """A bundle steering the target, or the target alone."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    target: str
    n_ctx: int
    n_layer: int
    steerable_layers: tuple[int, int]
    max_tokens: int
    """The longest answer."""
    steering: SteeringResponse | Literal[False]
    """What a request without `steering` gets."""
    control_vectors: list[ControlVectorResponse]
    """What a request's `steering.control_vectors` can name."""
    labels: list[str]
    """What `choices: "auto"` stands for; empty if the bundle has none."""
    instructions: dict[str, str]
    """What is read before a query with `steering.task`, by the names of the tasks."""


class ModelListResponse(_Response):
    """`GET /v1/models`."""

    object: Literal["list"]
    data: list[ModelResponse]


class TokenizeResponse(_Response):
    """`POST /tokenize`."""

    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizeResponse(_Response):
    """`POST /detokenize`."""

    prompt: str


class TokenizerInfoResponse(_Response):
    """`GET /tokenizer_info`."""

    tokenizer_class: str
    bos_token: str | None
    eos_token: str | None
    chat_template: str | None
    model_max_length: int


class HealthResponse(_Response):
    """`GET /health`."""

    status: Literal["ok", "closing"]
    running: int
    waiting: int


class ErrorDetails(_Response):
    """An error, as a message for people and a code for programs."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    """The field that it is about."""
    code: str | None


class ErrorResponse(_Response):
    """Every answer with a status of 400 or more."""

    error: ErrorDetails
