"""The benchmark tasks are rebuilt from their source files, byte for byte."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.task_readers import reader_of
from benchmarks.task_recipe import RECIPE, SPLITS, build, described, differing, expanded

SOURCES = {
    "pairs": ("ericwtodd/function_vectors", lambda rows: [{"input": i, "output": o} for i, o in rows]),
    "numbered": (
        "keirp/automatic_prompt_engineer",
        lambda rows: {"examples": {str(n): {"input": i, "output": o, "x": 1} for n, (i, o) in enumerate(rows)}},
    ),
    "mapping": ("roeehendel/icl_task_vectors", dict),
    "references": (
        "tuetschek/e2e-cleaning",
        lambda rows: "mr,ref\n" + "".join(f'"{i}",{one}\n' for i, o in rows for one in (f"Another {o}.", o)),
    ),
    "options": (
        "suzgunmirac/BIG-Bench-Hard",
        lambda rows: {
            "canary": "x",
            "examples": [
                {"input": i.replace("A. ", "(A) ").replace("B. ", "(B) "), "target": f"({o})"} for i, o in rows
            ],
        },
    ),
}
"""A task of each repository, and the form that its rows have there."""


def rows(task: str) -> list[tuple[str, str]]:
    if task == "options":
        return [(f"Which is {n}?\nOptions:\nA. é{n}\nB. {n + 1}", "AB"[n % 2]) for n in range(30)]
    return [(f"one, two, {n}" if task == "pairs" else f"word {n}", f"answer {n}") for n in range(30)]


def choices(task: str, text: str) -> list[str] | None:
    return {"pairs": text.split(", "), "options": ["A", "B"]}.get(task)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Tasks that were measured on, and the repositories that have more rows in another order."""
    index: dict[str, Any] = {}
    for task, (repository, form) in SOURCES.items():
        known = rows(task)
        for number, split in enumerate(SPLITS):
            path = tmp_path / "data" / task / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            part: list[dict[str, Any]] = [
                {"task": task, "input": i, "output": o, "choices": choices(task, i)} for i, o in known[number::4]
            ]
            for row in part if task == "references" else []:
                row["references"] = [f"Another {row['output']}.", row["output"]]
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part), encoding="utf-8")
        index[task] = {"group": "instructed", "licence": "MIT", "licence_clarity": "clear"}
        index[task]["sources"] = [
            {"repo": repository, "commit": "abc", "path": f"files/{{a,b}}/{task}.json"},
            {"repo": "someone/else", "commit": "def", "path": "LICENSE"},
        ]
        random.Random(0).shuffle(known)
        for name, half in (("a", known[:11]), ("b", known[11:])):
            source = tmp_path / "sources" / repository / "files" / name / f"{task}.json"
            source.parent.mkdir(parents=True, exist_ok=True)
            content = form(half)
            source.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    (tmp_path / "data" / "index.json").write_text(json.dumps(index))
    (tmp_path / "data" / "instructions.json").write_text(json.dumps(dict.fromkeys(SOURCES, "Answer.")))
    return tmp_path / "data", tmp_path / "sources"


def test_the_same_files_come_from_the_sources(places: tuple[Path, Path], tmp_path: Path) -> None:
    data, sources = places
    recipe = described(data)
    assert list(recipe) == list(SOURCES)
    build(recipe, tmp_path / "again", sources, recipe)
    for task in SOURCES:
        for split in SPLITS:
            again = tmp_path / "again" / task / f"{split}.jsonl"
            assert again.read_bytes() == (data / task / f"{split}.jsonl").read_bytes()
    assert differing(recipe, tmp_path / "again") == []
    assert json.loads((tmp_path / "again" / "index.json").read_text())["pairs"]["licence"] == "MIT"


def test_a_source_that_changed_is_refused(places: tuple[Path, Path], tmp_path: Path) -> None:
    data, sources = places
    path = sources / "roeehendel/icl_task_vectors/files/a/mapping.json"
    path.write_text(path.read_text().replace("answer", "reply"))
    with pytest.raises(SystemExit, match=r"mapping: \d+ of \d+ rows of \w+ are not in the 30 of the sources"):
        build(described(data), tmp_path / "again", sources, ["mapping"])
    assert not (tmp_path / "again").exists()
    with pytest.raises(SystemExit, match="mapping: "):
        build(described(data), tmp_path / "again", sources, ["mapping", "pairs"])
    assert list(json.loads((tmp_path / "again" / "index.json").read_text())) == ["pairs"]


def test_a_changed_file_is_noticed(places: tuple[Path, Path]) -> None:
    data, _ = places
    recipe = described(data)
    path = data / "pairs" / "valid.jsonl"
    path.write_text(path.read_text() + path.read_text())
    assert differing(recipe, data) == ["pairs/valid.jsonl"]


def test_the_recipe_has_no_rows_but_all_that_is_needed() -> None:
    recipe = json.loads(RECIPE.read_text(encoding="utf-8"))
    assert len(recipe) == 98
    for entry in recipe.values():
        assert any(source["paths"] for source in entry["sources"])
        for source in entry["sources"]:
            assert len(source["commit"]) == 40
            assert not source["paths"] or reader_of(source["repo"], source["paths"][0])
        assert entry["licence"]
        assert set(entry["rows"]) == set(entry["sha256"]) == set(SPLITS)


def test_paths_are_written_out() -> None:
    assert expanded("a/{b,c}/{d,e}.txt") == ["a/b/d.txt", "a/b/e.txt", "a/c/d.txt", "a/c/e.txt"]
    assert expanded("data/one, data/two") == ["data/one", "data/two"]
    assert expanded("README.md (licence)") == []
    assert expanded("2017-06-custom-intent-engines/*/train_*_full.json")[0] == (
        "2017-06-custom-intent-engines/AddToPlaylist/train_AddToPlaylist_full.json"
    )
