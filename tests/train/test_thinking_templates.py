"""Answers are trained behind a thinking block that the chat template opens, and answered there too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import atv_train
from atv_local.errors import UsageError
from atv_local.target.target_file import TargetFile
from tests.tiny import TEMPLATE, write_gguf

THINKS = TEMPLATE + "{{ style }}<think>\n"


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("thinker") / "thinker.gguf", template=THINKS)


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"style": "ab"}, {"style": "ab"}),
        ({"enable_thinking": True}, {"enable_thinking": True}),
    ],
)
def test_a_run_says_which_variables_it_used(
    thinker: Path, tiny_backbone: Path, tiny_rows: Path, tmp_path: Path, given: dict[str, Any], used: dict[str, Any]
) -> None:
    result = atv_train.train(
        tiny_rows,
        tmp_path / "run",
        model=thinker,
        backbone=tiny_backbone,
        tuning="frozen",
        epochs=1,
        hold_out=False,
        template_variables=given,
    )
    closes = "enable_thinking" not in given
    used = used | ({"enable_thinking": False} if closes else {})
    config = json.loads((tmp_path / "run" / "checkpoint" / "config.json").read_text())
    assert (config["format_version"], config["template_variables"]) == (2, used)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["job"]["template_variables"] == used
    assert any("thinking" in warning for warning in result.warnings) is closes
    assert TargetFile.open(thinker).prompts.with_variables(used).thinks is not closes


def test_a_variable_that_the_template_does_not_read_is_refused(thinker: Path, tiny_rows: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="style"):
        atv_train.train(tiny_rows, tmp_path / "run", model=thinker, template_variables={"styl": "ab"})
    assert not (tmp_path / "run").exists()
