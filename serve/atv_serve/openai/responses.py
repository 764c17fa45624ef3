"""Answers in the shapes of OpenAI's API, whole or as a stream of chunks. Knows nothing of HTTP or of models."""

from __future__ import annotations

import codecs
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from atv_local.answer import Finish
from atv_local.target import Score, Vocabulary
from atv_serve.work import Piece

Json = dict[str, Any]
_FINISH = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.CONTEXT: "length"}


@dataclass
class Usage:
    """Tokens of a request: of its prompts, those of them that were evaluated for it, and those written."""

    prompt: int = 0
    evaluated: int = 0
    generated: int = 0

    def add(self, piece: Piece) -> None:
        """Count a piece."""
        self.prompt += piece.n_prompt
        self.evaluated += piece.n_evaluated
        self.generated += piece.n_generated

    def as_json(self) -> Json:
        """As an answer says it."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.generated,
            "total_tokens": self.prompt + self.generated,
            "prompt_tokens_details": {"cached_tokens": max(0, self.prompt - self.evaluated)},
        }


@dataclass
class Offsets:
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


@dataclass
class ReplyShape:
    """What the chunks of one reply have in common, and what has come of it so far."""

    vocabulary: Vocabulary
    model: str
    steering: Json | bool
    chat: bool
    usage: Usage = field(default_factory=Usage)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))
    begun: set[int] = field(default_factory=set)
    """Choices of which something was sent."""
    offsets: dict[int, Offsets] = field(default_factory=dict)

    def whole(self, pieces: Sequence[Piece]) -> Json:
        """All pieces of a reply as one answer."""
        choices = []
        for index, group in groupby(pieces, lambda piece: piece.choice):
            mine = list(group)
            text = "".join(piece.text for piece in mine)
            content: Json = {"message": {"role": "assistant", "content": text, "refusal": None}}
            choices.append(
                {"index": index}
                | (content if self.chat else {"text": text})
                | {"logprobs": self._logprobs(mine), "finish_reason": _FINISH[mine[-1].finish or Finish.LENGTH]}
            )
        for piece in pieces:
            self.usage.add(piece)
        return self._frame("chat.completion" if self.chat else "text_completion", choices) | {
            "usage": self.usage.as_json()
        }

    def chunks(self, piece: Piece) -> Iterator[Json]:
        """A piece as what is sent of it at once."""
        self.usage.add(piece)
        if self.chat and piece.choice not in self.begun:
            yield self._chunk(piece.choice, {"delta": {"role": "assistant", "content": ""}}, None, None)
        reason = _FINISH[piece.finish] if piece.finish else None
        logprobs = self._logprobs([piece])
        self.begun.add(piece.choice)
        if not self.chat:
            yield self._chunk(piece.choice, {"text": piece.text}, logprobs, reason)
            return
        if piece.text or logprobs:
            yield self._chunk(piece.choice, {"delta": {"content": piece.text}}, logprobs, None)
        if reason:
            yield self._chunk(piece.choice, {"delta": {}}, None, reason)

    def last(self) -> Json:
        """The chunk after all others that says the usage."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return self._frame(kind, []) | {"usage": self.usage.as_json()}

    def _chunk(self, choice: int, content: Json, logprobs: Json | None, reason: str | None) -> Json:
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return self._frame(kind, [{"index": choice} | content | {"logprobs": logprobs, "finish_reason": reason}])

    def _frame(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "steering": self.steering,
        }

    def _logprobs(self, pieces: Sequence[Piece]) -> Json | None:
        scores = [score for piece in pieces for score in piece.scores]
        first = next((piece.first for piece in pieces if piece.first is not None), None)
        if not scores and first is None:
            return None
        if self.chat:
            said = [score for score in scores if not self.vocabulary.ends(score.token)]
            return {"content": [self._chat_score(score) for score in said], "refusal": None} if said else None
        tokens = [score.token for score in scores] if first is None else [first, *(score.token for score in scores)]
        offsets = self.offsets.setdefault(pieces[0].choice, Offsets())
        echo = 0 if first is None else len(pieces[0].scores) + 1
        if echo:  # which may leave out what the tokenizer puts in front
            offsets.at = len(pieces[0].text) - len(self.vocabulary.text(tokens[:echo]))
        nothing: list[None] = [] if first is None else [None]
        return {
            "tokens": [self._text(token) for token in tokens],
            "token_logprobs": [*nothing, *(score.logprob for score in scores)],
            "top_logprobs": [*nothing, *(self._by_text(score) for score in scores)],
            "text_offset": [
                offsets.of(self.vocabulary.piece(token, special=place <= echo), last=place == echo)
                for place, token in enumerate(tokens, start=1)
            ],
        }

    def _by_text(self, score: Score) -> dict[str, float]:
        """The likeliest tokens and the one that was said, by their texts; of those spelt alike the likeliest."""
        found: dict[str, float] = {}
        for token, logprob in (*score.top, (score.token, score.logprob)):
            found.setdefault(self._text(token), logprob)
        return found

    def _chat_score(self, score: Score) -> Json:
        top = [self._entry(token, logprob) for token, logprob in score.top]
        return self._entry(score.token, score.logprob) | {"top_logprobs": top}

    def _entry(self, token: int, logprob: float) -> Json:
        piece = self.vocabulary.piece(token, special=True)
        return {"token": piece.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(piece)}

    def _text(self, token: int) -> str:
        return self.vocabulary.piece(token, special=True).decode("utf-8", "replace")
