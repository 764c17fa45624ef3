"""Grammars in GBNF allow the same tokens as llama.cpp's own grammar sampler does."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp as lib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atv_local.errors import UsageError
from atv_local.target import Grammar, GrammarState, Model, Vocabulary
from atv_local.target.gbnf import lark_of_gbnf

GRAMMARS = {
    "choice": 'root ::= "yes" | "no" | "not at all"',
    "repeats": 'root ::= "a"? [b-d]+ ("e" | "f"){2} "g"{1,3} "h"{0,2} [^a-z]*',
    "arithmetic": 'root ::= sum\nsum ::= term ([-+] term)*\nterm ::= [0-9]+ | "(" sum ")" # nested\n',
    "lines": 'root ::=\n  "a" |\n  (\n "b"\n "c" )\n\n# the end\n',
    "escapes": r'root ::= "\"\\\n\t" [\]\[\-x] "\x41\u00e9\U0001F600"',
    "characters": 'root ::= [あ-ん]+ "é"? . [^é]',
    "empty": 'root ::= "" | a\na ::= "x" a | ',
    "two ways": 'root ::= [a-c]* "b" [a-c]*\n',
    "redefined": 'root ::= "a"\nroot ::= "b"',
    "names": 'root ::= my-rule Start2\nmy-rule ::= "x"\nStart2 ::= "y"',
}
WORDS = (
    "",
    "a",
    "ab",
    "abc",
    "yes",
    "no",
    "not",
    "abeegh",
    "1+(2-",
    "(3)+",
    "b\n",
    '"\\\n\t-A',
    "あんé",
    "xy",
    "x",
    "é",
)


@pytest.fixture(scope="module")
def vocabulary(tiny_gguf: Path) -> Vocabulary:
    """Bytes and letters."""
    return Vocabulary(Model(tiny_gguf, vocab_only=True))


@contextmanager
def _sampler(vocabulary: Vocabulary, grammar: str) -> Iterator[Any]:
    vocab = lib.llama_model_get_vocab(vocabulary.model.handle)
    sampler = lib.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
    assert sampler
    yield sampler
    lib.llama_sampler_free(sampler)


def _allowed(sampler: Any, vocabulary: Vocabulary) -> set[int]:
    """Those that llama.cpp allows."""
    data = (lib.llama_token_data * vocabulary.n_tokens)(*((token, 1.0, 0.0) for token in range(vocabulary.n_tokens)))
    array = lib.llama_token_data_array(data, len(data), -1, False)
    lib.llama_sampler_apply(sampler, ctypes.byref(array))
    return {one.id for one in data if np.isfinite(one.logit)}


def _is_text(piece: bytes) -> bool:
    """Whether it can be part of UTF-8 text; llama.cpp also allows other bytes, and never a zero byte."""
    return bool(piece) and not {*piece} & {0, 0xC0, 0xC1, *range(0xF5, 0x100)}


def _compare(vocabulary: Vocabulary, grammar: str, text: str) -> None:
    """Both allow the same tokens before each token of a text, as far as they allow that text."""
    state = GrammarState(Grammar.of_gbnf(grammar), vocabulary)
    texts = [
        token for token in range(vocabulary.n_tokens) if _is_text(vocabulary.piece(token)) or vocabulary.ends(token)
    ]
    with _sampler(vocabulary, grammar) as sampler:
        for byte in (*text.encode(), None):
            wanted = _allowed(sampler, vocabulary) & {*texts}
            assert {token for token in texts if state.allows(token)} == wanted, (grammar, text, byte)
            token = next((token for token in wanted if vocabulary.piece(token) == bytes([byte or 0])), None)
            if byte is None or token is None:
                return
            assert token in {*state.allowed().tolist()} or len(state.allowed()) == 1  # what can only be written so
            state.accept(token)
            lib.llama_sampler_accept(sampler, token)


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS.keys())
def test_a_grammar_allows_what_llama_cpp_allows(vocabulary: Vocabulary, grammar: str) -> None:
    for text in WORDS:
        _compare(vocabulary, grammar, text)


_ITEMS = st.sampled_from(['"a"', '"b"', '"ab"', "[ab]", "[^a]", "[a-c]", '"é"', "."])
_SEQUENCES = st.recursive(
    _ITEMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(" ".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' | '.join(parts)})"),
        st.tuples(inner, st.sampled_from(["?", "{2}", "{1,2}", "{0,2}"])).map(lambda pair: f"({pair[0]}){pair[1]}"),
        st.tuples(_ITEMS, st.sampled_from("*+")).map("".join),
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=_SEQUENCES, text=st.text("abcé", max_size=5))
def test_any_grammar_allows_what_llama_cpp_allows(vocabulary: Vocabulary, sequence: str, text: str) -> None:
    _compare(vocabulary, f"root ::= {sequence}", text)


def test_grammars_that_llama_cpp_cannot_read_work_too(vocabulary: Vocabulary) -> None:
    """Left recursion is no problem here."""
    state = GrammarState(Grammar.of_gbnf('root ::= root "+" [0-9] | [0-9]'), vocabulary)
    for character in "1+2+3":
        token = next(t for t in range(vocabulary.n_tokens) if vocabulary.piece(t) == character.encode())
        assert state.allows(token)
        state.accept(token)
    assert state.allows(vocabulary.eos)


@pytest.mark.parametrize(
    ("grammar", "named"),
    [
        ("", "`root`"),
        ('x ::= "a"', "`root`"),
        ("root ::= other", "'other'"),
        ("root ::= (", "line 1"),
        ('root ::= "a"\nx = "b"', "line 2"),
        ('root ::= "a" )', "line 1"),
        ('root ::= "a', "end"),
        ("root ::= [a", "end"),
        ("root ::= []", "brackets"),
        ("root ::= [b-a]", "range"),
        (r'root ::= "\q"', "escape"),
        (r'root ::= "\UFFFFFFFF"', "Unicode"),
        (r'root ::= "\ud800"', "Unicode"),
        ("root ::= <think>", "tokens"),
        ('root ::= "a"{3,2}', "at least 3"),
        ('root ::= "a"{,2}', "{1,3}"),
        ('root ::= "a"{2001}', "2000"),
        ('root ::= "a"{' + "9" * 5000 + "}", "2000"),
        ("root ::= " + "(" * 65, "64"),
        ("root ::= *", "a name"),
    ],
)
def test_what_is_not_gbnf_is_refused_with_its_place(grammar: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        lark_of_gbnf(grammar)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
