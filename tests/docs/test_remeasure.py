"""Measuring again: what runs, what is skipped, and how it compares with what is published."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from benchmarks import remeasure
from benchmarks.freshness import PUBLISHED
from benchmarks.json_lines import RESULTS, append_lines, json_lines, measured
from benchmarks.published import compared, figures, intervals

TABLE = """| task, method | rows | exact match, % |
| --- | ---: | ---: |
| a: steered | 10 | {} [40.0, 60.0] |
| a: base | 10 | 0.0 [0.0, 3.3] |

| another | table |
| --- | --- |
| a: steered | 1 [0, 2] |
"""


@pytest.mark.parametrize("part", remeasure.PARTS, ids=lambda part: part.file)
def test_a_part_makes_a_published_file(part: remeasure.Part) -> None:
    for command in part.commands:
        assert importlib.util.find_spec(command.split()[1])
        before, *_ = command.split(" -- ")
        assert part.prints or "--output {out}" in before, "what comes after -- is for another program"
    assert (RESULTS / part.file).exists()


def test_every_published_file_can_be_measured_again() -> None:
    by_hand = {"models.jsonl", "peers.jsonl"}  # by make models, and with a build of llama-server
    published = {path.name for path in RESULTS.iterdir() if path.suffix in PUBLISHED}
    assert published - by_hand <= {part.file for part in remeasure.PARTS}


def test_only_the_first_table_is_compared() -> None:
    assert intervals(TABLE.format("50.0")) == {
        "a: steered, exact match": (50.0, 40.0, 60.0),
        "a: base, exact match": (0.0, 0.0, 3.3),
    }


@pytest.mark.parametrize(("again", "how"), [("50.0", "the same"), ("60.0", "within"), ("39.9", "outside")])
def test_a_figure_is_found_again_within_its_interval(tmp_path: Path, again: str, how: str) -> None:
    for folder, value in (("published", "50.0"), ("again", again)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "eval.md").write_text(TABLE.format(value))
    found = list(figures(tmp_path / "again", tmp_path / "published"))
    assert [figure.found for figure in found] == [how, "the same"]
    said = compared(tmp_path / "again", tmp_path / "published")
    assert f"{1 + (how == 'the same')} are the same" in said
    assert f"{int(how == 'outside')} outside" in said


def test_ratios_of_times_have_a_little_more_room(tmp_path: Path) -> None:
    spread = {"median": 1.0, "low": 0.98, "high": 1.02}
    for folder, middle in (("published", 1.0), ("again", 1.06)):
        (tmp_path / folder).mkdir()
        record = {"first_token": {"steered / base": spread | {"median": middle}}}
        (tmp_path / folder / "latency.jsonl").write_text(json.dumps(record) + "\n")
    (figure,) = figures(tmp_path / "again", tmp_path / "published")
    assert figure.found == "within"
    assert (figure.value, figure.again) == (1.0, 1.06)


def test_what_is_there_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = remeasure.Part("eval.md", ("-c print('|a|')",))
    for _ in range(2):
        remeasure.measure(part, tmp_path, None, None)
    assert (tmp_path / "eval.md").read_text() == "|a|\n"
    assert capsys.readouterr().out.splitlines()[-1] == "eval.md is there"
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("resumes", [True, False])
def test_only_what_resumes_keeps_a_part_of_a_file(tmp_path: Path, resumes: bool) -> None:
    (tmp_path / "x.jsonl.partial").write_text("1")
    code = "open(__import__('sys').argv[1],'a').write('2')"
    remeasure.measure(remeasure.Part("x.jsonl", (f"-c {code} {{out}}",), resumes=resumes), tmp_path, None, None)
    assert (tmp_path / "x.jsonl").read_text() == ("12" if resumes else "2")


def test_a_part_that_fails_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(remeasure.subprocess.CalledProcessError):
        remeasure.measure(remeasure.Part("eval.md", ("-c print(1);exit(3)",)), tmp_path, None, None)
    assert not (tmp_path / "eval.md").exists()


def test_measurements_say_when_and_where_they_were_made(tmp_path: Path) -> None:
    append_lines(tmp_path / "x.jsonl", [{"a": 1}, {"a": "é"}])
    first, second = json_lines(tmp_path / "x.jsonl")
    assert (first["a"], second["a"]) == (1, "é")
    assert set(first["measured"]) == {"on", "commit", "machine"}
    assert first["measured"]["machine"].endswith("cores")


def test_figures_are_kept_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    measured.cache_clear()
    try:
        append_lines(tmp_path / "x.jsonl", [{"a": 1}])
    finally:
        measured.cache_clear()
    assert [line["measured"]["commit"] for line in json_lines(tmp_path / "x.jsonl")] == ["unknown"]
