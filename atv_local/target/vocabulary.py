"""The target's own tokenizer, through llama.cpp: text to tokens and back. Knows nothing of weights."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from functools import cached_property

import llama_cpp as lib

from atv_local.target.model import Model

_PIECE = 64
"""Bytes that most tokens fit in."""


class Vocabulary:
    """Tokens of one GGUF. Training uses it too: other tokenizers built from a GGUF can differ from llama.cpp's.

    For several threads.
    """

    def __init__(self, model: Model) -> None:
        self._model = model  # keeps the handle below alive
        self._vocab = lib.llama_model_get_vocab(model.handle)
        self.n_tokens = int(lib.llama_vocab_n_tokens(self._vocab))

    def tokenize(self, text: str, *, special: bool, bos: bool | None = None) -> list[int]:
        """Token ids of a text.

        Args:
            text: what to tokenise.
            special: control tokens that are spelt in the text become control tokens, as in prompts.
            bos: add the beginning-of-sequence token if the GGUF asks for one and the text lacks it; by default as
                `special`.
        """
        data = text.encode("utf-8", "replace")
        add_bos = (special if bos is None else bos) and not (self.bos_text and text.startswith(self.bos_text))
        tokens = (lib.llama_token * (len(data) + 2))()
        count = lib.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), add_bos, special)
        if count < 0:  # a vocabulary that needs more tokens than bytes; llama.cpp says how many
            tokens = (lib.llama_token * -count)()
            count = lib.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), add_bos, special)
        return list(tokens[:count])

    def spells_control(self, text: str) -> bool:
        """Whether some control token, such as one that ends a turn, stands in `text` letter by letter."""
        tokens = self.tokenize(text, special=True, bos=False)
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
        buffer = ctypes.create_string_buffer(_PIECE)
        length = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        if length < 0:
            buffer = ctypes.create_string_buffer(-length)
            length = lib.llama_token_to_piece(self._vocab, token, buffer, len(buffer), 0, special)
        return buffer.raw[:length]

    def ends(self, token: int) -> bool:
        """Whether `token` ends an answer (end of sequence, of turn, ...)."""
        return bool(lib.llama_vocab_is_eog(self._vocab, token))

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
