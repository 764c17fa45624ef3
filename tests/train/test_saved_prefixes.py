"""Evaluated prompts that a later run over the same rows finds, and what prompts begin with alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from atv_local.errors import UsageError
from atv_train import training_parts
from atv_train.frozen_target import (
    PrefixCache,
    SavedPrefixes,
    plan_prefixes,
    prefix_bytes,
    saved_prefixes,
    shared_heads,
)
from atv_train.frozen_target.weights import load_target
from atv_train.job import TrainingJob
from atv_train.plan import TrainingPlan
from atv_train.run_folder import WEIGHTS
from atv_train.training_run import TrainingHooks, run_training

prefixes_of = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=30).map(tuple), min_size=1, max_size=12)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where prefixes are saved."""
    folder = tmp_path / "prefixes"
    monkeypatch.setattr(training_parts, "default_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_prefixes, "_SHARD", 20_000)


def run(job: TrainingJob, output: Path) -> tuple[int, TrainingPlan, bytes]:
    """Tokens of prefixes that were evaluated, the plan, and the weights."""
    plans: list[TrainingPlan] = []
    done = [0]
    run_training(job, output, TrainingHooks(on_plan=plans.append, on_prepared=lambda tokens, _: done.append(tokens)))
    return done[-1], plans[0], (output / "checkpoint" / WEIGHTS).read_bytes()


def test_a_second_run_evaluates_no_prompt_again(
    job: TrainingJob, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated, plan, weights = run(job, tmp_path / "first")
    assert (evaluated > 0, plan.prefixes.saved) == (True, False)
    (saved,) = folder.iterdir()
    assert len([*saved.iterdir()]) > 1
    found: list[bool] = []

    def looked_up(saved: SavedPrefixes, head: tuple[int, ...]) -> torch.Tensor | None:
        states = saved_head(saved, head)
        found.append(states is not None)
        return states

    saved_head = SavedPrefixes.head
    monkeypatch.setattr(SavedPrefixes, "head", looked_up)
    again, plan, same = run(job, tmp_path / "second")
    assert found
    assert all(found)  # nor what prompts begin with alike
    assert (again, plan.prefixes.saved) == (0, True)
    assert same == weights
    without = run(replace(job, keep_prefixes=False), tmp_path / "without")
    assert (without[0], without[2]) == (evaluated, weights)


def test_other_rows_and_types_are_evaluated(job: TrainingJob, folder: Path, tmp_path: Path) -> None:
    job = replace(job, dtype="bfloat16")
    run(job, tmp_path / "first")
    assert run(replace(job, dtype="float32"), tmp_path / "other")[0] > 0
    fewer = tmp_path / "fewer.jsonl"
    fewer.write_text("".join(job.data[0].read_text().splitlines(keepends=True)[:-2]))
    assert run(replace(job, data=[fewer]), tmp_path / "fewer")[0] > 0
    assert len([*folder.iterdir()]) == 3


def test_a_damaged_file_is_replaced(job: TrainingJob, folder: Path, tmp_path: Path) -> None:
    evaluated, _, weights = run(job, tmp_path / "first")
    (saved,) = folder.iterdir()
    file = sorted(saved.iterdir())[0]
    file.write_bytes(file.read_bytes()[:40])
    assert run(job, tmp_path / "second")[::2] == (evaluated, weights)
    assert run(job, tmp_path / "third")[0] == 0


def test_what_is_not_used_for_longest_makes_room(
    job: TrainingJob, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(job, dtype="bfloat16")
    needed = run(job, tmp_path / "first")[1].prefixes.needed
    (first,) = folder.iterdir()
    monkeypatch.setattr(saved_prefixes, "MOST_BYTES", int(2.5 * needed))
    run(replace(job, dtype="float32"), tmp_path / "whole")
    assert first not in folder.iterdir()
    monkeypatch.setattr(saved_prefixes, "MOST_BYTES", needed // 4)
    assert run(job, tmp_path / "large")[0] > 0
    assert len([*folder.iterdir()]) == 1


def test_nothing_is_saved_of_a_run_that_is_stopped(job: TrainingJob, folder: Path, tmp_path: Path) -> None:
    begun: list[int] = []
    hooks = TrainingHooks(on_prepared=lambda tokens, _: begun.append(tokens), stopped=lambda: bool(begun))
    run_training(job, tmp_path / "out", hooks)
    assert begun
    assert not [*folder.iterdir()]


def test_a_folder_that_cannot_be_written_does_not_stop_training(job: TrainingJob, folder: Path, tmp_path: Path) -> None:
    folder.write_text("a file")
    assert run(job, tmp_path / "out")[0] > 0


def test_a_tensor_that_is_not_there_is_not_invented(tmp_path: Path) -> None:
    saved = SavedPrefixes(tmp_path, "target", {(1, 2): (), (1, 3): ()}, 1000)
    saved.add((1, 2), torch.ones(1))
    saved.finish()
    assert not [*tmp_path.iterdir()]
    assert saved.get((1, 2)) is None
    assert (1, 2) not in saved


@given(prefixes_of)
def test_heads_are_shared_beginnings(prefixes: list[tuple[int, ...]]) -> None:
    heads = shared_heads(prefixes)
    assert heads.keys() == set(prefixes)
    for prefix, head in heads.items():
        assert len(head) < len(prefix)
        assert prefix[: len(head)] == head
    alone = sum(map(len, set(prefixes)))
    assert sum(map(len, set(heads.values()))) + sum(len(p) - len(h) for p, h in heads.items()) <= alone


def test_an_instruction_is_stored_once(tiny_gguf: Path) -> None:
    model = load_target(tiny_gguf, torch.float32, torch.device("cpu"))
    template, first, second = (*range(10),), (*range(20, 60),), (*range(60, 100),)
    prefixes = [(*template, *said, 100 + n) for said in (first, second) for n in range(20)]
    heads = shared_heads(prefixes)
    assert set(heads.values()) == {(*template, *first), (*template, *second)}
    whole = prefix_bytes(model, dict.fromkeys(prefixes, ()))
    assert prefix_bytes(model, heads) < whole / 10


def test_a_cache_gives_a_prefix_with_its_head() -> None:
    prefix, head = (1, 2, 3), (1, 2)
    cache = PrefixCache(1 << 20, heads={prefix: head})
    states = torch.arange(24, dtype=torch.float32).reshape(1, 2, 1, 3, 4)
    assert cache.add_head(head, states[:, :, :, :2])
    assert cache.add(prefix, states[:, :, :, 2:])
    found = cache.get(prefix)
    assert found is not None
    assert torch.equal(found, states)


def test_a_run_of_an_earlier_version_that_stored_more_is_resumed(tmp_path: Path) -> None:
    """It stored what prompts begin with alike more than once, so it had cached more than is needed now."""
    budget = plan_prefixes(1000, torch.device("cpu"), tmp_path, wanted=5000)
    assert (budget.needed, budget.cached) == (1000, 1000)
    with pytest.raises(UsageError, match="free some"):
        plan_prefixes(1 << 60, torch.device("cpu"), tmp_path, wanted=1 << 60)
