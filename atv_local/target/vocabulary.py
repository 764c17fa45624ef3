"""The target's own tokenizer, through llama.cpp: text to tokens and back. It needs no weights."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from functools import cached_property, partial

import llama_cpp as lib

from atv_local.errors import PromptError, UsageError
from atv_local.target.deep_call import deep_call
from atv_local.target.model import Model

_PIECE = 64
"""Bytes that most tokens fit in."""
_LONG = 1 << 15
"""Bytes of a text that llama.cpp tokenises at once. Its time is quadratic in the control tokens that a text spells."""
_SHALLOW = 1 << 12
"""Bytes of a text that llama.cpp splits with the stack of any thread."""
_STACK = 1 << 10
"""Bytes of stack for each of a longer text. For some vocabularies, such as Falcon's and GPT-NeoX's, llama.cpp splits
with `std::regex`, which calls itself for every character of a match; with GCC's library that takes 300 to 400 bytes."""
_CUTS_LOSSLESSLY = (lib.LLAMA_VOCAB_TYPE_SPM, lib.LLAMA_VOCAB_TYPE_BPE)
"""Kinds of vocabularies whose tokens cover every byte of a text; others may drop or merge what they do not know."""


class Vocabulary:
    """Tokens of one GGUF. Training uses it too: other tokenizers built from a GGUF can differ from llama.cpp's.

    For several threads.
    """

    def __init__(self, model: Model) -> None:
        self._model = model  # keeps the handle below alive
        self._vocab = lib.llama_model_get_vocab(model.handle)
        self.n_tokens = int(lib.llama_vocab_n_tokens(self._vocab))

    @property
    def model(self) -> Model:
        """What it belongs to; vocabularies of one model are equal."""
        return self._model

    def check(self, tokens: Sequence[int]) -> None:
        """Raise UsageError for an id that is not a token; llama.cpp would end the process."""
        if len(tokens) and not (min(tokens) >= 0 and max(tokens) < self.n_tokens):
            wrong = next(token for token in tokens if not 0 <= token < self.n_tokens)
            raise UsageError(f"{wrong} is not a token of the target, which has tokens 0 to {self.n_tokens - 1}")

    def tokenize(self, text: str, *, special: bool, bos: bool | None = None, limit: int | None = None) -> list[int]:
        """Token ids of a text.

        Args:
            text: what to tokenise.
            special: control tokens that are spelt in the text become control tokens, as in prompts.
            bos: add the beginning-of-sequence token if the GGUF asks for one and the text lacks it; by default as
                `special`.
            limit: how many tokens are of use. A long text with more is refused, mostly before it is tokenised.

        Raises:
            PromptError: a long text with more than `limit` tokens.
        """
        data = text.encode("utf-8", "replace")
        add_bos = (special if bos is None else bos) and not (self.bos_text and text.startswith(self.bos_text))
        if len(data) < _LONG:
            return self._tokenize(data, special=special, bos=add_bos)
        parts = self._split(data, special=special)
        if limit is not None:
            _check_limit(self._least(parts), limit)
        if not self._can_split:
            return self._tokenize(data, special=special, bos=add_bos)
        tokens = self._tokenize(b"", special=special, bos=True) if add_bos else []
        for part in parts:
            tokens += [part] if isinstance(part, int) else self._tokenize(part, special=special, bos=False)
            if limit is not None:
                _check_limit(len(tokens), limit)
        return tokens

    def _tokenize(self, data: bytes, *, special: bool, bos: bool) -> list[int]:
        call = partial(self._call, data, special=special, bos=bos)
        deep = len(data) > _SHALLOW and lib.llama_vocab_type(self._vocab) == lib.LLAMA_VOCAB_TYPE_BPE
        return deep_call(call, len(data) * _STACK) if deep else call()

    def _call(self, data: bytes, *, special: bool, bos: bool) -> list[int]:
        tokens = (lib.llama_token * (len(data) + 2))()
        count = lib.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), bos, special)
        if count < 0:  # a vocabulary that needs more tokens than bytes; llama.cpp says how many
            tokens = (lib.llama_token * -count)()
            count = lib.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), bos, special)
        if bos and lib.llama_vocab_get_add_eos(self._vocab) and count and tokens[count - 1] == self.eos:
            count -= 1  # added with the first one; an answer would come after the end
        return list(tokens[:count])

    def _split(self, data: bytes, *, special: bool) -> list[bytes | int]:
        """A text cut at the tokens that llama.cpp looks for first, in its order: long ones before short ones."""
        parts: list[bytes | int] = [data]
        for token, text, always in self._cut_at:
            if text in data and (special or always):
                parts = [piece for part in parts for piece in _cut(part, text, token)]
        return parts

    @cached_property
    def _cut_at(self) -> list[tuple[int, bytes, bool]]:
        """Tokens that are looked for before all others: id, text, and whether without `special` too."""
        user, others = lib.LLAMA_TOKEN_ATTR_USER_DEFINED, lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_UNKNOWN
        found = []
        for token in range(self.n_tokens):
            attributes, text = self._attributes(token), lib.llama_vocab_get_text(self._vocab, token)
            if text and attributes & (user | others):
                found.append((token, text, not attributes & others))
        return sorted(found, key=lambda entry: -len(entry[1]))

    @cached_property
    def _can_split(self) -> bool:
        """Whether the parts of a text give its tokens: no token takes the spaces beside it."""
        return lib.llama_vocab_type(self._vocab) in _CUTS_LOSSLESSLY and not any(self._strips)

    @cached_property
    def _strips(self) -> tuple[bool, bool]:
        """Whether some token takes the spaces before it, and whether one takes those after it."""
        attributes = [self._attributes(token) for token, _, _ in self._cut_at]
        before, after = lib.LLAMA_TOKEN_ATTR_LSTRIP, lib.LLAMA_TOKEN_ATTR_RSTRIP
        return any(each & before for each in attributes), any(each & after for each in attributes)

    def _attributes(self, token: int) -> int:
        return int(lib.llama_vocab_get_attr(self._vocab, token))

    def _least(self, parts: Sequence[bytes | int]) -> int:
        """A number of tokens that the parts of a text have at least."""
        before, after = self._strips
        texts = [part for part in parts if not isinstance(part, int)]
        n_control = len(parts) - len(texts)
        if n_control:  # each text stands beside such a token, which may take its spaces
            texts = [text.rstrip() for text in texts] if before else texts
            texts = [text.lstrip() for text in texts] if after else texts
        return n_control + sum(map(self._least_of_text, texts))

    def _least_of_text(self, part: bytes) -> int:
        by_size = -(-len(part) // self._longest)
        kind = lib.llama_vocab_type(self._vocab)
        if kind not in _CUTS_LOSSLESSLY:
            return 0  # of what such a vocabulary does not know, any length may become one token
        if kind != lib.LLAMA_VOCAB_TYPE_SPM:
            return by_size
        # llama.cpp takes time quadratic in the characters that are in no token; each becomes one token or more.
        return max(by_size, sum(char not in self._alphabet for char in part.decode("utf-8", "replace")))

    @cached_property
    def _longest(self) -> int:
        """Bytes of the longest token that is not a control token."""
        return max(1, *(len(self.piece(token)) for token in range(self.n_tokens)))

    @cached_property
    def _alphabet(self) -> frozenset[str]:
        """Characters of all tokens but those of single bytes."""
        texts = [token for token in range(self.n_tokens) if not self._attributes(token) & lib.LLAMA_TOKEN_ATTR_BYTE]
        pieces = {self.piece(token).decode("utf-8", "replace") for token in texts}
        return frozenset().union(*pieces)

    def spells_control(self, text: str) -> bool:
        """Whether some control token, such as one that ends a turn, stands in `text` letter by letter."""
        data = text.encode("utf-8", "replace")
        tokens = (
            [part for part in self._split(data, special=True) if isinstance(part, int)]
            if len(data) >= _LONG
            else self._tokenize(data, special=True, bos=False)
        )
        return any(lib.llama_vocab_is_control(self._vocab, token) for token in tokens)

    def text(self, tokens: Sequence[int], *, special: bool = True) -> str:
        """Tokens as text; bytes that are no UTF-8 become U+FFFD.

        Args:
            tokens: token ids.
            special: spell control tokens out; otherwise they are left out.
        """
        return b"".join(self.piece(token, special=special) for token in tokens).decode("utf-8", "replace")

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of one token, which may be part of a character. Control tokens are empty unless `special`."""
        self.check((token,))
        buffer = ctypes.create_string_buffer(_PIECE)
        length = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:length]

    def ends(self, token: int) -> bool:
        """Whether `token` ends an answer (end of sequence, of turn, ...)."""
        self.check((token,))
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

    @cached_property
    def puts_space(self) -> bool:
        """Whether the tokenizer puts a space before every text, as SentencePiece does."""
        return self.text(self._tokenize(b"a", special=False, bos=False)).startswith(" ")

    @cached_property
    def eos(self) -> int:
        """The end-of-sequence token."""
        return int(lib.llama_vocab_eos(self._vocab))

    @cached_property
    def bos(self) -> int:
        """The beginning-of-sequence token, negative if there is none."""
        return int(lib.llama_vocab_bos(self._vocab))

    @cached_property
    def bos_text(self) -> str:
        """Text of the beginning-of-sequence token, empty if there is none."""
        return self._special_text(self.bos)

    @cached_property
    def eos_text(self) -> str:
        """Text of the end-of-sequence token, empty if there is none."""
        return self._special_text(self.eos)

    def _special_text(self, token: int) -> str:
        return self.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""

    @cached_property
    def chat_template(self) -> str:
        """The GGUF's Jinja chat template, empty if it has none (llama_model_chat_template)."""
        template: bytes | None = lib.llama_model_chat_template(self._model.handle, None)
        return template.decode("utf-8", "replace") if template else ""

    @cached_property
    def sha256(self) -> str:
        """Hash of the text of every token in order; vocabularies with equal hashes count as equal."""
        digest = hashlib.sha256()
        for token in range(self.n_tokens):
            digest.update(lib.llama_vocab_get_text(self._vocab, token) + b"\0")
        return digest.hexdigest()


def _cut(part: bytes | int, text: bytes, token: int) -> list[bytes | int]:
    """A part with `token` in place of every `text`."""
    if isinstance(part, int):
        return [part]
    pieces: list[bytes | int] = []
    for piece in part.split(text):
        pieces += [piece, token] if piece else [token]
    del pieces[-1]
    return pieces


def _check_limit(n_tokens: int, limit: int) -> None:
    if n_tokens > limit:
        raise PromptError(f"the text has at least {n_tokens} tokens, and {limit} are allowed; shorten it")
