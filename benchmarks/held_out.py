"""Kinds of tasks that training never saw, told in words: what reading the query adds to one static vector.

python -m benchmarks.held_out --data FOLDER --work FOLDER --output FILE.jsonl [--seed N] [--tasks N] [--rows N]
    [--train OPTION=VALUE ...]

Five whole kinds are left out of the training tasks. A run on the others learns a static vector and a generator; then
rows of the kinds left out, of `unseen_dev` and of the trained tasks are answered by the base model, the static vector
and the generator's own vectors, as in `benchmarks.told`. Runs stay in the work folder.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import atv_local
from benchmarks.general_rows import GROUPS, TURNED_ROUND, rows
from benchmarks.json_lines import json_lines, text_lines
from benchmarks.told import measure

KINDS = {
    "pick a word": ("fv_choose_", "fv_alphabetically_"),
    "translate": ("fv_english_", "itv_en_it", "itv_es_en", "itv_fr_en", "itv_it_en"),
    "recall a fact": ("fv_person_", "fv_product_", "itv_location_", "itv_person_", "itv_football_"),
    "letters and sums": ("ii_sum", "ii_diff", "ii_letters_list", "ii_first_word_letter", "ii_second_word_letter"),
    "extract as JSON": ("restaurant8k_json", "wnut17_json", "crossner_json", "snips_json", "e2e_json"),
}
"""What the names of their tasks begin with."""
TRAINED, UNSEEN = "trained on", "unseen_dev"
TEST_ROWS = {TRAINED: 5, UNSEEN: 30}
"""Of each task; 15 of one that is left out."""
EPOCHS, STATIC_SHARE = 1, 0.25


def kind_of(task: str, group: str) -> str:
    """One of `KINDS`, `UNSEEN` or `TRAINED`."""
    if group == UNSEEN:
        return UNSEEN
    return next((kind for kind, starts in KINDS.items() if task.startswith(starts)), TRAINED)


def training_files(data: Path, folder: Path, tasks: list[str], n_rows: int) -> list[Path]:
    """Rows with their instructions, a file for each task."""
    instructions = json.loads((data / "instructions.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for task in tasks:
        made = rows(text_lines(data / task / "train.jsonl"), task, "train", instructions[task], n_rows)
        files.append(folder / f"{task}.jsonl")
        files[-1].write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return files


def bundle(data: Path, folder: Path, tasks: list[str], n_rows: int, seed: int, options: dict[str, Any]) -> Path:
    """What is trained on these tasks, in the folder unless it is there."""
    from atv_export import export
    from atv_train import TrainingHooks, train

    path = folder / "bundle"
    if not path.exists():
        files = training_files(data, folder / "rows", tasks, n_rows)
        settings: dict[str, Any] = {"epochs": EPOCHS, "static_share": STATIC_SHARE, "rank": 32, "batch_size": 16}
        hooks = TrainingHooks(on_epoch=lambda metrics: print(json.dumps(metrics), flush=True))
        settings |= {"hold_out": False, "contrastive": 0.0, "overwrite": True, "seed": seed, "hooks": hooks}
        train(files, folder / "run", **settings | options)
        export(folder / "run", path, precisions="int8")
    return path


def records(data: Path, path: Path, kinds: dict[str, list[str]]) -> Iterator[dict[str, object]]:
    """What `benchmarks.told` has for each task, with its kind."""
    with atv_local.load("default", path, n_ctx=4096) as engine:
        for kind, tasks in kinds.items():
            for record in measure(engine, data, tasks, ["test"], TEST_ROWS.get(kind, 15)):
                if record["method"] != "bundle":
                    yield {"kind": kind, **record}


def main() -> None:
    """Train and measure, unless the output has it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.json and a folder for each task")
    parser.add_argument("--work", type=Path, required=True, help="folder for rows and runs")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", type=int, help="trained on; by default all that are not left out")
    parser.add_argument("--rows", type=int, default=20, help="of each task that is trained on")
    parser.add_argument("--train", nargs="*", default=[], metavar="OPTION=VALUE", help="of atv_train.train")
    arguments = parser.parse_args()
    index = json.loads((arguments.data / "index.json").read_text())
    groups = {name: entry.get("group") for name, entry in index.items()}
    kinds: dict[str, list[str]] = {}
    for name, group in groups.items():
        if group in (*GROUPS, UNSEEN) and name not in TURNED_ROUND:
            kinds.setdefault(kind_of(name, group), []).append(name)
    random.Random(arguments.seed).shuffle(kinds[TRAINED])
    tasks = kinds[TRAINED] = kinds[TRAINED][: arguments.tasks]
    options = {name: json.loads(value) for name, value in (option.split("=", 1) for option in arguments.train)}
    place = {
        "seed": arguments.seed,
        "tasks": len(tasks),
        "train_rows": arguments.rows,
        "variant": ", ".join(arguments.train),
    }
    if any(place.items() <= line.items() for line in json_lines(arguments.output)):
        return
    name = f"seed{arguments.seed}-{len(tasks)}x{arguments.rows}"
    folder = arguments.work / "-".join([name, *arguments.train])
    path = bundle(arguments.data, folder, tasks, arguments.rows, arguments.seed, options)
    lines = [json.dumps(place | record) for record in records(arguments.data, path, kinds)]
    with arguments.output.open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
