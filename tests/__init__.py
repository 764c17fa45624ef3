"""Tests, in folders as the packages they are of. Helpers are imported as `tests.…`."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
"""Of the repository."""
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = [ROOT / folder for folder in SETTINGS["tool"]["setuptools"]["packages"]["find"]["where"]]
"""Each holds a package."""
PACKAGES = {path.name: path for folder in FOLDERS for path in folder.glob("atv_*") if (path / "__init__.py").exists()}
"""Folders of the packages at the top, by name."""
