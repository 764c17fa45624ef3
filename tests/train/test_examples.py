"""What training reads in which order: wordings, epochs, what is held out, kept prefixes, unrelated queries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atv_local.data.rows import Row
from atv_local.data.unrelated_queries import read_unrelated_queries
from atv_local.errors import DataError
from atv_local.target.target_file import TargetFile
from atv_train.examples import Example, Wordings, encode, epoch_batches
from atv_train.frozen_target.prefix_cache import PrefixCache
from atv_train.job import TrainingJob
from atv_train.training_data import hold_out, read_training_data


def test_wordings_are_what_generator_and_target_read(tiny_gguf: Path) -> None:
    target_file = TargetFile.open(tiny_gguf)
    rows = [Row(input="fig", output="a", task="kinds"), Row(input="cat", output="b", task="other")]
    worded = Wordings({"kinds": ["is {input} a fruit", "{input}?"], "*": ["say {input}"]})
    encoded = encode(rows, target_file.prompts, 512, worded)
    assert [[e.query for e in row] for row in encoded.rows] == [["is fig a fruit", "fig?"], ["say cat"]]
    assert "is fig a fruit" in target_file.vocabulary.text(encoded.rows[0][0].prompt)
    drawn = {e.query for epoch in range(20) for batch in epoch_batches(encoded.rows, 2, 0, epoch) for e in batch}
    assert drawn == {"is fig a fruit", "fig?", "say cat"}


@given(
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=40),
    size=st.integers(1, 9),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
def test_an_epoch_takes_every_row_once(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    rows = [[Example(n, str(n), "", tuple(range(length)), (1, 2))] for n, length in enumerate(lengths)]
    batches = epoch_batches(rows, size, seed, epoch)
    assert sorted(example.index for batch in batches for example in batch) == list(range(len(rows)))
    assert all(len(batch) <= size for batch in batches)
    assert batches == epoch_batches(rows, size, seed, epoch)


@given(texts=st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=60), seed=st.integers(0, 9))
def test_a_held_out_input_is_never_trained_on(texts: list[str], seed: int) -> None:
    rows = [Row(input=text, output=str(n % 2), task="t") for n, text in enumerate(texts)]
    train, valid = hold_out(rows, seed)
    assert len(train) + len(valid) == len(rows)
    assert {row.input for row in train}.isdisjoint(row.input for row in valid)
    assert train
    assert bool(valid) == (len(set(texts)) > 1)


def test_tasks_that_share_their_inputs_share_what_is_held_out() -> None:
    rows = [Row(input=str(n), output="x", task=f"t{task}") for task in range(10) for n in range(200)]
    assert len(hold_out(rows, 0)[1]) == 200


@given(sizes=st.lists(st.integers(1, 9), max_size=12), memory=st.integers(0, 400), disk=st.integers(0, 400))
def test_a_store_gives_back_what_it_took(sizes: list[int], memory: int, disk: int) -> None:
    store, other = PrefixCache(memory, disk), PrefixCache(0, memory + disk)
    kept = {}
    for n, size in enumerate(sizes):
        part = torch.full((2, size), float(n), dtype=torch.bfloat16)
        added = store.add((n,), part)
        assert other.add((n,), part) == added  # only the sum of the two decides
        if added:
            kept[(n,)] = part
    assert sum(part.numel() * 2 for part in kept.values()) <= memory + disk
    assert len(store) == len(kept)
    for prefix, part in kept.items():
        found = store.get(prefix)
        assert found is not None
        assert torch.equal(found, part)
    assert store.get((99,)) is None


def test_unrelated_queries_may_be_the_users_own(tmp_path: Path) -> None:
    assert len(read_unrelated_queries(None)) > 1000
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(f"query {n % 15}\n" for n in range(40)))
    assert read_unrelated_queries(file) == [f"query {n}" for n in range(15)]
    for content in (b"one\ntwo\n", b"\xff\xfe" * 40):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"mine\.txt"):
            read_unrelated_queries(file)


def test_a_system_message_and_earlier_turns_go_before_the_input(tiny_gguf: Path) -> None:
    prompts = TargetFile.open(tiny_gguf).prompts
    rows = [
        Row(input="fig", output="a", system="Be brief."),
        Row(input="fig", output="a", history=(("hi", "hello"),)),
        Row(input="fig", output="a"),
    ]
    with_system, with_history, bare = encode(rows, prompts, 512).first
    assert with_system.prompt == prompts.after(system="Be brief.")("fig").tokens
    assert with_history.prompt == prompts.after(turns=[("hi", "hello")])("fig").tokens
    assert bare.prompt == prompts("fig").tokens
    assert with_system.query == with_history.query == "fig"
    assert len({with_system.prompt, with_history.prompt, bare.prompt}) == 3


def test_bad_rows_of_training_and_validation_are_named_together(job: TrainingJob, tmp_path: Path) -> None:
    train, valid = tmp_path / "train.csv", tmp_path / "valid.csv"
    train.write_text("input,output,note\nfig,a,x\ncat,,\n")
    valid.write_text("input,output\n,a\nhen,b\n")
    prompts = TargetFile.open(job.model).prompts
    given = replace(job, data=[train], valid=[valid])
    with pytest.raises(DataError, match=r"train.csv:3: output.*valid.csv:2: input.*`skip_bad_rows=True`"):
        read_training_data(given, prompts)
    data = read_training_data(replace(given, skip_bad_rows=True), prompts)
    assert [row.input for row in (*data.rows, *data.valid_rows)] == ["fig", "hen"]
    warnings = "\n".join(data.warnings)
    assert "not read: 'note'" in warnings
    assert "2 bad rows left out" in warnings
