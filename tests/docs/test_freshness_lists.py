"""What published results measure: no module or file that they come from is missing in benchmarks/freshness.jsonl."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from benchmarks.freshness import LOCK, ROOT, Lock
from benchmarks.remeasure import PARTS
from tests import PACKAGES


def as_path(module: str) -> str | None:
    """The file or folder of a module that was imported; None if it is not ours, or only shows things."""
    package, *inside = module.split(".")
    if module == "benchmarks.json_lines" or package == "atv_cli":
        return None
    if package == "tests":
        return "tests/tiny"
    folder = {**PACKAGES, "benchmarks": ROOT / "benchmarks"}.get(package)
    if folder is None:
        return None
    path = folder.joinpath(*inside)
    return (path if path.is_dir() else path.with_suffix(".py")).relative_to(ROOT).as_posix()


def imports(file: str) -> Iterator[str]:
    """What a Python file of benchmarks, or of a verb, imports of ours, and what those of benchmarks import."""
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for path in filter(None, map(as_path, names)):
            yield path
            if path.startswith("benchmarks/"):
                yield from imports(path)


COMMANDS = {"models.jsonl": "-m benchmarks.models -m benchmarks.model_makers", "peers.jsonl": "-m benchmarks.peers"} | {
    part.file: " ".join(part.commands) for part in PARTS
}
READS = {
    r'"chat_prompts\.txt"': "benchmarks/chat_prompts.txt",
    r'"corrections\.jsonl"': "benchmarks/corrections.jsonl",
    r'"data" / "demo"|data/demo/': "data/demo/",
    r"\{data\}": "benchmarks/task_recipe.json",
    r"read_unrelated_queries\(None\)|from atv_train import .*\btrain\b": "atv_local/data/unrelated_queries.txt",
    r"atv_local\.load\((n_ctx=\w+)?\)|embedded_bundle\(\)|choose_bundle\(None": "atv_local/demo_bundle/atv.json",
    r"-g demo\b|=demo\b|embedded demo by|-m atv_cli (bench|eval)|import app$": "atv_local/demo_bundle/atv.json",
    r'--bundle general|STARTS = .*"general"': "atv_local/general_bundle/atv.json",
    r"from atv_eval\.bench import|-m atv_cli bench": "constraints.txt",
}
"""Files that are not Python, or the folder that they are in, by what is in a command or a module that reads them."""


def measuring(name: str) -> set[str]:
    """The modules and verbs that make a result."""
    modules = {f"benchmarks/{module}.py" for module in re.findall(r"-m benchmarks\.(\w+)", COMMANDS[name])}
    return modules | {f"cli/atv_cli/verbs/{verb}.py" for verb in re.findall(r"-m atv_cli (\w+)", COMMANDS[name])}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_result_counts_what_its_modules_import(name: str) -> None:
    modules = measuring(name)
    wanted = modules.union(*map(imports, modules))
    code = Lock.read(LOCK).results[name].code
    assert not sorted(path for path in wanted if not any(path == item or path.startswith(f"{item}/") for item in code))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_result_counts_what_its_modules_read(name: str) -> None:
    modules = measuring(name)
    modules = {path for path in modules.union(*map(imports, modules)) if path.startswith("benchmarks/")}
    texts = [COMMANDS[name], *((ROOT / path).read_text(encoding="utf-8") for path in modules)]
    wanted = {path for words, path in READS.items() for text in texts if re.search(words, text, re.MULTILINE)}
    code = Lock.read(LOCK).results[name].code
    assert not sorted(path for path in wanted if not any(item.startswith(path) for item in code))
