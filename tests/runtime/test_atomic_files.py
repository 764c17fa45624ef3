"""Outputs are whole or absent, and what was there before survives every failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from atv_local.data.atomic_files import replacing, replacing_folder
from atv_local.errors import UsageError


def write(folder: Path, text: str) -> None:
    with replacing_folder(folder, marker="marker") as temporary:
        (temporary / "marker").write_text(text)


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    write(tmp_path / "out", "one")
    write(tmp_path / "out", "two")
    assert (tmp_path / "out" / "marker").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("failing", [1, 2])
def test_an_interruption_between_the_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    write(tmp_path / "out", "one")
    rename, calls = Path.rename, []

    def interrupted(self: Path, to: Path) -> Path:
        calls.append(to)
        if len(calls) == failing:
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", "two")
    assert (tmp_path / "out" / "marker").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError), replacing(tmp_path / "file") as temporary:
        temporary.write_text(3)  # type: ignore[arg-type]  # the mistake under test
    full = pytest.raises(UsageError, match="disk full")
    with full, replacing_folder(tmp_path / "out", marker="x"):
        raise OSError(28, "disk full")
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    monkeypatch.chdir(tmp_path)
    for output in (
        tmp_path / "link",
        Path(),
        Path(".."),
        tmp_path / "file",
        tmp_path / "file" / "out",
        tmp_path / ("n" * 300),
    ):
        with pytest.raises(UsageError):
            write(output, "x")
    assert (tmp_path / "file").read_text() == "x"
