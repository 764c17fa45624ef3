"""Schemas and grammars that loop, grow or nest without end are refused, or answered under within bounds.

Each of them is followed for some tokens in the vocabulary of the embedded target, which has tokens of many spaces,
dashes and brackets: matching those is where other implementations take exponential time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atv_local.errors import AtvError, UsageError
from atv_local.target import Grammar, GrammarState, Model, Vocabulary

Schema = dict[str, Any]
_STEPS = 12


def _nested(depth: int) -> Schema:
    schema: Schema = {}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def _array(ref: str, **more: Any) -> Schema:
    return {"type": "array", "items": {"$ref": ref}, **more}


def _chain(length: int) -> Schema:
    """Definitions of which each refers twice to the next."""
    links = {
        f"d{n}": {"anyOf": [_array(f"#/$defs/d{n + 1}"), _array(f"#/$defs/d{n + 1}", minItems=1)]}
        for n in range(length)
    }
    return {"$defs": {**links, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


REFUSED_SCHEMAS: dict[str, Schema] = {
    "remote reference": {"$ref": "https://example.com/schema.json"},
    "reference to a file": {"$ref": "file:///etc/passwd"},
    "reference to nothing": {"$ref": "#/$defs/missing"},
    "nested deep": _nested(200),
    "nested deeper": _nested(900),
    "a billion characters": {"type": "string", "maxLength": 10**12},
    "bad pattern": {"type": "string", "pattern": "(["},
    "look-ahead": {"type": "string", "pattern": "(?=(a+))a*b"},
    "back reference": {"type": "string", "pattern": "(a)\\1"},
    "enormous enum": {"enum": [f"{number:08}" for number in range(10_000)]},
    "no type": {"type": "secret"},
    "half a surrogate": {"enum": ["\ud800"]},
    "nothing": {"enum": []},
}
SCHEMAS: dict[str, Schema] = {
    "cycle": {"$ref": "#"},
    "cycle of two": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "cycle of choices": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    "ambiguous": {
        "$defs": {"a": {"anyOf": [_array("#/$defs/a"), _array("#/$defs/a", minItems=1)]}},
        "$ref": "#/$defs/a",
    },
    "ambiguous chain": _chain(40),
    "product of parts": {"allOf": [{"anyOf": [{"minLength": n}, {"maxLength": 99 - n}]} for n in range(12)]},
    "repeated repeats": {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"},
    "backtracking": {"type": "string", "pattern": "^(a|a)*(a|aa)*(a*)*b$"},
    "large classes": {"type": "string", "pattern": "^(\\\\w|[^a]|.){0,500}[\\\\w ]{0,500}x$"},
    "many items": {"type": "array", "items": {"type": "string"}, "minItems": 10**8},
    "many properties": {"type": "object", "properties": {f"key{n}": {"type": "string"} for n in range(1000)}},
    "chain of references": {
        "$defs": {f"a{n}": {"items": {"$ref": f"#/$defs/a{n + 1}"}} for n in range(1400)}
        | {"a1400": {"type": "string"}},
        "$ref": "#/$defs/a0",
    },
    "long texts": {"type": "string", "minLength": 60_000, "maxLength": 60_001},
}
DASHES, BRACKETS, SPACES = "-" * 200, "[" * 200, " " * 200
GRAMMARS: dict[str, str] = {
    "twice the next": "root ::= a0\n" + "".join(f"a{n} ::= a{n + 1} | a{n + 1}\n" for n in range(60)) + 'a60 ::= "-"',
    "twice as long": "".join(f"a{n} ::= a{n + 1} a{n + 1}\n" for n in range(60)) + 'a60 ::= "-"\nroot ::= a0',
    "left recursion": 'root ::= root "-" | "-"',
    "hidden left recursion": 'root ::= e root "x" | "-"\ne ::= f\nf ::= ""',
    "only itself": "root ::= root",
    "empty forever": 'root ::= (""*)*',
    "many ways": 'root ::= s\ns ::= "-" s "a" | "-" s "b" | "c"',
    "many ways in brackets": 'root ::= s\ns ::= "[" s "]" | "[" s ")" | ""',
    "many ways in spaces": 'root ::= (" " | " " | "  ")* "x"',
    "optional": "root ::= " + " ".join(['"-"?'] * 1000) + ' "x"',
    "repeated repeats": 'root ::= (("-"{2000}){2000}){2000}',
    "optional repeats": 'root ::= (("-"{0,2000}){0,2000}){0,2000} "x"',
    "stars": 'root ::= (((("-"*)*)*)*)* "x"',
    "palindrome": 'root ::= "-" root "-" | [^-] | ""',
    "long rule": "root ::= " + '"-" ' * 16_000,
    "groups in rules": "".join(f"a{n} ::= {'(' * 40}a{n + 1}{')?' * 40}\n" for n in range(400))
    + 'a400 ::= "-"\nroot ::= a0',
    "many rules": "".join(f"a{n} ::= a{n + 1}\n" for n in range(3_000)) + 'a3000 ::= "-"\nroot ::= a0',
}


@pytest.fixture(scope="module")
def vocabulary(smollm2: Path) -> Vocabulary:
    return Vocabulary(Model(smollm2, vocab_only=True))


def _follow(grammar: Grammar, vocabulary: Vocabulary) -> None:
    """Take the longest tokens that the grammar allows, and ask what is allowed before each."""
    by_size = sorted(range(vocabulary.n_tokens), key=lambda token: -len(vocabulary.piece(token)))
    tokens = [vocabulary.tokenize(text, special=False)[0] for text in (DASHES, BRACKETS, SPACES)] + by_size[:200]
    state = GrammarState(grammar, vocabulary)
    for _ in range(_STEPS):
        allowed = state.allowed().tolist()
        token = next((token for token in tokens if state.allows(token)), allowed[0])
        if vocabulary.ends(token):
            return
        state.accept(token)


def _refusal(make: Callable[[], Grammar], vocabulary: Vocabulary) -> str:
    """Why a grammar is refused, at once or at a token; empty if it can be followed."""
    try:
        _follow(make(), vocabulary)
    except AtvError as error:
        return str(error)
    return ""


def _is_short(message: str) -> bool:
    return "\n" not in message and len(message) < 300


@pytest.mark.parametrize("schema", REFUSED_SCHEMAS.values(), ids=REFUSED_SCHEMAS.keys())
def test_a_schema_that_cannot_be_kept_is_refused(schema: Schema, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError) as caught:
        Grammar.of_schema(schema)
    assert "`schema`" in str(caught.value)
    assert _is_short(str(caught.value))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_a_hostile_schema_is_matched_within_bounds(
    schema: Schema, vocabulary: Vocabulary, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _is_short(_refusal(lambda: Grammar.of_schema(schema), vocabulary))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", GRAMMARS.values(), ids=GRAMMARS.keys())
def test_a_hostile_grammar_is_matched_within_bounds(
    text: str, vocabulary: Vocabulary, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _is_short(_refusal(lambda: Grammar.of_gbnf(text), vocabulary))
    assert capfd.readouterr() == ("", "")


def test_control_tokens_are_no_text(vocabulary: Vocabulary) -> None:
    """Or an answer could begin another turn, and its text would lack what the grammar has counted."""
    state = GrammarState(Grammar.of_gbnf("root ::= .*"), vocabulary)
    (begins,) = vocabulary.tokenize("<|im_start|>", special=True, bos=False)
    assert not state.allows(begins)
    assert begins not in state.allowed()
    assert state.allows(vocabulary.eos)


def test_what_a_schema_says_is_text_and_never_a_rule(vocabulary: Vocabulary) -> None:
    """Quotes, backslashes and line breaks in names and values end no literal."""
    value = 'a" | "b\\\nroot ::= .'
    state = GrammarState(Grammar.of_schema({"const": {value: value}}), vocabulary)
    for token in vocabulary.tokenize(json.dumps({value: value}), special=False):
        assert state.allows(token)
        state.accept(token)
    assert state.allows(vocabulary.eos)
