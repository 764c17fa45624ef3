"""Fingerprints of Python files: of the code alone, whatever its format, comments and docstrings."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

Fingerprints = dict[str, str]
"""By the path of the file from the root of the repository."""


def read_code(root: Path, code: Iterable[str]) -> Fingerprints:
    """Those of all Python files among these files and folders."""
    files = {file for item in {*code} for file in (root / item, *(root / item).rglob("*.py")) if file.suffix == ".py"}
    return {file.relative_to(root).as_posix(): fingerprint(file.read_bytes()) for file in files if file.is_file()}


def fingerprint(source: bytes | str) -> str:
    """The same for every version of Python, which `ast.dump` does not promise."""
    return hashlib.sha256(ascii(_strip(ast.parse(source))).encode()).hexdigest()[:16]


def _strip(value: object) -> object:
    """A syntax tree as nested lists, without empty fields, which later versions add, and without docstrings."""
    if isinstance(value, ast.AST):
        fields = [(name, getattr(value, name, None)) for name in value._fields]
        return [type(value).__name__, *((name, _strip(one)) for name, one in fields if one is not None and one != [])]
    if isinstance(value, list):
        return [_strip(one) for one in value if not _is_docstring(one)]
    return value


def _is_docstring(node: object) -> bool:
    """Also that of a constant, which is a string after it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
