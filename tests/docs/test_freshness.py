"""Published results: none is older than the code that it measures."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks import freshness
from benchmarks.code_fingerprint import fingerprint_of_code
from benchmarks.freshness import LOCK, Lock, Present, Result, find_problems

CODE = '''"""What it does."""

LIMIT = 3
"""Of all."""


def add(a: int, b: int) -> int:
    """Their sum."""
    return a + b
'''
Main = Callable[..., str]


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """Runs the command in a repository with the results a.md and b.jsonl, which share a file; returns what it says."""
    for folder, name in (("results", "a.md"), ("results", "b.jsonl"), ("shared", "x.py"), ("own", "y.py")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(CODE)
    monkeypatch.setattr(freshness, "ROOT", tmp_path)
    monkeypatch.setattr(freshness, "LOCK", tmp_path / "freshness.jsonl")
    monkeypatch.setattr(freshness, "RESULTS", tmp_path / "results")
    lock = Lock({"a.md": Result(["shared", "own/y.py"]), "b.jsonl": Result(["shared"])}, [])
    lock.note_measured(["a.md", "b.jsonl"], Present.read(["shared", "own"]))
    lock.write(freshness.LOCK)

    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["freshness", *words])
        with pytest.raises(SystemExit) if code or not words else nullcontext() as end:
            freshness.main()
        assert end is None or end.value.code == code
        said = capsys.readouterr()
        return said.out + said.err

    return run


def stale(said: str) -> list[str]:
    return re.findall(r"^.* is older than .*$", said, re.MULTILINE)


def test_no_published_result_is_older_than_its_code() -> None:
    lock = Lock.read(LOCK)
    assert not list(find_problems(lock, Present.read(item for one in lock.results.values() for item in one.code)))


def test_only_code_counts() -> None:
    same = (
        '# Comment.\nLIMIT = (\n    3)  # of all\ndef add(a: int, b: int) -> int:\n    "Both."\n\n    return (a + b)\n'
    )
    assert fingerprint_of_code(same) == fingerprint_of_code(CODE)
    assert fingerprint_of_code(CODE.replace("a + b", "a - b")) != fingerprint_of_code(CODE)
    assert fingerprint_of_code(CODE.replace("LIMIT = 3", "LIMIT = 3.0")) != fingerprint_of_code(CODE)
    assert fingerprint_of_code(CODE.replace("LIMIT = 3", "LIMIT = '3'")) != fingerprint_of_code(CODE)


def test_changed_code_is_named(main: Main, tmp_path: Path) -> None:
    assert main() == ""
    (tmp_path / "own" / "y.py").write_text(CODE.replace("a + b", "a - b"))
    (tmp_path / "own" / "not_measured.py").write_text("")
    said = main(code=1)
    assert stale(said) == ["a.md is older than own/y.py"]
    assert 'freshness accept a.md --because "TEXT"' in said


def test_new_and_removed_files_are_named(main: Main, tmp_path: Path) -> None:
    (tmp_path / "shared" / "x.py").rename(tmp_path / "shared" / "z.py")
    changes = "shared/x.py (removed), shared/z.py (new)"
    assert stale(main(code=1)) == [f"a.md is older than {changes}", f"b.jsonl is older than {changes}"]


def add_code(*items: str) -> None:
    """Let a.md measure these too, as they are, and record it."""
    lock = Lock.read(freshness.LOCK)
    lock.results["a.md"].code += items
    lock.note_measured(["a.md"], Present.read(item for one in lock.results.values() for item in one.code))
    lock.write(freshness.LOCK)


def test_files_that_are_not_python_count_where_they_are_named(main: Main, tmp_path: Path) -> None:
    (tmp_path / "shared" / "words.txt").write_text("words")
    assert main() == ""
    add_code("shared/words.txt")
    (tmp_path / "shared" / "words.txt").write_text("other words")
    assert stale(main(code=1)) == ["a.md is older than shared/words.txt"]


def test_with_a_slash_all_files_of_a_folder_count(main: Main, tmp_path: Path) -> None:
    (tmp_path / "rows" / "test").mkdir(parents=True)
    (tmp_path / "rows" / "test" / "x.jsonl").write_text("{}")
    add_code("rows/")
    (tmp_path / "rows" / ".DS_Store").touch()
    assert main() == ""
    (tmp_path / "rows" / "test" / "x.jsonl").write_text("[]")
    (tmp_path / "rows" / "y.csv").touch()
    assert stale(main(code=1)) == ["a.md is older than rows/test/x.jsonl, rows/y.csv (new)"]


def test_a_result_that_was_edited_is_named(main: Main, tmp_path: Path) -> None:
    (tmp_path / "results" / "a.md").write_text("| 100.0 |")
    said = main(code=1)
    assert (
        said == "a.md has changed since it was recorded: python -m benchmarks.freshness measured a.md, or accept it\n"
    )
    main("accept", "a.md", "--because", "A wider column.")
    assert main() == ""
    (tmp_path / "results" / "a.md").write_text("| 99.0 |")
    main("measured", "a.md")
    assert main() == ""


def test_what_has_not_changed_was_not_measured(main: Main, tmp_path: Path) -> None:
    main("measured", "a.md")
    (tmp_path / "shared" / "x.py").write_text("")
    assert "a.md: as recorded, though the code has changed" in main("measured", "a.md", code=2)
    (tmp_path / "results" / "a.md").write_text("| 99.0 |")
    main("measured", "a.md")
    assert stale(main(code=1)) == ["b.jsonl is older than shared/x.py"]


def test_other_files_are_no_results(main: Main, tmp_path: Path) -> None:
    for name in (".DS_Store", "._a.md", "eval.md.partial"):
        (tmp_path / "results" / name).touch()
    assert main() == ""


def test_a_change_is_accepted_for_one_result_with_a_reason(main: Main, tmp_path: Path) -> None:
    (tmp_path / "shared" / "x.py").write_text(CODE + "UNUSED = 1\n")
    assert len(stale(main(code=1))) == 2
    assert "--because" in main("accept", "a.md", code=2)
    assert "say why" in main("accept", "a.md", "--because", " ", code=2)
    main("accept", "a.md", "--because", "It is not used.")
    assert '"because": "It is not used.", "results": ["a.md"]' in freshness.LOCK.read_text()
    assert stale(main(code=1)) == ["b.jsonl is older than shared/x.py"]
    main("accept", "b.jsonl", "--because", "Nor here.")
    assert main() == ""
    assert "nothing to accept" in main("accept", "a.md", "--because", "Again.", code=2)


def test_what_was_measured_again_needs_no_reason(main: Main, tmp_path: Path) -> None:
    for number, names in enumerate((["a.md", "b.jsonl"], ["a.md"])):
        (tmp_path / ("shared", "own")[number] / ("x.py", "y.py")[number]).write_text("")
        main("accept", *names, "--because", f"Reason {number}.")
    (tmp_path / "results" / "a.md").write_text("| 99.0 |")
    main("measured", "a.md")
    reasons = Lock.read(freshness.LOCK).reasons
    assert [(line["because"], line["results"]) for line in reasons] == [("Reason 0.", ["b.jsonl"])]
    assert main() == ""


def test_results_and_entries_agree(main: Main, tmp_path: Path) -> None:
    (tmp_path / "results" / "a.md").rename(tmp_path / "results" / "c.md")
    said = main(code=1)
    assert "c.md is not in freshness.jsonl" in said
    assert "a.md is in freshness.jsonl but not in benchmarks/results" in said
    assert "c.md: not in freshness.jsonl" in main("measured", "c.md", code=2)
    assert "a.md: not in benchmarks/results" in main("measured", "a.md", code=2)


def test_an_entry_without_a_reason_or_code_is_noticed(main: Main, tmp_path: Path) -> None:
    (tmp_path / "results" / "c.md").touch()
    with freshness.LOCK.open("a") as file:
        file.write('{"result": "c.md", "measured": null, "code": ["shared", "gone", "gone/"]}\n')
    said = main(code=1)
    assert "c.md is neither measured nor accepted" in said
    assert "c.md measures gone, which has no Python file (all files count with a slash at the end)" in said
    assert "c.md measures gone/, which has no file" in said


def test_an_unchanged_entry_is_written_as_it_was_read(tmp_path: Path) -> None:
    Lock.read(LOCK).write(tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == LOCK.read_text()
