"""The map in CONTRIBUTING.md against the imports: they go one way, and packages are entered by their door."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tests import FOLDERS, PACKAGES, ROOT, SETTINGS

PUBLIC_MODULES = {"atv_local.errors", "atv_local.text"}
"""Below everything else and imported by name."""

ALLOWED_CIRCLES = {
    frozenset({"atv_local.answer.engine", "atv_local.batch.batch"}): "`Engine.answer_many` makes a `Batch` of itself",
    frozenset({"atv_local.vectors.task_vector", "atv_local.vectors.control_vector"}): (
        "`TaskVector.load` reads a control vector, which is made of task vectors"
    ),
}
"""Modules that import each other, one of them inside a function, and why."""

FILES = {
    ".".join(file.relative_to(package.parent).with_suffix("").parts): file
    for package in PACKAGES.values()
    for file in package.rglob("*.py")
}
DOORS = {name.removesuffix(".__init__") for name in FILES if name.endswith(".__init__")}


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Modules of ours that are imported, also inside functions, with the names taken from each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("atv_"):
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names if alias.name.startswith("atv_"))


def trespasses(importer: str, file: Path) -> Iterator[str]:
    """Modules that `importer` takes from inside a package that it is no part of."""
    for module, names in imported(parsed(file)):
        inside = [module] if module not in DOORS else [f"{module}.{name}" for name in names]
        for name in inside:
            holder = name.rpartition(".")[0]
            if name in FILES and name not in PUBLIC_MODULES and not importer.startswith(f"{holder}."):
                yield f"{importer} imports {name}; take it from {holder}"


def test_packages_are_entered_by_their_door() -> None:
    scripts = {f"benchmarks.{file.stem}": file for file in (ROOT / "benchmarks").glob("*.py")}
    assert not [line for name, file in {**FILES, **scripts}.items() for line in trespasses(name, file)]


def test_a_trespass_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("from atv_local.target.target import Target\nfrom atv_local.target import Target\n")
    assert list(trespasses("atv_cli.verbs.run", file)) == [
        "atv_cli.verbs.run imports atv_local.target.target; take it from atv_local.target"
    ]
    assert not list(trespasses("atv_local.target.scoring", file))


def test_imports_go_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    assert lint_imports(config_filename="pyproject.toml", no_cache=True) == EXIT_STATUS_SUCCESS


class AtRuntime(ast.NodeTransformer):
    """Leaves out what only a type checker reads."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") else node


def door_entries() -> dict[str, str]:
    """Where each name in an `__init__.pyi` comes from, such as `atv_local.target.target.Target`."""
    return {
        f"{package}.{alias.asname or alias.name}": f"{package}.{node.module}.{alias.name}"
        for package in DOORS
        if (stub := FILES[f"{package}.__init__"].with_suffix(".pyi")).exists()
        for node in parsed(stub).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def modules_imported(tree: ast.AST, entries: Mapping[str, str]) -> set[str]:
    """Modules whose code an import runs, through doors; `import` of a package counts as all that its door lists."""
    names: set[str] = set()
    for module, taken in imported(AtRuntime().visit(tree)):
        listed = [name for name in entries if name.rpartition(".")[0] == module]
        names |= {f"{module}.{name}" for name in taken} or {module, *listed}
    while behind := names & entries.keys():
        names = names - behind | {entries[name] for name in behind}
    return {name if name in FILES or name in DOORS else name.rpartition(".")[0] for name in names}


def circles(imports: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """Sets of modules that all lead to each other."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        left = set(imports[start])
        while left:
            found |= left
            left = {after for module in left for after in imports.get(module, ())} - found
        return found

    leads_to = {module: reached(module) for module in imports}
    return {
        frozenset(other for other in found if module in leads_to.get(other, ()))
        for module, found in leads_to.items()
        if module in found
    }


def test_modules_import_each_other_in_no_circle() -> None:
    """Nor do imports inside functions, which only hide one."""
    entries = door_entries()
    imports = {name.removesuffix(".__init__"): modules_imported(parsed(file), entries) for name, file in FILES.items()}
    assert set().union(*imports.values()) <= imports.keys()
    assert circles(imports) == set(ALLOWED_CIRCLES)


def test_a_circle_is_seen_inside_a_function_and_through_a_door() -> None:
    entries = {"atv_local.target.Target": "atv_local.target.target.Target"}
    lazy = ast.parse("def f():\n    from atv_local.target import Target")
    typing = ast.parse("if TYPE_CHECKING:\n    from atv_local.target import Target")
    module, target = "atv_local.target.model", "atv_local.target.target"
    assert modules_imported(lazy, entries) == {target}
    assert modules_imported(typing, entries) == set()
    assert modules_imported(ast.parse("import atv_local.target"), entries) == {"atv_local.target", target}
    assert circles({module: {target}, target: {module, "atv_local.data"}, "atv_local.x": {module}}) == {
        frozenset({module, target})
    }


def test_lists_of_packages_agree() -> None:
    """The list in pyproject.toml is copied only where a tool needs it."""
    linter = SETTINGS["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in linter["contracts"] if contract["name"] == "Packages")
    assert sorted(linter["root_packages"]) == sorted(PACKAGES)
    assert sorted(name for layer in layers for name in layer.split(" | ")) == sorted(PACKAGES)
    paths = re.search(r"^ +paths: \[(.*)\]$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert paths is not None
    assert [ROOT / path for path in paths[1].split(", ")] == FOLDERS


def test_every_folder_of_packages_is_known() -> None:
    """A package in a folder that is not on the list in pyproject.toml would not be installed."""
    found = {
        path.parent for path in [*ROOT.glob("atv_*"), *ROOT.glob("[!.]*/atv_*")] if (path / "__init__.py").exists()
    }
    assert found == set(FOLDERS)


def test_a_name_means_one_thing() -> None:
    """Public types and functions have names of their own, and so have modules, apart from verbs and what they call."""
    names = Counter(
        name
        for module, file in FILES.items()
        if not module.startswith(("atv_cli.verbs.", "atv_cli.__main__"))
        for node in parsed(file).body
        for name in _defined(node)
    )
    modules = Counter(
        name.rpartition(".")[2]
        for name in FILES
        if not name.startswith("atv_cli.verbs.") and not name.endswith(("__init__", "__main__"))
    )
    assert not [name for counted in (names, modules) for name, n in counted.items() if n > 1]


def _defined(node: ast.stmt) -> list[str]:
    """Public classes, functions and aliases of types that a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        found = [node.name]
    else:
        found = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        found = [name for name in found if not name.isupper()]  # constants are read beside their module's name
    return [name for name in found if not name.startswith("_")]
