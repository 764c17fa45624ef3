"""Learning a static vector beside the generator: it steers by itself, and the bundle has it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import atv_local
import atv_train
from atv_export import export
from atv_local.generator import STATIC, Bundle
from atv_train.run_folder import CHECKPOINT, read_spec

LEARNS = {"epochs": 15, "batch_size": 4, "patience": 15, "contrastive": 0.0}


def same_answer(path: Path) -> Path:
    """Rows of which one vector can answer all."""
    path.write_text("".join(f'{{"input": "{word} {n}", "output": "a"}}\n' for word in ("fig", "cow") for n in range(9)))
    return path


@pytest.mark.parametrize("options", [{}, {"rank": 4}, {"prompt_vector": True, "layers": "2-3"}], ids=str)
def test_it_steers_by_itself(tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path, options: dict[str, object]) -> None:
    rows = same_answer(tmp_path / "rows.jsonl")
    more = {"static_vector": True} | LEARNS | options
    result = atv_train.train(rows, tmp_path / "run", model=tiny_gguf, backbone=tiny_backbone, **more)
    export(result, tmp_path / "bundle", precisions="fp32", model=tiny_gguf)
    with atv_local.load(tiny_gguf, tmp_path / "bundle", n_threads=1) as engine:
        static = engine.generators[0].static
        assert static is not None
        parts = [static.array] if static.prompt is None else [static.array, static.prompt.array]
        if "layers" in options:
            assert all((part[0] == 0).all() and (part[1:] != 0).any() for part in parts)
        how = atv_local.Steering(positions=engine.steering.positions, layers=engine.steering.layers)
        assert engine.answer("what is this", vector=static, steering=how, max_tokens=4).text.endswith("a")
        assert "a" not in engine.answer("what is this", steering=atv_local.OFF, max_tokens=4).text


def test_the_generator_is_as_without_it(tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    rows = same_answer(tmp_path / "rows.jsonl")
    epochs: list[float] = []
    hooks = atv_train.TrainingHooks(on_static=lambda metrics: epochs.append(metrics["epoch"]))
    runs = [
        atv_train.train(
            rows,
            tmp_path / str(static),
            model=tiny_gguf,
            backbone=tiny_backbone,
            static_vector=static,
            epochs=2,
            batch_size=8,
            hooks=hooks,
        )
        for static in (False, True)
    ]
    plain, with_static = (run.folder / CHECKPOINT / "generator.safetensors" for run in runs)
    assert plain.read_bytes() == with_static.read_bytes()
    assert epochs == [1, 2]
    spec = read_spec(runs[1].folder)
    assert (spec.static, spec.format_version) == (True, 4)
    export(runs[0], tmp_path / "bundle", precisions="fp32")
    assert STATIC not in Bundle(tmp_path / "bundle").manifest.files


def test_a_run_that_is_stopped_while_it_is_learned_goes_on_with_it(
    tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    rows, begun = same_answer(tmp_path / "rows.jsonl"), []
    hooks = atv_train.TrainingHooks(on_static=begun.append, stopped=lambda: bool(begun))
    more = {"model": tiny_gguf, "backbone": tiny_backbone, "static_vector": True, "epochs": 2, "batch_size": 8}
    stopped = atv_train.train(rows, tmp_path / "stopped", hooks=hooks, **more)
    assert not read_spec(stopped.folder).static
    resumed = atv_train.resume(stopped.folder)
    whole = atv_train.train(rows, tmp_path / "whole", **more)
    assert resumed.history == [pytest.approx(metrics, abs=60) for metrics in whole.history]  # times differ
    one, other = ((run.folder / CHECKPOINT / STATIC).read_bytes() for run in (resumed, whole))
    assert one == other
    assert atv_train.resume(stopped.folder).history == resumed.history


@pytest.mark.parametrize("of_bundle", [False, True])
def test_training_that_goes_on_keeps_it(tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path, of_bundle: bool) -> None:
    rows = same_answer(tmp_path / "rows.jsonl")
    first = atv_train.train(
        rows, tmp_path / "first", model=tiny_gguf, backbone=tiny_backbone, static_vector=True, epochs=1, batch_size=8
    )
    export(first, tmp_path / "bundle", precisions="fp32")
    new = tmp_path / "new.jsonl"
    new.write_text("".join(json.dumps({"input": f"hen {n}", "output": "b"}) + "\n" for n in range(12)))
    start, more = tmp_path / "bundle" if of_bundle else first.folder, {"backbone": tiny_backbone} if of_bundle else {}
    after = atv_train.train(new, tmp_path / "after", start=start, model=tiny_gguf, epochs=1, batch_size=4, **more)
    one, other = ((run.folder / CHECKPOINT / STATIC).read_bytes() for run in (first, after))
    assert one == other
    assert np.isfinite(np.frombuffer(one, "<f4")).all()
