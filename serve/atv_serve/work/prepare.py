"""Prepares a request: its prompt, vector and sampling, ready for a context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from atv_local.answer import Asked, Constraint, last_query, of_task, with_last_query
from atv_local.data import tell
from atv_local.errors import PromptError, UsageError
from atv_local.target import Prompt, Sampling
from atv_serve.openai import ChatRequest, CompletionRequest, SteeringRequest
from atv_serve.work.context import AppliedSteering
from atv_serve.work.models import FieldError, ServedModels

_MAX_SCORES = 1 << 18
"""Log-probabilities in one response, about 20 MB of JSON; 20 for each of 8,192 tokens stay below it."""
_MAX_TOKENS = 16
"""The default `max_tokens` of a completion, as in OpenAI's API."""


@dataclass(frozen=True)
class PromptAndQuery:
    """One prompt, with the words that steer its answer."""

    prompt: Prompt
    query: str
    text: str = ""
    """The prompt as `echo` repeats it; empty for a chat, which has no echo."""
    asked: Asked | None = None
    """What the generator reads of a chat, if the user says something in it."""


@dataclass(frozen=True)
class PreparedRequest:
    """All that a context needs to answer a request."""

    model: str
    prompts: Sequence[PromptAndQuery]
    applied: AppliedSteering
    sampling: Sampling
    max_tokens: int
    stops: tuple[str, ...] = ()
    n: int = 1
    n_top: int | None = None
    """How many of the most likely tokens are wanted for each; None: no log-probabilities at all."""
    echo: bool = False
    constraint: Constraint | None = None
    """What answers are restricted to, by the request's `constraint_field`."""
    constraint_field: str = ""
    ahead: Callable[[str], list[tuple[int, ...]]] | None = None
    """Of an answer's text, the segments that the prompt of the next turn begins with; None if no turn can follow."""

    @property
    def segments(self) -> list[tuple[int, ...]]:
        """Runs of the first prompt's tokens that a context may have in its cache."""
        return self.prompts[0].prompt.segments

    def asked_of(self, prompt: PromptAndQuery) -> Asked:
        """What the generator reads for a prompt."""
        return prompt.asked or Asked(self.applied.query or prompt.query, self.applied.steering)


def prepare_chat(models: ServedModels, request: ChatRequest, limit: int) -> PreparedRequest:
    """Prepare a conversation; at most `limit` tokens are written.

    Raises:
        AtvError: it is invalid, or does not fit.
    """
    messages = said = [message.as_message() for message in request.messages]
    prompts = models.prompts_for(request.model, request.steering, request.template_variables)
    restricted, applied = _constraint(models, request), models.steering(request.model, request.steering)
    query, asked = last_query(messages), None
    if query is None and applied.bundle is not None and applied.query is None:
        raise UsageError("no message is the user's, whose last one steers; add one, or set steering.query")
    if query is None and (applied.task or applied.instruction):
        raise FieldError("messages", "no message is the user's, so there is nothing to put an instruction before")
    if query is not None and query.strip():
        steers = query if applied.query is None else applied.query
        asked = models.asked(steers, applied, restricted[0].choices if restricted[0] else ())
        messages = with_last_query(messages, tell(asked.instruction, query))
        applied = replace(applied, steering=asked.steering, instruction=asked.instruction, static=asked.static)
    prompt = prompts.conversation(messages, models.n_ctx)
    _check_room(models, prompt)
    n_top = (request.top_logprobs or 0) if request.logprobs else None
    steered = [PromptAndQuery(prompt, messages[-1]["content"] if query is None else query, asked=asked)]
    max_tokens = request.max_completion_tokens or request.max_tokens
    prepared = _prepare(models, request, steered, applied, restricted, max_tokens, limit, n_top)
    _check_scores(models, prepared)
    if prepared.n > 1 or said[-1]["role"] == "assistant":  # several answers, or an answer that was begun
        return prepared

    def ahead(text: str) -> list[tuple[int, ...]]:
        return prompts.ahead([*said, {"role": "assistant", "content": text}], models.n_ctx)

    return replace(prepared, ahead=ahead)


def prepare_completion(models: ServedModels, request: CompletionRequest, limit: int) -> PreparedRequest:
    """Prepare texts or tokens to be continued; at most `limit` tokens are written for each.

    What steers is the last message of the user in a text that is a chat in the target's template, else all of it. With
    echo and log-probabilities the prompt itself is scored, which must not be what steers: then the base model answers,
    unless the request names the words to steer by.

    Raises:
        AtvError: it is invalid, or does not fit.
    """
    steering = request.steering if isinstance(request.steering, SteeringRequest) else None
    scored = bool(request.echo) and request.logprobs is not None and (steering is None or steering.query is None)
    if scored and steering is not None:
        raise UsageError("echo with logprobs scores the prompt, so it cannot steer; say what does with steering.query")
    prompts = [_prompt(models, given) for given in request.prompts]
    wanted = _MAX_TOKENS if request.max_tokens is None else request.max_tokens
    applied = models.steering(request.model, request.steering)
    if told := applied.task or applied.instruction:
        field = "steering.task" if applied.task is not None else "steering.instruction"
        raise FieldError(field, f"{told[:40]!r}: a completion is read as it is; write the instruction into the prompt")
    restricted = _constraint(models, request)
    prepared = _prepare(models, request, prompts, applied, restricted, wanted, limit, request.logprobs)
    prepared = replace(prepared, echo=bool(request.echo))
    _check_scores(models, prepared)
    return replace(prepared, applied=AppliedSteering()) if scored else prepared


def _prompt(models: ServedModels, given: str | list[int]) -> PromptAndQuery:
    tokens = models.vocabulary.tokenize(given, special=True, limit=models.n_ctx) if isinstance(given, str) else given
    last = models.vocabulary.n_tokens - 1
    if any(token > last for token in tokens):
        raise UsageError(f"the target has tokens 0 to {last}, not {max(tokens)}")
    text = given if isinstance(given, str) else models.vocabulary.text(tokens)
    prompt = Prompt(tuple(tokens), 0)
    _check_room(models, prompt)
    return PromptAndQuery(prompt, models.last_user_message(text), text)


def _prepare(
    models: ServedModels,
    request: ChatRequest | CompletionRequest,
    prompts: list[PromptAndQuery],
    applied: AppliedSteering,
    restricted: tuple[Constraint | None, str],
    max_tokens: int | None,
    limit: int,
    n_top: int | None,
) -> PreparedRequest:
    constraint, constraint_field = restricted
    if n_top is not None and constraint is not None and constraint.choices:
        raise FieldError(
            "logprobs", "choices are scored as a whole: the response has probabilities; leave logprobs out"
        )
    return PreparedRequest(
        request.model or models.default,
        prompts,
        applied,
        request.sampling,
        min(limit if max_tokens in (None, -1) else max_tokens, limit),  # many ask for what another model could write
        request.stops,
        request.n or 1,
        n_top,
        constraint=constraint,
        constraint_field=constraint_field,
    )


def _constraint(models: ServedModels, request: ChatRequest | CompletionRequest) -> tuple[Constraint | None, str]:
    """What the answers to a request are restricted to, and by which field. Checking a schema may take 0.3 s.

    Raises:
        FieldError: it cannot be used.
    """
    schema = None
    if isinstance(request, ChatRequest) and request.response_format is not None:
        schema = request.response_format.wanted_schema
    fields = {"choices": request.choices, "grammar": request.grammar, "response_format": schema}
    given = [name for name, value in fields.items() if value is not None]
    if len(given) > 1:
        raise FieldError(given[1], f"{given[0]} and {given[1]} exclude each other; give one of them")

    field = "response_format.json_schema.schema" if schema is not None else "".join(given)
    try:
        manifests = models.manifests(request.model, request.steering)
        task = request.steering.task if isinstance(request.steering, SteeringRequest) else None
        return Constraint.of(of_task(request.choices, task), schema, request.grammar, bundles=manifests), field
    except UsageError as error:
        raise FieldError(field, str(error).replace("`schema`", f"`{field}`")) from error


def _check_room(models: ServedModels, prompt: Prompt) -> None:
    if not prompt.tokens:
        raise UsageError("the prompt is empty")
    if len(prompt.tokens) >= models.n_ctx:
        raise PromptError(
            f"the prompt has {len(prompt.tokens)} tokens and the context {models.n_ctx}; shorten the prompt"
        )


def _check_scores(models: ServedModels, prepared: PreparedRequest) -> None:
    if prepared.n_top is None:
        return
    n_tokens = 0
    for one in prepared.prompts:
        n_prompt = len(one.prompt.tokens)
        n_tokens += min(prepared.max_tokens, models.n_ctx - n_prompt) + n_prompt * prepared.echo
    n_scores = prepared.n * n_tokens * max(1, prepared.n_top)
    if n_scores > _MAX_SCORES:
        raise UsageError(
            f"up to {n_scores} log-probabilities are asked for, and {_MAX_SCORES} are allowed in a response; "
            "lower n, max_tokens or the number of log-probabilities for each token"
        )
