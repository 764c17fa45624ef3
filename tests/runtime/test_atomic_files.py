"""Outputs are whole or absent, and what was there before survives every failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atv_local.data import atomic_files
from atv_local.data.atomic_files import (
    _temporary_folder,
    check_replaceable,
    check_replaceable_file,
    holding,
    replacing,
    replacing_folder,
    restore,
)
from atv_local.errors import UsageError


def write(folder: Path, text: str) -> None:
    with replacing_folder(folder, marker="marker", overwrite=True) as temporary:
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

    monkeypatch.setattr(atomic_files, "exchange", lambda *_: False)
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


def ours(_: Path) -> bool:
    return True


def theirs(_: Path) -> bool:
    return False


def test_what_exists_is_not_replaced_unasked(tmp_path: Path) -> None:
    write(tmp_path / "out", "one")
    with pytest.raises(UsageError, match="overwrite=True"), replacing_folder(tmp_path / "out", marker="marker"):
        pass
    assert (tmp_path / "out" / "marker").read_text() == "one"
    (tmp_path / "file").write_text("ours")
    for is_ours, overwrite, words in ((True, False, "overwrite=True"), (False, True, "is not a text")):
        with pytest.raises(UsageError, match=words):
            check_replaceable_file(tmp_path / "file", ours if is_ours else theirs, "text", overwrite=overwrite)
    check_replaceable_file(tmp_path / "file", ours, "text", overwrite=True)


KILLED = """
import os, signal, sys
from pathlib import Path
from atv_local.data import atomic_files
where, exchanged = sys.argv[2], sys.argv[3] == "True"
def kill(*_): os.kill(os.getpid(), signal.SIGKILL)
if not exchanged:
    atomic_files.exchange = lambda *_: False
rename, calls = Path.rename, []
def counted(self, to):
    calls.append(to)
    return kill() if where == f"rename{len(calls)}" else rename(self, to)
Path.rename = counted
if where in ("sync", "sync_entry"):
    setattr(atomic_files, where, kill)
with atomic_files.replacing_folder(Path(sys.argv[1]), marker="marker", overwrite=True) as temporary:
    (temporary / "marker").write_text("two")
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("exchanged", [True, False])
@pytest.mark.parametrize("where", ["sync", "rename1", "rename2", "sync_entry"])
def test_a_killed_process_loses_nothing(tmp_path: Path, where: str, exchanged: bool) -> None:
    output = tmp_path / "out"
    write(output, "one")
    subprocess.run([sys.executable, "-c", KILLED, str(output), where, str(exchanged)], check=False)
    if exchanged or where != "rename2":
        assert (output / "marker").read_text() in ("one", "two")
    check_replaceable(output, "marker", overwrite=True)
    assert (output / "marker").read_text() in ("one", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    for writer in (holding, replacing):
        with writer(tmp_path / "out") as temporary:
            if temporary is not None:
                temporary.write_text("x")
            with pytest.raises(UsageError, match="another process is writing"), writer(tmp_path / "out"):
                pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders")
def test_links_and_pipes_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    read = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    for name in ("link", "pipe"):
        with replacing(tmp_path / name) as temporary:
            temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    assert os.read(read, 9) == b"new"
    assert (tmp_path / "pipe").is_fifo()
    os.close(read)


def test_what_a_library_left_beside_the_new_output_is_removed(tmp_path: Path) -> None:
    (hidden := _temporary_folder(tmp_path / "out", "new")).mkdir()
    (hidden / ".tmpabc").write_text("half")
    restore(tmp_path / "out")
    assert not list(tmp_path.iterdir())
