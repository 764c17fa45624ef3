"""The map in CONTRIBUTING.md against the imports: they go one way, and packages are entered by their door."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

from tests import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = [ROOT / folder for folder in SETTINGS["tool"]["setuptools"]["packages"]["find"]["where"]]
PUBLIC_MODULES = {"atv_local.errors", "atv_local.text"}
"""Below everything else and imported by name."""

FILES = {
    ".".join(file.relative_to(folder).with_suffix("").parts): file
    for folder in FOLDERS
    for package in folder.glob("atv_*")
    for file in package.rglob("*.py")
}
PACKAGES = {name.removesuffix(".__init__") for name in FILES if name.endswith(".__init__")}


def imported(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Modules of ours that a file imports, with the names it takes from each."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("atv_"):
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names if alias.name.startswith("atv_"))


def trespasses(importer: str, file: Path) -> Iterator[str]:
    """Modules that `importer` takes from inside a package that it is no part of."""
    for module, names in imported(file):
        inside = [module] if module not in PACKAGES else [f"{module}.{name}" for name in names]
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


def test_every_folder_of_packages_is_known() -> None:
    """The list in pyproject.toml is the only one; a package in a folder that is not on it would not be installed."""
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
        for node in ast.parse(file.read_text(encoding="utf-8")).body
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
