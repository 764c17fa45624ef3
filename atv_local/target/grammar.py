"""Grammars that answers must follow, from a JSON schema or in GBNF, matched by llguidance.

llama.cpp's own grammar sampler is not used: some grammars of a few lines, which a client may send, keep it busy forever
or end the process, and it takes milliseconds to look at a vocabulary. llguidance bounds its work.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atv_local.errors import GrammarError, ModelError, UsageError
from atv_local.target.gbnf import lark_of_gbnf
from atv_local.target.json_schema import explain_refusal, schema_source
from atv_local.target.vocabulary import Vocabulary
from atv_local.text import shown

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

MAX_GRAMMAR_CHARS = 1 << 16
"""Of a schema as JSON, or a grammar. Schemas of large programs have some 20,000; checking this many takes 0.3 s."""
_MAX_LEXER_STATES = 50_000
"""Each takes up to 2 kB. The schemas and grammars of the tests have some hundreds."""

_STACK_BYTES = 128 << 20
"""llguidance takes 4 kB for a rule that begins another one; as many as fit `MAX_GRAMMAR_CHARS` are some 5,000."""

T = TypeVar("T")


@dataclass(frozen=True)
class Grammar:
    """A checked grammar.

    Attributes:
        source: in the form that llguidance reads.
    """

    source: str

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any]) -> Grammar:
        """The grammar of JSON texts that are valid under a JSON schema. `{"type": "object"}` is any JSON object.

        Raises:
            UsageError: not a JSON schema, one with keywords that cannot be guaranteed, such as `not` and
                `uniqueItems`, one that refers to other files, or one that is too large.
        """
        return cls(_checked("schema", schema_source(schema, MAX_GRAMMAR_CHARS)))

    @classmethod
    def of_gbnf(cls, text: str) -> Grammar:
        """A grammar in GBNF, the notation of llama.cpp.

        Raises:
            UsageError: not GBNF, or too large.
        """
        if not isinstance(text, str):
            raise UsageError(f'`grammar` {shown(text)} is not a text in GBNF, such as \'root ::= "yes" | "no"\'')
        if len(text) > MAX_GRAMMAR_CHARS:
            raise UsageError(f"`grammar` has {len(text)} characters, and {MAX_GRAMMAR_CHARS} are allowed")
        lark = lark_of_gbnf(text)
        from llguidance import LLMatcher

        return cls(_checked("grammar", LLMatcher.grammar_from_lark(lark)))


@lru_cache(maxsize=32)
def _checked(name: str, source: str) -> str:
    """The source, which llguidance can compile; that takes up to 0.3 s, and requests often have the same."""
    from llguidance import LLMatcher

    failed, messages = _on_large_stack(lambda: LLMatcher.validate_grammar_with_warnings(source, limits=_limits()))
    if failed:
        raise UsageError(f"`{name}` cannot be used: {explain_refusal(_first_line(messages[0]))}")
    return source


class GrammarState:
    """A grammar and how far an answer has followed it.

    Args:
        grammar: what the answer must follow.
        vocabulary: of the target.

    Raises:
        ModelError: no token of the vocabulary ends an answer.
        UsageError: the grammar needs too much work.
    """

    def __init__(self, grammar: Grammar, vocabulary: Vocabulary) -> None:
        from llguidance import LLMatcher

        self._vocabulary = vocabulary
        tokens, source = _tokenizer(vocabulary), grammar.source
        self._matcher: LLMatcher = _on_large_stack(lambda: LLMatcher(tokens, source, log_level=0, limits=_limits()))
        if self._matcher.is_error():
            raise UsageError(f"the grammar cannot be used: {_first_line(self._matcher.get_error())}")

    def allows(self, token: int) -> bool:
        """Whether a token may come next; one that ends the answer may where the grammar is complete."""
        if self._vocabulary.ends(token):
            return self._matcher.is_accepting()
        return self._matcher.validate_tokens([token]) == 1

    def allowed(self) -> NDArray[np.intp]:
        """The tokens that may come next, in order.

        Raises:
            GrammarError: none may, or the grammar needs too much work.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        tokens = np.flatnonzero(np.unpackbits(bits, bitorder="little")[: self._vocabulary.n_tokens])
        if not len(tokens):
            raise GrammarError("no token of the target can continue the answer under this grammar or schema")
        return tokens

    def accept(self, token: int) -> None:
        """Go on after a token that is allowed.

        Raises:
            GrammarError: the grammar needs too much work.
        """
        if not self._vocabulary.ends(token):
            self._matcher.consume_token(token)
            self._check()

    def reset(self) -> None:
        """Start again, before the first token."""
        self._matcher.reset()

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = _first_line(self._matcher.get_error())
            if reason.startswith("NoExtension"):
                raise GrammarError("no text follows this grammar or schema; does it refer to itself without end?")
            raise GrammarError(f"the grammar or schema is too complex: {reason}")


class _Pieces:
    """A vocabulary as llguidance takes it. It does not keep the model, which could otherwise not be freed."""

    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary, ends: list[int]) -> None:
        self.eos_token_id = ends[0]
        self.tokens = [vocabulary.piece(token) for token in range(vocabulary.n_tokens)]
        special = {token for token, piece in enumerate(self.tokens) if not piece}  # they write no text
        self.special_token_ids = sorted(special)
        for token in special:
            self.tokens[token] = vocabulary.piece(token, special=True)
        self._by_text = {piece: token for token, piece in enumerate(self.tokens) if token not in special}
        self._longest = max(map(len, self._by_text))

    def __call__(self, text: bytes) -> list[int]:
        """The tokens of a text, from left to right the longest that fits: those of llama.cpp may add a space."""
        tokens: list[int] = []
        while text:
            ends = range(min(len(text), self._longest), 0, -1)
            end = next((end for end in ends if text[:end] in self._by_text), None)
            if end is None:
                break
            tokens.append(self._by_text[text[:end]])
            text = text[end:]
        return tokens


_tokenizers: weakref.WeakKeyDictionary[object, LLTokenizer] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _tokenizer(vocabulary: Vocabulary) -> LLTokenizer:
    """What llguidance knows of a vocabulary; it takes some 0.3 s to make and is shared by all contexts of a model."""
    from llguidance import LLTokenizer, TokenizerWrapper

    with _lock:
        found = _tokenizers.get(vocabulary.model)
        if found is None:
            ends = [token for token in range(vocabulary.n_tokens) if vocabulary.ends(token)]
            if not ends:
                raise ModelError("no token of the target ends an answer, so a grammar or schema cannot be followed")
            found = LLTokenizer(TokenizerWrapper(_Pieces(vocabulary, ends)), eos_token=ends)
            _tokenizers[vocabulary.model] = found
        return found


def _on_large_stack(make: Callable[[], T]) -> T:
    """Compile a grammar in a thread whose stack a chain of rules cannot exceed, which would end the process."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(make())
        except BaseException as error:  # raised again by the caller
            future.set_exception(error)

    with _lock:
        before = threading.stack_size(_STACK_BYTES)
        try:
            threading.Thread(target=work, daemon=True).start()
        finally:
            threading.stack_size(before)
    return future.result()


def _limits() -> LLParserLimits:
    from llguidance import LLParserLimits

    return LLParserLimits(max_lexer_states=_MAX_LEXER_STATES, verbose_errors=False)


def _first_line(message: object) -> str:
    lines = str(message).strip().splitlines()
    error = next((line for line in reversed(lines) if line.startswith("error: ")), None)  # of a regular expression
    return (error.removeprefix("error: ") if error else lines[0] if lines else "no reason given").strip()
