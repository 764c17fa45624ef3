"""What a generator reads of a query: the tokens of its tokenizer, as many as its limit allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

GENERATOR_READ = "generator_read"
"""The field of records that says what was read of a query where that is not all of it."""


@dataclass(frozen=True)
class Reading:
    """What a generator reads of one query.

    Attributes:
        ids: token ids, with those of the template and the special ones.
        length: characters that are read, from the first on; fewer than `of` if the query is longer than the limit.
        of: characters of the query.
        unknown: the parts that the tokenizer has no token for. They are all read as the same token.
    """

    ids: tuple[int, ...]
    length: int
    of: int
    unknown: tuple[str, ...] = ()

    @property
    def cut(self) -> bool:
        """Whether the end of the query is not read."""
        return self.length < self.of

    @property
    def complete(self) -> bool:
        """Whether every character is read, and known."""
        return not (self.cut or self.unknown)

    def as_field(self) -> dict[str, Any]:
        """What a record of an answer has of it: nothing if it is complete."""
        if self.complete:
            return {}
        return {GENERATOR_READ: {"chars": self.length, "of": self.of, "unknown": len(self.unknown)}}


class QueryReader:
    """Tokenizes queries for a generator.

    Args:
        tokenizer: the backbone's; its own padding and truncation are replaced.
        template: has `{query}` where the query goes.
        max_tokens: tokens that are read, those of the template included.
    """

    def __init__(self, tokenizer: Tokenizer, template: str, max_tokens: int) -> None:
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        self._tokenizer, self._template = tokenizer, template
        self._unknown: str | None = getattr(tokenizer.model, "unk_token", None)

    def read(self, query: str) -> Reading:
        """What is read of a query."""
        text = self._template.replace("{query}", query)
        encoding = self._tokenizer.encode(text)
        length, first = len(query), self._template.index("{query}")
        if encoding.overflowing:
            length = min(max(0, max(end for _, end in encoding.offsets) - first), length)
        unknown = [
            text[start:end]
            for id_, token, (start, end) in zip(encoding.ids, encoding.tokens, encoding.offsets, strict=True)
            if first <= start < first + len(query) and start < end and self._is_unknown(id_, token)
        ]
        return Reading(tuple(encoding.ids), length, len(query), tuple(unknown))

    def _is_unknown(self, id_: int, token: str) -> bool:
        if self._unknown is not None:
            return token == self._unknown
        known: str = self._tokenizer.id_to_token(id_) or ""
        return token.strip() != known.strip()  # Unigram models give the text itself, with the unknown token's id
