"""Here every file is tried in a process of its own, as outside of the tests."""

from __future__ import annotations

import pytest

from atv_local.generator.first_run import check_runnable
from atv_local.target.first_load import check_loadable


@pytest.fixture(autouse=True)
def _trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atv_local.target.model.check_loadable", check_loadable)
    monkeypatch.setattr("atv_local.generator.generator.check_runnable", check_runnable)
