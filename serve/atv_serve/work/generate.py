"""A request made ready, and its answers piece by piece in a context. Knows nothing of HTTP or of what is sent."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from atv_local.answer import Finish
from atv_local.errors import PromptError, UsageError
from atv_local.target import Prompt, Sampling, Score, score, score_text
from atv_local.vectors import Steering
from atv_serve.openai import ChatRequest, CompletionRequest, SteeringRequest, Stops
from atv_serve.work.models import AppliedSteering, Context, ServedModels


@dataclass(frozen=True)
class GenerationRequest:
    """One prompt, with the words that steer its answer."""

    prompt: Prompt
    query: str
    text: str = ""
    """What an echo says."""


@dataclass(frozen=True)
class PreparedRequest:
    """All that a context needs to answer a request."""

    prompts: Sequence[GenerationRequest]
    applied: AppliedSteering
    sampling: Sampling
    max_tokens: int
    stops: tuple[str, ...] = ()
    n: int = 1
    n_top: int | None = None
    """How many of the likeliest tokens are wanted for each; None: no log-probabilities at all."""
    echo: bool = False

    @property
    def segments(self) -> list[tuple[int, ...]]:
        """What a context may have evaluated before."""
        return self.prompts[0].prompt.segments


@dataclass(frozen=True)
class Piece:
    """Part of one choice: text, and the scores of tokens, whose text may come with a later piece.

    The last piece of a choice has `finish`. Counts are those of this piece.
    """

    text: str = ""
    scores: tuple[Score, ...] = ()
    first: int | None = None
    """Of a prompt that is echoed: its first token, which has no score."""
    finish: Finish | None = None
    n_prompt: int = 0
    n_evaluated: int = 0
    n_generated: int = 0
    choice: int = 0


def ready_chat(served: ServedModels, request: ChatRequest, limit: int) -> PreparedRequest:
    """A conversation made ready; at most `limit` tokens are written.

    Raises:
        AtvError: it cannot be meant, or does not fit.
    """
    messages = [message.as_message() for message in request.messages]
    prompt = served.prompts.conversation(messages, served.n_ctx)
    asked = _fitting(served, GenerationRequest(prompt, messages[-1]["content"]))
    n_top = (request.top_logprobs or 0) if request.logprobs else None
    wanted = request.max_completion_tokens or request.max_tokens
    return _ready(served, request, [asked], _bounded(wanted, limit), n_top)


def ready_completion(served: ServedModels, request: CompletionRequest, limit: int) -> PreparedRequest:
    """Texts or tokens made ready to be continued; what steers is the last message of the user in a text that is a
    chat in the target's template, else all of it.

    With echo and log-probabilities the prompt itself is scored, which must not be what steers: then the base model
    answers, unless the request names the words to steer by.

    Raises:
        AtvError: it cannot be meant, or does not fit.
    """
    named = isinstance(request.steering, SteeringRequest) and request.steering.query is not None
    scored = bool(request.echo) and request.logprobs is not None and not named
    if scored and isinstance(request.steering, SteeringRequest):
        raise UsageError("echo with logprobs scores the prompt, so it cannot steer; say what does with steering.query")
    prompts = []
    for given in request.prompts:
        tokens = served.vocabulary.tokenize(given, special=True) if isinstance(given, str) else given
        if any(token >= served.vocabulary.n_tokens for token in tokens):
            raise UsageError(f"the target has tokens 0 to {served.vocabulary.n_tokens - 1}, not {max(tokens)}")
        text = given if isinstance(given, str) else served.vocabulary.text(tokens)
        if not tokens:
            raise UsageError("the prompt is empty; say something to go on from")
        prompts.append(_fitting(served, GenerationRequest(Prompt(tuple(tokens), 0), served.queries(text), text)))
    wanted = 16 if request.max_tokens is None else request.max_tokens
    made = _ready(served, request, prompts, _bounded(wanted, limit), request.logprobs)
    made = replace(made, echo=bool(request.echo))
    return replace(made, applied=AppliedSteering()) if scored else made


def answer(ready: PreparedRequest, context: Context) -> Iterator[Piece]:
    """The choices one after the other, in a context.

    Raises:
        AtvError: what `Engine.stream` raises.
    """
    for place, asked in enumerate(ready.prompts):
        echo = _echo(ready, asked, context) if ready.echo else []
        for number in range(ready.n):
            choice = place * ready.n + number
            for echoed in echo:
                yield replace(echoed, choice=choice) if number == 0 else _again(echoed, choice)
            if not ready.max_tokens:
                continue
            with closing(_written(ready, asked, context, number)) as pieces:
                for piece in pieces:
                    yield replace(piece, choice=choice) if number == 0 else _again(piece, choice)


def _again(piece: Piece, choice: int) -> Piece:
    """A piece of a further choice, for which the prompt is not counted again."""
    return replace(piece, choice=choice, n_prompt=0, n_evaluated=0)


def _written(
    ready: PreparedRequest, asked: GenerationRequest, context: Context, number: int
) -> Generator[Piece, None, None]:
    """One of `n` answers to a prompt; the first is what one alone would be."""
    stops, target, sampling = Stops(ready.stops), context.target, ready.sampling
    if number and sampling.seed is not None:
        sampling = sampling.of_row(number)
    events = context.engine(ready.applied).stream(
        _query(ready, asked),
        prompt=asked.prompt,
        steering=ready.applied.steering,
        sampling=sampling,
        max_tokens=ready.max_tokens,
    )
    n_generated = 0
    with closing(events):  # type: ignore[type-var]  # a generator, whose vector shall not wait for a collector
        for event in events:
            text, finish = stops.feed(event.text), event.finish
            if stops.met:
                finish = Finish.STOP
            elif finish:
                text += stops.rest()
            yield Piece(
                text,
                () if ready.n_top is None else (score(target.logits(), event.token, ready.n_top),),
                finish=finish,
                n_prompt=0 if n_generated else event.prompt_tokens,
                n_evaluated=0 if n_generated else event.evaluated_tokens,
                n_generated=event.generated_tokens - n_generated,
            )
            n_generated = event.generated_tokens
            if finish:
                return


def _echo(ready: PreparedRequest, asked: GenerationRequest, context: Context) -> list[Piece]:
    """The prompt, scored if that is wanted: under the vector where every position is steered, else as it is."""
    tokens, target, applied = asked.prompt.tokens, context.target, ready.applied
    last = None if ready.max_tokens else Finish.LENGTH
    counted = 0 if ready.max_tokens else len(tokens)
    if ready.n_top is None:
        return [Piece(asked.text, finish=last, n_prompt=counted)]
    vector = None
    if applied.generator and applied.steering.positions.prefix:
        vector = applied.steering.apply(context.engine(applied).vector(_query(ready, asked)))
    scores = tuple(score_text(target, tokens, ready.n_top, vector))
    n_evaluated = len(tokens) - 1
    return [Piece(asked.text, scores, first=tokens[0], finish=last, n_prompt=counted, n_evaluated=n_evaluated)]


def _query(ready: PreparedRequest, asked: GenerationRequest) -> str:
    return asked.query if ready.applied.query is None else ready.applied.query


def _ready(
    served: ServedModels,
    request: ChatRequest | CompletionRequest,
    prompts: list[GenerationRequest],
    max_tokens: int,
    n_top: int | None,
) -> PreparedRequest:
    return PreparedRequest(
        prompts,
        applied_by(served, request.model, request.steering),
        request.sampling,
        max_tokens,
        request.stops,
        request.n or 1,
        n_top,
    )


def applied_by(served: ServedModels, model: str | None, steering: SteeringRequest | bool | None) -> AppliedSteering:
    """What a request's `model` and `steering` come to.

    Raises:
        UsageError: see `ServedModels.applied`.
    """
    if not isinstance(steering, SteeringRequest):
        return served.applied(model, off=steering is False)
    layers = None if steering.layers is None else (steering.layers[0], steering.layers[1])
    if layers:
        Steering(layers=layers)  # the order, before anything else is said
    return served.applied(
        model,
        generator=steering.generator,
        strength=steering.strength,
        layers=layers,
        positions=steering.positions,
        query=steering.query,
    )


def _bounded(wanted: int | None, limit: int) -> int:
    """Many clients always ask for as much as another model could write."""
    return limit if wanted is None else min(wanted, limit)


def _fitting(served: ServedModels, asked: GenerationRequest) -> GenerationRequest:
    length = len(asked.prompt.tokens)
    if length >= served.n_ctx:
        raise PromptError(f"the prompt has {length} tokens and the context {served.n_ctx}; shorten it")
    return asked
