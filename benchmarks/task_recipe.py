"""The task sets of the benchmarks, rebuilt from the repositories that they come from, row by row in the same order.

python -m benchmarks.task_recipe build --output FOLDER [--sources FOLDER] [--task NAME ...]
python -m benchmarks.task_recipe check --data FOLDER

`task_recipe.json` has for each task its sources with their commits, its licence, how rows are read, and a short hash of
every row of each split; no row is in it. `build` downloads the sources, or takes `FOLDER/owner/name/path` of --sources,
and compares each file that it writes with the hash of the one that was measured on; `check` does that with files that
are there. `task_readers.py` knows the forms of the sources. Its readers of rows that are not as the source has them
were tried on parts of the sources or of copies of them, not on all rows. `describe --data FOLDER` writes the recipe.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote

from benchmarks.json_lines import text_lines
from benchmarks.task_readers import reader_of
from benchmarks.task_rows import Row

RECIPE = Path(__file__).with_suffix(".json")
SPLITS = ("train", "valid", "test")
HASH_BYTES, MAX_SOURCE = 6, 64 << 20
_URL = "https://raw.githubusercontent.com/{repo}/{commit}/{path}"
Entry = dict[str, Any]
UNREAD = ("LICENSE", "README.md", "data/WiC/val.jsonl")
"""Beginnings of paths that tasks owe their licence to, or that no row of a task comes from."""
FOLDERS = {
    "2017-06-custom-intent-engines": (
        "AddToPlaylist",
        "BookRestaurant",
        "GetWeather",
        "PlayMusic",
        "RateBook",
        "SearchCreativeWork",
        "SearchScreeningEvent",
    )
}
"""What `*` stands for in paths."""


def choices_of(rule: Any, text: str) -> list[str] | None:
    """The allowed answers of a row: a list for all rows, or `items` or `letters` that the input has."""
    if rule == "items":
        return text.split(", ")
    if rule == "letters":
        return re.findall(r"^([A-Z])\. ", text, re.MULTILINE)
    return list(rule) if rule else None


def line(task: str, row: Row, rule: Any) -> str:
    """A line of a split, as it was measured on."""
    content = {"task": task, "input": row.input, "output": row.output, "choices": choices_of(rule, row.input)}
    if row.references is not None:
        content["references"] = row.references
    return json.dumps(content, ensure_ascii=False) + "\n"


def row_hash(row: Row) -> bytes:
    """Enough of it to tell the rows of a task apart."""
    return hashlib.sha256(f"{row.input}\0{row.output}".encode()).digest()[:HASH_BYTES]


def built(task: str, entry: Entry, rows: Iterable[Row]) -> dict[str, str]:
    """The splits of a task, from the rows of its sources.

    Raises:
        ValueError: a row is not in the sources, or a split is not the one that was measured on.
    """
    known = {row_hash(row): row for row in rows}
    splits = {}
    for split in SPLITS:
        packed = base64.b64decode(entry["rows"][split])
        wanted = [packed[start : start + HASH_BYTES] for start in range(0, len(packed), HASH_BYTES)]
        if missing := sum(one not in known for one in wanted):
            raise ValueError(f"{missing} of {len(wanted)} rows of {split} are not in the {len(known)} of the sources")
        splits[split] = "".join(line(task, known[one], entry["choices"]) for one in wanted)
        if hashlib.sha256(splits[split].encode()).hexdigest() != entry["sha256"][split]:
            raise ValueError(f"{split} is not the file that was measured on")
    return splits


def source_rows(entry: Entry, folder: Path | None) -> Iterator[Row]:
    """The rows of all sources, from a folder or downloaded."""
    for source in entry["sources"]:
        texts = []
        for path in source["paths"]:
            if folder is not None:
                content = (folder / source["repo"] / path).read_bytes()
            else:
                with urllib.request.urlopen(_URL.format(**source, path=quote(path)), timeout=60) as answer:
                    content = answer.read(MAX_SOURCE)
            try:
                texts.append(content.decode())
            except UnicodeDecodeError:
                texts.append(content.decode("latin-1"))
        if texts:
            yield from reader_of(source["repo"], source["paths"][0])(texts)


def build(recipe: Entry, output: Path, sources: Path | None, tasks: Iterable[str]) -> None:
    """Write the tasks, with index.json and instructions.json.

    Raises:
        SystemExit: a task could not be had as it was measured on; the others are written.
    """
    done, failed = [], []
    for task in tasks:
        try:
            splits = built(task, recipe[task], source_rows(recipe[task], sources))
        except (OSError, URLError, ValueError, LookupError) as error:
            failed.append(f"{task}: {error}")
            continue
        (output / task).mkdir(parents=True, exist_ok=True)
        for split, text in splits.items():
            (output / task / f"{split}.jsonl").write_text(text, encoding="utf-8")
        done.append(task)
        print(f"{task}: {', '.join(f'{text.count(chr(10))} {split}' for split, text in splits.items())}", flush=True)
    if not done:
        raise SystemExit("\n".join(failed))
    kept = ("group", "category", "licence", "licence_clarity", "sources")
    index = {task: {name: recipe[task][name] for name in kept if name in recipe[task]} for task in done}
    (output / "index.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    told = {task: recipe[task]["instruction"] for task in done}
    (output / "instructions.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if failed:
        raise SystemExit("\n".join(failed))


def differing(recipe: Entry, data: Path) -> list[str]:
    """Files that are not there or not those that were measured on."""
    found = []
    for task, entry in recipe.items():
        for split in SPLITS:
            path = data / task / f"{split}.jsonl"
            if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"][split]:
                found.append(f"{task}/{split}.jsonl")
    return found


def described(data: Path) -> Entry:
    """The recipe of a folder with index.json, instructions.json and a folder for each task."""
    index = json.loads((data / "index.json").read_text(encoding="utf-8"))
    instructions = json.loads((data / "instructions.json").read_text(encoding="utf-8"))
    recipe = {}
    for task, entry in index.items():
        sources = [
            {"repo": source["repo"], "commit": source["commit"], "paths": expanded(source["path"])}
            for source in entry.get("sources", [])
        ]
        if not any(source["paths"] for source in sources):
            continue
        try:
            for source in sources:
                if source["paths"]:
                    reader_of(source["repo"], source["paths"][0])
        except LookupError:
            continue
        lines = {split: [json.loads(one) for one in text_lines(data / task / f"{split}.jsonl")] for split in SPLITS}
        rule = _rule([row for split in SPLITS for row in lines[split]])
        rows = {
            split: [Row(row["input"], row["output"], row.get("references")) for row in found]
            for split, found in lines.items()
        }
        texts = {split: "".join(line(task, row, rule) for row in found) for split, found in rows.items()}
        if any(text != (data / task / f"{split}.jsonl").read_text(encoding="utf-8") for split, text in texts.items()):
            continue  # rows of another form
        packed = {split: b"".join(map(row_hash, found)) for split, found in rows.items()}
        recipe[task] = {
            name: entry[name] for name in ("group", "category", "licence", "licence_clarity") if name in entry
        }
        recipe[task] |= {
            "instruction": instructions[task],
            "sources": sources,
            "choices": rule,
            "sha256": {split: hashlib.sha256(text.encode()).hexdigest() for split, text in texts.items()},
            "rows": {split: base64.b64encode(found).decode() for split, found in packed.items()},
        }
    return recipe


def expanded(path: str) -> list[str]:
    """`a/{b,c}.json` -> `a/b.json`, `a/c.json`, and none of what is UNREAD."""
    if match := re.search(r"\{([^}]*)\}", path):
        return [one for word in match[1].split(",") for one in expanded(path.replace(match[0], word, 1))]
    names = FOLDERS.get(path.split("/", 1)[0], ("*",))
    return [one.replace("*", name) for one in path.split(", ") if not one.startswith(UNREAD) for name in names]


def _rule(rows: list[Entry]) -> Any:
    """What all rows have in common."""
    lists = [row["choices"] for row in rows]
    if all(one is None for one in lists):
        return None
    for rule in ("items", "letters"):
        if all(choices_of(rule, row["input"]) == row["choices"] for row in rows):
            return rule
    return lists[0]


def main() -> None:
    """Build, check or describe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("build", "check", "describe"))
    parser.add_argument("--output", type=Path, help="folder for the tasks")
    parser.add_argument("--data", type=Path, help="folder of tasks")
    parser.add_argument("--sources", type=Path, help="copies of the repositories, in place of a download")
    parser.add_argument("--task", nargs="+", metavar="NAME", help="by default all in the recipe")
    arguments = parser.parse_args()
    if (arguments.output if arguments.what == "build" else arguments.data) is None:
        parser.error("build needs --output; check and describe need --data")
    if arguments.what == "describe":
        RECIPE.write_text(json.dumps(described(arguments.data), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        return
    recipe = json.loads(RECIPE.read_text(encoding="utf-8"))
    if unknown := set(arguments.task or ()) - set(recipe):
        parser.error(f"{', '.join(sorted(unknown))}: not in the recipe, which has {', '.join(recipe)}")
    if arguments.what == "build":
        build(recipe, arguments.output, arguments.sources, arguments.task or recipe)
    elif found := differing(recipe, arguments.data):
        raise SystemExit(f"not as measured on: {', '.join(found)}")
    else:
        print(f"{len(recipe)} tasks are as they were measured on")


if __name__ == "__main__":
    main()
