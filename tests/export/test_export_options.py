"""Options of an export that are refused before anything is read."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from atv_export.export_bundle import export
from atv_local.errors import UsageError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("precisions", value) for value in (None, 8, ["int4"], {"int8": 1}, [8])),
        *(("processor", "abacus"), ("processor", None), ("pooling", "max"), ("layer0", "keep"), ("positions", "first")),
        *(("queries", "hi"), ("queries", None), ("queries", [1]), ("through", 1), ("through", "no"), ("overwrite", 1)),
        *(("output", ""), ("checkpoint", None), ("card", 1), ("model", ""), ("backbone", True)),
    ],
)
def test_a_value_that_does_not_fit_is_named(tmp_path: Path, name: str, value: object) -> None:
    options: dict[str, Any] = {"checkpoint": tmp_path, "output": tmp_path / "bundle", name: value}
    with pytest.raises(UsageError, match=f"^`{name}` {re.escape(repr(value))} is not "):
        export(**options)


@pytest.mark.parametrize("name", inspect.signature(export).parameters)
def test_no_option_takes_just_any_value(tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"checkpoint": tmp_path, "output": tmp_path / "bundle", name: object()}
    with pytest.raises(UsageError, match=f"^`{name}` <object .* is not "):
        export(**options)
