"""An output survives whatever happens to the process that writes it, and is written by one process at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from atv_local.batch.row_results import skip_answered
from atv_local.data.request_rows import RowRequest
from atv_local.data.resumable_output import ResumableOutput
from atv_local.errors import UsageError

RECORDS = [{"line": n, "text": "\u2028 é" * n} for n in range(1, 4)]


@pytest.fixture(params=[False, True], ids=["renamed", "in place"])
def in_place(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def write(path: Path, records: list[dict[str, Any]], in_place: bool = False, **settings: Any) -> Path:
    """Begin or resume, and stop."""
    with ResumableOutput(path, settings, in_place=in_place) as output:
        for record in records:
            output.append(record)
    return output.path


def read(path: Path, in_place: bool = False) -> list[dict[str, Any]]:
    with ResumableOutput(path, {}, in_place=in_place) as output:
        return list(output.records())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_grows_over_several_processes(tmp_path: Path, in_place: bool) -> None:
    for record in RECORDS:
        write(tmp_path / "out", [record], in_place)
    assert read(tmp_path / "out", in_place) == RECORDS
    assert names(tmp_path) == (["out", "out.json"] if in_place else ["out.partial", "out.partial.json"])


def test_without_a_record_nothing_is_left(tmp_path: Path, in_place: bool) -> None:
    write(tmp_path / "out", [], in_place)
    assert names(tmp_path) == []


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(data=st.data())
def test_a_torn_record_is_cut_off(tmp_path: Path, in_place: bool, data: st.DataObject) -> None:
    path = write(tmp_path / "out", RECORDS, in_place)
    content = path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(content) if byte == ord("\n")]
    length = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:length])
    whole = sum(end <= length for end in ends)
    assert read(tmp_path / "out", in_place) == RECORDS[:whole]
    path.unlink(missing_ok=True)


def test_a_long_torn_record_is_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "out", RECORDS)
    with path.open("ab") as file:
        file.write(b"x" * 200_000)
    assert read(tmp_path / "out") == RECORDS


def test_settings_must_be_the_same(tmp_path: Path, in_place: bool) -> None:
    path = write(tmp_path / "out", RECORDS, in_place, strength=1, layers=(1, 2))
    before = path.read_bytes()
    write(tmp_path / "out", [], in_place, strength=1, layers=(1, 2))
    for changed in ({"strength": 2, "layers": (1, 2)}, {"strength": 1}, {}):
        with pytest.raises(UsageError, match=r"begun with `(strength` 1|layers`)"):
            write(tmp_path / "out", RECORDS, in_place, **changed)
    path.with_name(f"{path.name}.json").unlink()
    with pytest.raises(UsageError, match="that belongs to it"):
        write(tmp_path / "out", RECORDS, in_place, strength=1)
    assert path.read_bytes() == before


def test_a_line_that_is_no_record_is_named(tmp_path: Path, in_place: bool) -> None:
    path = write(tmp_path / "out", RECORDS, in_place)
    path.write_text('{"line": 1}\n[2]\n')
    with pytest.raises(UsageError, match=f"{path.name}:2 "):
        read(tmp_path / "out", in_place)


def test_what_is_finished_is_replaced_only_in_the_end(tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.write_text('{"precious": 1}\n')
    with pytest.raises(UsageError, match=r"exists; .*`overwrite=True`"):
        write(output, RECORDS)
    assert names(tmp_path) == ["out"]
    write_over = ResumableOutput(output, {}, overwrite=True)
    with write_over as opened:
        opened.append(RECORDS[0])
        assert json.loads(output.read_text()) == {"precious": 1}
        opened.finish()
    assert json.loads(output.read_text()) == RECORDS[0]
    assert names(tmp_path) == ["out"]


def test_a_refused_output_loses_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "out", RECORDS)
    before = path.read_bytes()
    (tmp_path / "out").mkdir()
    refused = pytest.raises(UsageError, match="choose another output")
    with refused, ResumableOutput(tmp_path / "out", {}, overwrite=True):
        pass
    assert path.read_bytes() == before


def test_one_process_at_a_time(tmp_path: Path, in_place: bool) -> None:
    with ResumableOutput(tmp_path / "out", {}, in_place=in_place) as output:
        for overwrite in (False, True):
            with (
                pytest.raises(UsageError, match="another process is writing"),
                ResumableOutput(tmp_path / "out", {}, in_place=in_place, overwrite=overwrite),
            ):
                pass
        output.append(RECORDS[0])
    assert read(tmp_path / "out", in_place) == RECORDS[:1]


def test_a_killed_process_holds_nothing(tmp_path: Path, in_place: bool) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from atv_local.data import ResumableOutput\n"
        f"with ResumableOutput(Path(sys.argv[1]), {{}}, in_place={in_place}) as output:\n"
        " output.append({'line': 1})\n print('held', flush=True)\n sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(UsageError, match="another process"):
        read(tmp_path / "out", in_place)
    process.kill()
    process.communicate()
    assert read(tmp_path / "out", in_place) == [{"line": 1}]


@pytest.mark.skipif(os.name == "nt", reason="Windows does not remove an open file")
def test_one_that_has_gone_meanwhile_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process finished between our opening and our locking."""

    def late(*_: object, **__: object) -> bool:
        (tmp_path / "out.partial").unlink()
        return True

    monkeypatch.setattr("filelock.lock_descriptor", late)
    with pytest.raises(UsageError, match="another process"):
        write(tmp_path / "out", RECORDS)


def requests(*lines: int, bad: tuple[int, ...] = ()) -> Iterator[RowRequest]:
    for line in sorted({*lines, *bad}):
        yield RowRequest(line, 0, error="bad") if line in bad else RowRequest(line, 0, {"id": line}, "query")


def test_rows_are_drawn_up_to_the_last_that_was_answered(tmp_path: Path) -> None:
    with ResumableOutput(tmp_path / "out", {}) as output:
        for line in (1, 4):
            output.append({"id": line, "line": line, "text": "x"})
        rows = requests(1, 4, 5, bad=(2, 6))
        assert skip_answered(rows, output) == (2, 1)
        assert [row.line for row in rows] == [5, 6]
        for other in (requests(1), requests(2, 4), requests(1, 3, 5), requests(1, bad=(4,)), requests()):
            with pytest.raises(UsageError, match=r"of the input is not the row .*`overwrite=True`"):
                skip_answered(other, output)
        output.append({"id": 5})
        with pytest.raises(UsageError, match="of the input is not the row"):
            skip_answered(requests(1, 4, 5), output)


def test_a_file_of_others_is_not_emptied(tmp_path: Path, in_place: bool) -> None:
    path = tmp_path / ("out" if in_place else "out.partial")
    path.write_text("no end of line")
    with pytest.raises(UsageError, match=r"without the .* that belongs to it"):
        write(tmp_path / "out", RECORDS, in_place)
    assert path.read_text() == "no end of line"
