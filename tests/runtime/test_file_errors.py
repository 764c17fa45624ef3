"""What the file system says becomes one of our errors, with the file's name in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from atv_local.data.file_errors import reading, writing
from atv_local.errors import AtvError, BundleError, DataError, NotFoundError, UsageError


@pytest.mark.parametrize("kind", [DataError, BundleError])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, kind: type[AtvError]) -> None:
    (tmp_path / "bytes").write_bytes(b"ab\xff")
    with pytest.raises(kind, match=f"the model {tmp_path}: "), reading(f"the model {tmp_path}", kind):
        tmp_path.read_bytes()
    with pytest.raises(kind, match=r"bytes is not UTF-8 .* byte 2"), reading(tmp_path / "bytes", kind):
        (tmp_path / "bytes").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kind", "expected"), [(DataError, NotFoundError), (BundleError, NotFoundError), (UsageError, UsageError)]
)
def test_a_missing_file_is_named(tmp_path: Path, kind: type[AtvError], expected: type[AtvError]) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(expected, match=f"{absent}: No such file") as caught, reading(absent, kind):
        absent.read_bytes()
    assert isinstance(caught.value, FileNotFoundError) == (expected is NotFoundError)


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"cannot write {tmp_path}: "), writing(tmp_path):
        tmp_path.write_text("x")


def test_errors_of_ours_stay_as_they_are(tmp_path: Path) -> None:
    """Some are also OSErrors."""
    for guard in (reading(tmp_path), writing(tmp_path)):
        with pytest.raises(NotFoundError, match=r"^no such name$"), guard:
            raise NotFoundError("no such name")
