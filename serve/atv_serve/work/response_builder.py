"""Builds responses from the pieces of an answer: a whole one, or a series of chunks."""

from __future__ import annotations

import codecs
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from pydantic import BaseModel

from atv_local.answer import Finish
from atv_local.target import Score
from atv_local.vectors import GateDecision
from atv_serve.openai import (
    AssistantMessage,
    CachedTokens,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatLogprobs,
    ChatResponse,
    ChosenLogprob,
    CompletionChoice,
    CompletionResponse,
    Delta,
    FinishReason,
    TextLogprobs,
    TokenLogprob,
    UsageResponse,
)
from atv_serve.work.context import AppliedSteering
from atv_serve.work.generate import Piece
from atv_serve.work.models import ServedModels

_FINISH: dict[Finish, FinishReason] = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.CONTEXT: "length"}


@dataclass
class UsageCounter:
    """Tokens of a request: of its prompts, those of them that were evaluated for it, and those written."""

    prompt: int = 0
    evaluated: int = 0
    generated: int = 0

    def add(self, piece: Piece) -> None:
        """Count a piece."""
        self.prompt += piece.n_prompt
        self.evaluated += piece.n_evaluated
        self.generated += piece.n_generated

    def as_response(self) -> UsageResponse:
        """The counts in the form of a response."""
        return UsageResponse(
            prompt_tokens=self.prompt,
            completion_tokens=self.generated,
            total_tokens=self.prompt + self.generated,
            prompt_tokens_details=CachedTokens(cached_tokens=max(0, self.prompt - self.evaluated)),
        )


@dataclass
class TextOffsets:
    """Where the tokens of a choice begin in its text, in characters, of which several tokens may make one."""

    at: int = 0
    decoder: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))

    def __post_init__(self) -> None:
        self.decoder.errors = "replace"

    def of(self, piece: bytes, *, last: bool) -> int:
        """Where the next token begins, which has these bytes; after the `last` one of a prompt text begins anew."""
        if piece and piece[0] & 0xC0 != 0x80:  # it continues no character; what was begun is broken
            self.at += len(self.decoder.decode(b"", True))
        start = max(0, self.at)
        self.at += len(self.decoder.decode(piece, last))
        return start


class ResponseBuilder:
    """Builds the responses to one request, and counts its tokens.

    Args:
        models: of the server.
        model: the one that the request names.
        applied: how it is to be steered.
        chat: whether they are those of a chat, or of a completion.
    """

    def __init__(self, models: ServedModels, model: str, applied: AppliedSteering, *, chat: bool) -> None:
        self.counts = UsageCounter()
        self._vocabulary, self._names, self._chat = models.vocabulary, models.bundle_names, chat
        self._applied = applied
        self._frame: dict[str, Any] = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "steering": applied.as_response(),
        }
        self._begun: set[int] = set()
        """Choices of which something was sent."""
        self._offsets: dict[int, TextOffsets] = {}
        self._spelled: dict[int, dict[str, Any]] = {}

    def whole(self, pieces: Sequence[Piece]) -> str:
        """All pieces of an answer as one response, in JSON.

        Choices and log-probabilities are written one by one: as one model, a hundred thousand of them would stop all
        threads, while they are written and whenever the garbage collector looks at them.
        """
        for piece in pieces:
            self.counts.add(piece)
        steerings = [*dict.fromkeys(piece.applied for piece in pieces if piece.applied)]
        if len(steerings) == 1:  # several prompts can go to several bundles
            self._steer(steerings[0])
        write = self._written_chat_choice if self._chat else self._written_text_choice
        choices = [write(index, list(group)) for index, group in groupby(pieces, lambda piece: piece.choice)]
        frame = self._frame | {"choices": [], "usage": self.counts.as_response()}
        empty = (
            ChatResponse(**frame, object="chat.completion")
            if self._chat
            else CompletionResponse(**frame, object="text_completion")
        )
        return _filled(_json(empty), "choices", choices)

    def _written_chat_choice(self, index: int, pieces: Sequence[Piece]) -> str:
        scores = [_json(score) for score in self._chat_scores(pieces)]
        choice = ChatChoice(
            index=index,
            message=AssistantMessage(role="assistant", content=_text(pieces), refusal=None),
            logprobs=ChatLogprobs(content=[], refusal=None) if scores else None,
            finish_reason=_FINISH[pieces[-1].finish or Finish.LENGTH],
            **_probabilities(pieces[-1]),
            **_reading(pieces[-1]),
            **self._gate(pieces),
        )
        return _filled(_json(choice), "content", scores) if scores else _json(choice)

    def _written_text_choice(self, index: int, pieces: Sequence[Piece]) -> str:
        return _json(self._text_choice(index, pieces))

    def chunks(self, piece: Piece) -> Iterator[ChatChunk | CompletionResponse]:
        """What is sent of a piece at once."""
        self.counts.add(piece)
        self._steer(piece.applied or self._applied)
        if not self._chat:
            choices = [self._text_choice(piece.choice, [piece])]
            yield CompletionResponse(**self._frame, object="text_completion", choices=choices)
            return
        if piece.choice not in self._begun:
            self._begun.add(piece.choice)
            yield self._chat_chunk(piece.choice, Delta(role="assistant", content=""), **self._gate([piece]))
        logprobs = self._chat_logprobs([piece])
        if piece.text or logprobs:
            yield self._chat_chunk(piece.choice, Delta(content=piece.text), logprobs, **_probabilities(piece))
        if piece.finish:
            yield self._chat_chunk(piece.choice, Delta(), finish_reason=_FINISH[piece.finish], **_reading(piece))

    def last(self) -> ChatChunk | CompletionResponse:
        """The chunk after all others that says the usage."""
        usage = self.counts.as_response()
        if self._chat:
            return ChatChunk(**self._frame, object="chat.completion.chunk", choices=[], usage=usage)
        return CompletionResponse(**self._frame, object="text_completion", choices=[], usage=usage)

    def _steer(self, applied: AppliedSteering) -> None:
        """Report this steering from now on."""
        if applied != self._applied:
            self._applied, self._frame["steering"] = applied, applied.as_response()

    def _chat_chunk(
        self,
        index: int,
        delta: Delta,
        logprobs: ChatLogprobs | None = None,
        finish_reason: FinishReason | None = None,
        **more: Any,
    ) -> ChatChunk:
        choice = ChatChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish_reason, **more)
        return ChatChunk(**self._frame, object="chat.completion.chunk", choices=[choice])

    def _text_choice(self, index: int, pieces: Sequence[Piece]) -> CompletionChoice:
        finish = pieces[-1].finish
        return CompletionChoice(
            index=index,
            text=_text(pieces),
            logprobs=self._text_logprobs(pieces),
            finish_reason=_FINISH[finish] if finish else None,
            **_probabilities(pieces[-1]),
            **_reading(pieces[-1]),
            **self._gate(pieces),
        )

    def _gate(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        return gate_field(next((piece.gate for piece in pieces if piece.gate is not None), None), self._names)

    def _chat_logprobs(self, pieces: Sequence[Piece]) -> ChatLogprobs | None:
        content = [*self._chat_scores(pieces)]
        return ChatLogprobs(content=content, refusal=None) if content else None

    def _chat_scores(self, pieces: Sequence[Piece]) -> Iterator[ChosenLogprob]:
        for score in (score for piece in pieces for score in piece.scores):
            if not self._vocabulary.ends(score.token):
                yield ChosenLogprob(
                    **self._logprob(score.token, score.logprob),
                    top_logprobs=[TokenLogprob(**self._logprob(token, logprob)) for token, logprob in score.top],
                )

    def _logprob(self, token: int, logprob: float) -> dict[str, Any]:
        if token not in self._spelled:
            piece = self._vocabulary.piece(token, special=True)
            self._spelled[token] = {"token": piece.decode("utf-8", "replace"), "bytes": list(piece)}
        return {**self._spelled[token], "logprob": logprob}

    def _text_logprobs(self, pieces: Sequence[Piece]) -> TextLogprobs | None:
        scores = [score for piece in pieces for score in piece.scores]
        first = next((piece.first for piece in pieces if piece.first is not None), None)
        if not scores and first is None:
            return None
        tokens = [score.token for score in scores] if first is None else [first, *(score.token for score in scores)]
        offsets = self._offsets.setdefault(pieces[0].choice, TextOffsets())
        echo = 0 if first is None else len(pieces[0].scores) + 1
        if echo:  # which may leave out what the tokenizer puts in front
            offsets.at = len(pieces[0].text) - len(self._vocabulary.text(tokens[:echo]))
        no_score: list[None] = [] if first is None else [None]
        return TextLogprobs(
            tokens=[self._token_text(token) for token in tokens],
            token_logprobs=[*no_score, *(score.logprob for score in scores)],
            top_logprobs=[*no_score, *(self._by_text(score) for score in scores)],
            text_offset=[
                offsets.of(self._vocabulary.piece(token, special=place <= echo), last=place == echo)
                for place, token in enumerate(tokens, start=1)
            ],
        )

    def _by_text(self, score: Score) -> dict[str, float]:
        """The most likely tokens and the chosen one, by their texts; of tokens with the same text, the most likely."""
        logprobs: dict[str, float] = {}
        for token, logprob in (*score.top, (score.token, score.logprob)):
            logprobs.setdefault(self._token_text(token), logprob)
        return logprobs

    def _token_text(self, token: int) -> str:
        return self._vocabulary.piece(token, special=True).decode("utf-8", "replace")


def gate_field(gate: GateDecision | None, names: Mapping[str, str]) -> dict[str, Any]:
    """The field `gate` of a response, none without a decision; `names` are those of the bundles by their ids."""
    if gate is None:
        return {}
    bundle = {} if gate.bundle is None else {"bundle": names[gate.bundle], "bundle_id": gate.bundle}
    return {"gate": gate.as_dict() | bundle}


def _probabilities(piece: Piece) -> dict[str, Any]:
    return {} if piece.probabilities is None else {"probabilities": dict(piece.probabilities)}


def _reading(piece: Piece) -> dict[str, Any]:
    return {} if piece.reading is None else piece.reading.as_field()


def _text(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def _json(model: BaseModel) -> str:
    return model.model_dump_json(exclude_unset=True)


def _filled(json: str, field: str, items: Sequence[str]) -> str:
    """A JSON object, with items in its `field`, which is an empty list. In texts, quotes are escaped."""
    head, _, tail = json.partition(f'"{field}":[]')
    return f'{head}"{field}":[{",".join(items)}]{tail}'
