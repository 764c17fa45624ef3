"""Training from Python: the options of the command, checked before anything is loaded; one result."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import atv_local
import atv_train
from atv_export import export
from atv_local.errors import AtvError, BundleError, ModelError, NotFoundError, UsageError
from atv_local.target.model import Model
from atv_train.hub_models import first_sentence


def test_train_and_resume_give_a_result(
    tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_rows.parent)
    epochs: list[dict[str, float]] = []
    result = atv_train.train(
        tiny_rows.name,
        str(tmp_path / "run"),
        model=tiny_gguf,
        backbone=tiny_backbone,
        epochs=2,
        batch_size=8,
        positions="last",
        layers="2-3",
        columns={"input": "input"},
        templates={"*": ["kind of {input}"]},
        hooks=atv_train.TrainingHooks(on_epoch=epochs.append),
    )
    assert result.folder == tmp_path / "run"
    assert result.history == epochs
    assert result.metrics in epochs
    assert [metrics["epoch"] for metrics in epochs] == [1, 2]
    job = json.loads((tmp_path / "run" / "run.json").read_text())["job"]
    assert (job["data"], job["positions"], job["layers"]) == ([str(tiny_rows)], "last", [2, 3])
    monkeypatch.chdir(tmp_path)
    assert atv_train.resume("run").history == epochs


def test_two_vectors_for_a_query(tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path) -> None:
    """Trained, resumed, exported, verified in the target's logits, and answered with, alone and in a batch."""
    result = atv_train.train(
        tiny_rows,
        tmp_path / "run",
        model=tiny_gguf,
        backbone=tiny_backbone,
        epochs=2,
        batch_size=8,
        learning_rate=2e-2,
        layers="2-3",
        prompt_vector=True,
        baselines=True,
    )
    assert atv_train.resume(result.folder).history == result.history
    report = export(result, tmp_path / "bundle", model=tiny_gguf)
    assert report.manifest.format_version == 3  # with a gate
    assert len(report.graphs["fp32"].layers) == 6
    with atv_local.load(tiny_gguf, tmp_path / "bundle") as engine:
        assert engine.steering.positions == "all"
        vector = engine.vector("a pear")
        assert vector.prompt is not None
        assert vector.norms().nonzero()[0].tolist() == [1, 2]
        assert vector.prompt.norms().nonzero()[0].tolist() == [1]  # nothing reads a prompt token's last layer
        queries = ["a pear", "a dog"]
        alone = [engine.answer(query, max_tokens=6).text for query in queries]
        assert [answer.text for answer in engine.answer_many(queries, max_tokens=6)] == alone


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"epochs": -1}, "epochs"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"patience": 0}, "patience"),
        ({"seed": 1 << 32}, "seed"),
        ({"rank": 0}, "rank"),
        ({"max_row_tokens": 3}, "max_row_tokens"),
        ({"tuning": "some"}, "tuning"),
        ({"layers": "9-3"}, "layers` 9-3"),
        ({"layers": (1, 40)}, "layers` 1-40.* 1 to 3"),
        ({"positions": "nowhere"}, "positions"),
        ({"positions": "decode", "prompt_vector": True}, "prompt_vector"),
        ({"strength_range": (2.0, 1.0)}, "strength_range` 2 to 1"),
        ({"strength_range": (0.0, 20.0)}, "strength_range` 0 to 20 is not within 0 to 10"),
        ({"strength_range": (0.0, float("nan"))}, "strength_range` 0 to nan"),
        ({"unrelated": "queries.txt", "contrastive": 0}, "harmless"),
        ({"scale": 0}, "scale"),
        ({"cache": float("inf")}, "cache"),
        ({"cache": 1e300}, "cache"),
        ({"cache": "x"}, "cache"),
        ({"data": []}, "data"),
        ({"data": ""}, "data"),
        ({"strength_range": 1.0}, "strength_range"),
        ({"strength_range": ("a", "b")}, "strength_range"),
        ({"strength_range": (1.0,)}, "strength_range"),
        ({"strength_range": "12"}, "strength_range"),
        ({"columns": "input=x"}, "columns"),
        ({"columns": None}, "columns"),
        ({"layers": (3, 2)}, "layers"),
        ({"epochs": True}, "epochs"),
        ({"batch_size": "8"}, "batch_size"),
        ({"hold_out": "no"}, "hold_out"),
        ({"rank": 1 << 40}, "rank"),
        ({"hooks": print}, "hooks"),
    ],
)
def test_an_option_out_of_its_range_is_named(
    tiny_gguf: Path, tiny_rows: Path, tmp_path: Path, options: dict[str, Any], name: str
) -> None:
    with pytest.raises(UsageError, match=f"`{name}"):
        atv_train.train(**{"data": tiny_rows, "output": tmp_path / "run", "model": tiny_gguf} | options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", inspect.signature(atv_train.train).parameters)
def test_no_option_takes_just_any_value(tiny_rows: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"^`{name}` <object .* is not "):
        atv_train.train(**{"data": tiny_rows, "output": tmp_path / "run", name: object()})


def test_the_result_has_warnings_and_baselines(tiny_gguf: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    rows = [{"input": f"{word} {n}", "output": word} for n in range(4) for word in ("a", "b")]
    rows += [{"input": "a 1", "output": "b"}, {"input": "long " * 200, "output": "a"}]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    measured: dict[str, dict[str, float]] = {}
    result = atv_train.train(
        data,
        tmp_path / "run",
        model=tiny_gguf,
        backbone=tiny_backbone,
        epochs=1,
        max_row_tokens=64,
        baselines=True,
        hooks=atv_train.TrainingHooks(on_baseline=measured.__setitem__),
    )
    assert any("1 row is left out" in warning for warning in result.warnings)
    assert any("'a 1'" in warning for warning in result.warnings)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["warnings"] == result.warnings
    assert result.baselines == measured != {}
    with pytest.raises(UsageError, match="precisions"):
        export(result, tmp_path / "bundle", precisions="int4")
    with pytest.raises(NotFoundError, match="elsewhere"):
        export(replace(result, folder=tmp_path / "elsewhere"), tmp_path / "bundle")
    again = atv_train.resume(tmp_path / "run")
    assert (again.warnings, again.baselines) == (result.warnings, measured)
    (tmp_path / "run" / "baselines" / "metrics.json").write_text("[]")
    with pytest.raises(BundleError, match=r"metrics\.json is damaged"):
        atv_train.resume(tmp_path / "run")


def test_a_template_of_a_task_that_the_data_does_not_have_is_refused(
    tiny_gguf: Path, tiny_rows: Path, tmp_path: Path
) -> None:
    templates = {"*": ["say {input}"], "zzz": ["{input}"]}
    with pytest.raises(UsageError, match=f"`templates` names the task 'zzz'; the tasks are {tiny_rows.stem}"):
        atv_train.train(tiny_rows, tmp_path / "run", model=tiny_gguf, templates=templates)


@pytest.mark.parametrize("templates", [{}, {"*": []}, {"*": "say {input}"}, {"*": ["no place"]}, ["{input}"]])
def test_templates_of_another_form_are_refused(
    tiny_gguf: Path, tiny_rows: Path, tmp_path: Path, templates: Any
) -> None:
    with pytest.raises(AtvError, match=r"`templates`.*(\{input\}|no wording|empty)"):
        atv_train.train(tiny_rows, tmp_path / "run", model=tiny_gguf, templates=templates)


@pytest.mark.parametrize("option", ["weights", "backbone"])
def test_a_model_that_cannot_be_loaded_is_one_sentence(
    tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unknown").mkdir()
    (tmp_path / "unknown" / "config.json").write_text('{"model_type": "zzz"}')
    for name, kind in (
        ("missing/x/y", NotFoundError),
        (tmp_path / "missing", NotFoundError),
        (tiny_rows, UsageError),
        (tmp_path / "empty", ModelError),
        (tmp_path / "unknown", ModelError),
    ):
        options: dict[str, Any] = {"model": tiny_gguf, "backbone": tiny_backbone} | {option: name}
        with pytest.raises(kind) as refused:
            atv_train.train(tiny_rows, tmp_path / "run", **options)
        message = str(refused.value)
        assert str(name) in message
        assert message.endswith(f"; name a model folder or a hub id with `{option}=...`")
        assert ". " not in message


def test_a_long_reason_ends_at_a_word() -> None:
    assert first_sentence(OSError("No such thing. Install it from a.b")) == "No such thing"
    assert first_sentence(OSError("words " * 100)).endswith("words ...")
    assert first_sentence(KeyError()) == "KeyError"


def test_there_must_be_a_run_to_resume(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        atv_train.resume(tmp_path / "nothing")


def test_the_gguf_is_opened_once_for_its_metadata_and_once_with_its_weights(
    tiny_gguf: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    load = Model.__init__

    def counted(self: Model, path: Path, **options: Any) -> None:
        opened.append(bool(options.get("vocab_only")))
        load(self, path, **options)

    monkeypatch.setattr(Model, "__init__", counted)
    atv_train.train(tiny_rows, tmp_path / "run", model=tiny_gguf, backbone=tiny_backbone, epochs=1, batch_size=8)
    assert sorted(opened) == [False, True]
