"""A GGUF that would end, hang or fill the process is one sentence: its first load happens in another process."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atv_cli.main import app
from atv_local.data import try_file
from atv_local.data.trial import _verdict
from atv_local.errors import ModelError
from atv_local.target.first_load import check_loadable
from tests.hostile.ggufs import HEADERS, with_array_length, with_header

HARMLESS = {"token past the vocabulary"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", sorted(HEADERS.keys() - HARMLESS))
def test_a_header_is_one_sentence(tiny_gguf: Path, tmp_path: Path, name: str) -> None:
    path = with_header(tiny_gguf, tmp_path / "bad.gguf", name)
    run = CliRunner().invoke(app, ["run", "-m", str(path), "--off", "-n", "1", "a"])
    assert run.exit_code == 1, run.output
    assert len(run.stderr.strip().splitlines()) == 1
    assert str(path) in run.stderr


@pytest.mark.parametrize("length", [0, 1, 1 << 31, 1 << 62])
def test_an_array_of_another_length_is_refused(tiny_gguf: Path, tmp_path: Path, length: int) -> None:
    with pytest.raises(ModelError, match=r"bad\.gguf"):
        check_loadable(with_array_length(tiny_gguf, tmp_path / "bad.gguf", length))


def test_a_good_file_is_tried_once_until_it_changes(tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tiny_gguf.read_bytes())
    check_loadable(path)
    verdicts = list((tmp_path / "cache").rglob("tried/*"))
    assert len(verdicts) == 1
    check_loadable(path)
    assert list((tmp_path / "cache").rglob("tried/*")) == verdicts
    with_header(path, path, "no blocks")
    with pytest.raises(ModelError, match="SIGABRT"):
        check_loadable(path)


def test_a_bad_verdict_is_not_cached(tmp_path: Path) -> None:
    failure = try_file("atv_local.target.load_trial", tmp_path / "absent.gguf", key="x", size=0)
    assert failure is not None
    assert failure.explained
    assert "absent.gguf" in failure.reason
    assert not _verdict("atv_local.target.load_trial\nx").exists()


def test_limits_of_this_process_stay(tiny_gguf: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    check_loadable(tiny_gguf)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
