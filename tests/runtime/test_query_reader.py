"""What a generator reads of a query, with tokenizers of the families that backbones have."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from atv_local.generator import QueryReader, ReadingSummary, alike_rows
from tests.tiny.tokenizer import word_pieces

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def unigram() -> Tokenizer:
    """As XLM-RoBERTa and multilingual E5 have it: SentencePiece, cased, with Thai and an emoji."""
    vocabulary = [("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((letter, -3.0) for letter in f"▁{LETTERS}éฝน👍")]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    return tokenizer


def byte_level() -> Tokenizer:
    """As RoBERTa and ModernBERT have it: BPE over bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def reader(tokenizer: Tokenizer, limit: int = 64, template: str = "{query}") -> QueryReader:
    return QueryReader(tokenizer, template, limit)


@pytest.mark.parametrize("tokenizer", [word_pieces, unigram, byte_level])
@pytest.mark.parametrize("template", ["{query}", "query: {query}", "{query} 😀"])
def test_a_long_query_is_read_to_where_the_limit_is(tokenizer, template: str) -> None:  # type: ignore[no-untyped-def]
    read = reader(tokenizer(), 20, template).read
    long = "abc de " * 9
    reading = read(long)
    assert reading.cut
    assert len(reading.ids) == 20
    assert 0 < reading.length < reading.of == len(long)
    if template.endswith("{query}"):  # else the end of the template is cut as well, unless the query is short
        assert read(long[: reading.length]).ids == reading.ids
    short = read("abc")
    assert short.complete
    assert (short.length, short.of, short.as_field()) == (3, 3, {})


def test_what_is_unknown_is_said() -> None:
    for text, unknown in [("got it 👍", ("👍",)), ("ฝน", ("ฝน",)), ("ÉCOLE a", ()), ("a 😀 b 😡", ("😀", "😡"))]:
        assert reader(word_pieces()).read(text).unknown == unknown
        assert reader(byte_level()).read(text).unknown == ()
    assert reader(unigram()).read("ฝน 👍 É").unknown == ("É",)
    assert reader(unigram()).read("ฝน 👍 é").complete


def test_the_field_of_a_record() -> None:
    assert reader(word_pieces()).read("a 👍").as_field() == {"generator_read": {"chars": 3, "of": 3, "unknown": 1}}


def test_sentences_about_many_queries_count_and_show() -> None:
    read = reader(word_pieces(), 12).read
    queries = ["abc", "abc " * 10, "a 👍", "👎"]
    cut, unknown = ReadingSummary.of((query, read(query)) for query in queries).sentences(
        cut="DO THIS", unknown="OR THIS"
    )
    assert "12 tokens" in cut
    assert "1 of 4" in cut
    assert cut.endswith("DO THIS")
    assert "2 of 4" in unknown
    assert "'👍'" in unknown
    assert unknown.endswith("OR THIS")
    assert ReadingSummary.of([("abc", read("abc"))]).sentences() == []


def test_sentences_about_one_query() -> None:
    query = "abc " * 10
    read = reader(word_pieces(), 12).read
    (cut,) = ReadingSummary.of([(query, read(query))]).sentences()
    assert f"{read(query).length} of {len(query)} characters" in cut
    (unknown,) = ReadingSummary.of([("a 👍", read("a 👍"))]).sentences()
    assert "'👍'" in unknown


def alike(rows: list[tuple[str, str]], limit: int = 64) -> str:
    read = reader(word_pieces(), limit).read
    return alike_rows([(query, output, read(query)) for query, output in rows])


def test_rows_that_cannot_be_told_apart() -> None:
    assert "2 of 3 rows" in alike([("STOP", "loud"), ("stop", "calm"), ("go", "calm")])
    assert "2 of 2 rows" in alike([("ou", "or"), ("où", "where")])
    assert "2 of 2 rows" in alike([("got it 👍", "yes"), ("got it 👎", "no")])
    assert alike([("STOP", "calm"), ("stop", "calm"), ("a 👍", "yes")]) == ""
    assert alike([("stop", "calm"), ("stop", "loud")]) == ""  # a contradiction, whatever reads it


def test_rows_that_differ_behind_the_limit_are_shown_where_they_do() -> None:
    beginning = "the same words over and over " * 4
    sentence = alike([(f"{beginning}pay me", "refund"), (f"{beginning}post it", "shipping")], 16)
    assert "2 of 2 rows" in sentence
    assert "ay me' -> 'refund'" in sentence
    assert "ost it' -> 'shipping'" in sentence
