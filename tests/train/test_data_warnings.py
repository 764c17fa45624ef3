"""Warnings about rows: leaks, contradictions, repeats, labels; short sentences that name an example."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atv_local.data.rows import Row
from atv_train.examples.data_warnings import MAX_SENTENCES, find_warnings

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


def some(number: int, output: str = "", task: str = "t", text: str = "query") -> list[Row]:
    """Rows with inputs of their own, told apart by output and number."""
    return [Row(input=f"{text} {output} {n}", output=output or f"{text} {n}", task=task) for n in range(number)]


def only(train: Sequence[Row], valid: Sequence[Row] = ()) -> str:
    found = find_warnings(train, valid)
    assert len(found) == 1, found
    return found[0]


def test_rows_without_a_flaw_are_passed_over() -> None:
    assert find_warnings([], []) == []
    train = some(20, "a") + some(20, "b") + some(20, task="free")
    assert find_warnings(train, some(5, "a", text="other") + some(5, task="free", text="other")) == []


@pytest.mark.parametrize(
    ("numbers", "unbalanced"),
    [((80, 20), False), ((81, 19), True), ((30, 30, 4), False), ((30, 30, 3), True), ((6, 1), None)],
)
def test_unbalanced_labels(numbers: tuple[int, ...], unbalanced: bool | None) -> None:
    train = [row for label, number in zip("abc", numbers, strict=False) for row in some(number, label)]
    said = [text for text in find_warnings(train, []) if "rare" in text]
    assert bool(said) is bool(unbalanced)
    if unbalanced:
        assert f"of {sum(numbers)} training rows of the task 't', {numbers[0]} have" in said[0]
        assert f"'a' and {numbers[-1]} '{'abc'[len(numbers) - 1]}'" in said[0]


def test_one_label_for_everything() -> None:
    assert only(some(8, "a")).startswith("all 8 training rows of the task 't' have the output 'a'")


def test_texts_that_are_no_labels_are_not_weighed() -> None:
    assert find_warnings(some(60) + some(20, "sorry"), some(9, text="other")) == []
    many = [row for n in range(257) for row in some(20 if n else 1, f"answer {n}")]
    assert find_warnings(many, []) == []
    assert "rare" in only(many[:-20])


def test_repeated_rows() -> None:
    train = some(10, "a") + some(10, "b")
    assert "repeats 3 of its 23 rows, such as 'query a 1'" in only([*train, train[1], train[1], train[2]])


@pytest.mark.parametrize("task", ["t", "another"])
def test_inputs_with_several_outputs(task: str) -> None:
    """Of whichever task: the generator sees the query only."""
    train = some(10, "a") + some(10, "b") + some(10, "a", task, "more") + some(9, "b", task, "more")
    twisted = Row(input="query a 1", output="b", task=task)
    assert "more than one output to 1 of 39 inputs, such as 'query a 1' with 'a' and 'b'" in only([*train, twisted])


def test_one_text_task_may_word_an_answer_in_several_ways() -> None:
    """Across tasks it may not: the vector for an input is one."""
    train = some(20)
    again = Row(input=train[0].input, output="the same in other words", task="t")
    assert find_warnings([*train, again], []) == []
    other = some(8, task="another", text="others")
    torn = Row(input=train[0].input, output="quite another thing", task="another")
    assert "more than one output to 1 of 28 inputs" in only([*train, *other, torn])


def test_outputs_that_outweigh_the_others_of_their_task() -> None:
    long = [Row(input="essay", output="word " * 100, task="t")]
    assert "1 of 21 training outputs of the task 't'" in only([*some(20), *long])
    assert find_warnings([*some(200), *long], []) == []  # they are a small part of it
    assert "fewer than" in only([*some(4), *long])


def test_rows_of_validation_that_are_trained_on() -> None:
    train = some(10, "a") + some(10, "b")
    valid = [Row(input=" QUERY  a\n3", output="a", task="t"), *some(4, "b", text="other")]
    assert "the inputs of 1 of 5 validation rows too, such as ' QUERY  a\\n3'" in only(train, valid)


def test_labels_that_only_validation_has() -> None:
    train = some(10, "a") + some(10, "b")
    valid = some(3, "a", text="other") + some(2, "c")
    assert "lacks the outputs of 2 of 5 validation rows of the task 't', such as 'c'" in only(train, valid)


def test_tasks_that_only_validation_has() -> None:
    train = some(10, "a") + some(10, "b")
    valid = some(3, "a", text="other") + some(3, "a", "u", "different")
    assert "no rows for 1 of 2 validation tasks, such as 'u'" in only(train, valid)


def test_tasks_of_a_few_rows() -> None:
    train = some(8, task="enough") + some(7, task="small", text="other")
    assert "fewer than 8 rows for 1 of 2 tasks, such as 'small' with 7" in only(train)
    assert find_warnings(train, [], {"small"}) == []  # earlier rows of it are trained on too


def test_much_to_say_is_summed_up() -> None:
    train = [row for n in range(30) for row in some(8, "a", f"task {n:02}", f"text {n}")]
    found = find_warnings([*train, train[0]], [])
    assert len(found) == MAX_SENTENCES
    assert "repeats 1 of" in found[0]
    assert "'task 09'" in found[-2]
    assert found[-1].startswith("20 more ")


@given(texts, texts, texts)
def test_what_is_said_is_short_and_printable(text: str, output: str, task: str) -> None:
    task = task[:200]
    train = [Row(input=text, output=answer, task=task) for answer in (output, output + "!", output)]
    valid = [*train, Row(input=text, output=output * 2 + "?", task=task), Row(input=text, output=output, task="")]
    found = find_warnings(train * 20, valid)
    assert len(found) >= 4
    for sentence in found:
        assert sentence.isprintable()
        assert len(sentence) < 400


def test_an_example_is_cut_at_40_characters() -> None:
    for text, shown in (("x" * 40, "x" * 40), ("x" * 41, "x" * 39 + "…"), ("\x1b[31m", "\\x1b[31m")):
        assert f"such as '{shown}'" in find_warnings([Row(input=text, output="y")] * 2, [])[0]


def test_inputs_that_differ_in_case_are_no_leak_where_case_decides() -> None:
    train = [*some(8, "calm"), *some(8, "loud", text="SAY")]
    rows = [Row(input=row.input.swapcase(), output=row.output, task="t") for row in train]
    other = [Row(input=row.input, output={"calm": "loud", "loud": "calm"}[row.output], task="t") for row in rows]
    assert "16 of 16" in only(train, rows)
    assert find_warnings(train, other) == []


def test_inputs_that_differ_in_spaces_contradict_each_other() -> None:
    other = [Row(input=" query  a 1", output="b", task="t")]
    assert "more than one output to 1 of 40 inputs" in only(some(20, "a") + some(20, "b") + other)
    apart = [Row(input="query a 1", output="b", task="t", system="Say b.")]
    assert "more than one output" not in only(some(20, "a") + some(20, "b") + apart)


def test_labels_that_differ_in_writing_are_shown() -> None:
    mixed = [row.model_copy(update={"output": "A."}) if n % 3 == 0 else row for n, row in enumerate(some(20, "a"))]
    assert "'a' (13) and 'A.' (7)" in only(mixed + some(20, "b"))


def test_spaces_around_outputs_are_named() -> None:
    assert "20 of 40 training outputs of the task 't' begin or end with a space" in only(some(20, " a") + some(20, "b"))


def test_what_is_decided_before_the_input_is_not_read() -> None:
    rows = [*some(10, "yes"), *some(10, "no")]
    asked = Row(input="is it late?", output="yes", task="t", system="the parcel is late")
    one, other = asked, asked.model_copy(update={"system": "the parcel is here", "output": "no"})
    assert "'is it late?' with 'yes' and 'no'" in only([*rows, one, other])
    assert find_warnings([*rows, one, other.model_copy(update={"output": "yes"})], []) == []
    later = one.model_copy(update={"history": (("hello", "hi"),), "output": "no"})
    assert "the generator reads the input alone" in only([*rows, one, later])


@pytest.mark.parametrize("tag", ["<think>", "\n<think>\n", "[THINK]", "<|begin_of_thought|>", "<seed:think>"])
def test_thoughts_before_answers_are_named(tag: str) -> None:
    rows = [*some(20, "a"), *some(20, "b"), *some(20, f"{tag}well</think>c")]
    assert "20 of 60 training outputs" in only(rows)
    assert find_warnings([*some(20, "thinking"), *some(20, "<thin>")], []) == []
