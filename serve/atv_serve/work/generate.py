"""Answers a prepared request piece by piece in a context."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from atv_local.answer import Constraint, Event, Finish, Timings, TokenCounts, choose_answer
from atv_local.errors import GrammarError
from atv_local.generator import Reading
from atv_local.target import Prompt, Sampling, Score, Target, score, score_text
from atv_local.vectors import GateDecision
from atv_serve.openai import Stops
from atv_serve.work.context import AppliedSteering, Context
from atv_serve.work.models import FieldError
from atv_serve.work.prepare import PreparedRequest, PromptAndQuery


@dataclass(frozen=True)
class Piece:
    """Part of one choice: text, and the scores of tokens, whose text may come with a later piece.

    The last piece of a choice has `finish`. Counts are those of this piece.
    """

    text: str = ""
    scores: tuple[Score, ...] = ()
    first: int | None = None
    """The first token of an echoed prompt, which has no score."""
    finish: Finish | None = None
    n_prompt: int = 0
    n_evaluated: int = 0
    n_generated: int = 0
    choice: int = 0
    probabilities: Mapping[str, float] | None = None
    """Of each allowed answer, where the request has such."""
    reading: Reading | None = None
    """What the generator read of the query, in the last piece."""
    gate: GateDecision | None = None
    """Whether the query is steered, in the first piece of an answer by a bundle with a gate."""
    applied: AppliedSteering | None = None
    """How an answer is steered; None for an echoed prompt that an answer follows."""


def generate_pieces(request: PreparedRequest, context: Context) -> Generator[Piece]:
    """The choices one after the other, in a context.

    Raises:
        AtvError: what `Engine.stream` raises.
    """
    for place, prompt in enumerate(request.prompts):
        echo = _echo(request, prompt, context) if request.echo else []
        first: Piece | None = None
        for number in range(request.n):
            choice = place * request.n + number
            for echoed in echo:
                yield _of_choice(echoed, choice, number)
            if not request.max_tokens:
                continue
            with closing(_answer(request, prompt, context, number, first)) as pieces:
                for piece in pieces:
                    first = first or piece
                    reading = _reading(request, prompt, context, piece) if piece.finish else None
                    yield _of_choice(replace(piece, reading=reading), choice, number)


class AnswerWork:
    """A request as the work of a pool: its answer, and what can be done after that while nothing else is asked."""

    def __init__(self, request: PreparedRequest) -> None:
        self._request, self._text = request, ""

    def __call__(self, context: Context) -> Generator[Piece]:
        """As `generate_pieces`."""
        for piece in generate_pieces(self._request, context):
            self._text += piece.text
            yield piece

    def read_ahead(self, context: Context) -> None:
        """Evaluate the answer as the next turn reads it, without a vector, so that the next answer begins sooner.

        Raises:
            AtvError: the template or llama.cpp fails, or the pool stops it.
        """
        request, engine = self._request, context.engine(self._request.applied)
        if request.ahead is None or engine.steers_prefix(request.applied.steering):
            return
        if segments := request.ahead(self._text):
            with context.target.turn():
                context.target.prefill(*segments)


def _of_choice(piece: Piece, choice: int, number: int) -> Piece:
    """A piece with its choice; for a prompt's further choices the prompt is not counted again."""
    return replace(piece, choice=choice) if number == 0 else replace(piece, choice=choice, n_prompt=0, n_evaluated=0)


def _reading(request: PreparedRequest, prompt: PromptAndQuery, context: Context, piece: Piece) -> Reading | None:
    """What was read by the bundle of the request, or that of several which was chosen."""
    engine = context.engine(request.applied)
    if len(engine.generators) > 1 and piece.applied is not None:
        engine = context.engine(piece.applied)
    generator = None if request.applied.steering.off else engine.generator
    return None if generator is None else generator.read(request.asked_of(prompt).text)


def _answer(
    request: PreparedRequest,
    prompt: PromptAndQuery,
    context: Context,
    number: int,
    first: Piece | None,
) -> Generator[Piece]:
    """One of `n` answers to a prompt; the first is what one alone would be.

    The probabilities of allowed answers are those of the `first` piece so far, so that they are evaluated once.
    """
    target, sampling = context.target, request.sampling
    if number and sampling.seed is not None:
        sampling = sampling.of_row(number)
    if first is not None and first.probabilities is not None:
        drawn = _drawn(prompt.prompt, first.probabilities, first.gate, sampling, target)
        yield from _pieces(request, drawn, context, first.applied)
        return
    constraint = request.constraint or Constraint()
    events = context.engine(request.applied).stream(
        request.asked_of(prompt),
        prompt=prompt.prompt,
        steering=request.applied.steering,
        sampling=sampling,
        max_tokens=request.max_tokens,
        choices=constraint.choices or None,
        grammar=constraint.grammar,
    )
    try:
        yield from _pieces(request, events, context)
    except GrammarError as error:
        raise FieldError(request.constraint_field, str(error)) from error


def _drawn(
    prompt: Prompt,
    probabilities: Mapping[str, float],
    gate: GateDecision | None,
    sampling: Sampling,
    target: Target,
) -> Generator[Event]:
    """One of the allowed answers, drawn by probabilities that are known."""
    logprobs = [math.log(probability) if probability else -math.inf for probability in probabilities.values()]
    text, _ = choose_answer([*probabilities], logprobs, sampling)
    tokens = target.prompts.answer_after(prompt, text)
    counts = TokenCounts(len(prompt.tokens), 0, len(tokens) - 1)  # the last one ends the answer
    yield Event(text, tokens[-1], counts, Timings(0, 0, 0), Finish.STOP, probabilities, gate)


def _pieces(
    request: PreparedRequest, events: Generator[Event], context: Context, applied: AppliedSteering | None = None
) -> Generator[Piece]:
    """The events of an answer as pieces, until a stop string is met; how it is steered follows from the first event."""
    stops, n_generated = Stops(request.stops), 0
    with closing(events):  # at once: its vector stays applied until then
        for event in events:
            applied = applied or context.decided(request.applied, event.gate)
            text, finish = stops.feed(event.text), event.finish_reason
            if stops.met:
                finish = Finish.STOP
            elif finish:
                text += stops.rest()
            yield Piece(
                text,
                () if request.n_top is None else (score(context.target.logits(), event.token, request.n_top),),
                finish=finish,
                n_prompt=0 if n_generated else event.tokens.prompt,
                n_evaluated=0 if n_generated else event.tokens.evaluated,
                n_generated=event.tokens.generated - n_generated,
                probabilities=event.probabilities,
                gate=None if n_generated else event.gate,
                applied=applied,
            )
            n_generated = event.tokens.generated
            if finish:
                return


def _echo(request: PreparedRequest, prompt: PromptAndQuery, context: Context) -> list[Piece]:
    """The prompt, scored if that is wanted: under the vector where every position is steered, else as it is."""
    tokens, applied = prompt.prompt.tokens, request.applied
    finish = None if request.max_tokens else Finish.LENGTH
    n_prompt = 0 if request.max_tokens else len(tokens)
    if request.n_top is None:
        return [Piece(prompt.text, finish=finish, n_prompt=n_prompt)]
    vector, gated, engine = None, None, context.engine(applied)
    if engine.steers_prefix(applied.steering):
        gated = engine.gated(request.asked_of(prompt))
        rows = gated.rows if gated.steering.positions.prefix else None
        vector = None if rows is None else rows.at_prompt
    scores = tuple(score_text(context.target, tokens, request.n_top, vector))
    n_evaluated = len(tokens) - 1
    piece = Piece(prompt.text, scores, first=tokens[0], finish=finish, n_prompt=n_prompt, n_evaluated=n_evaluated)
    if gated is not None and finish:  # else the answer says it
        piece = replace(piece, gate=gated.gate, applied=context.decided(applied, gated.gate))
    return [piece]
