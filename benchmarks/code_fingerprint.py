"""Fingerprints of files.

Of Python it is the code that counts, whatever its format, comments and docstrings; of other files the bytes.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

Fingerprints = dict[str, str]
"""By the path of the file from the root of the repository."""


def covers(item: str, file: str) -> bool:
    """Whether an item is this file, or a folder with it: Python files alone, all files if it ends with a slash."""
    inside = file.startswith(f"{item.removesuffix('/')}/")
    return file == item or (inside and (item.endswith("/") or file.endswith(".py")))


def read_code(root: Path, code: Iterable[str]) -> Fingerprints:
    """Those of all files that these items cover, without hidden ones."""
    found = {}
    for item in {*code}:
        for file in (root / item, *(root / item).rglob("*")):
            name = file.relative_to(root).as_posix()
            if name not in found and covers(item, name) and not file.name.startswith(".") and file.is_file():
                found[name] = fingerprint(file)
    return found


def fingerprint(file: Path) -> str:
    """Of code if it is Python."""
    return (fingerprint_of_code if file.suffix == ".py" else fingerprint_of_bytes)(file.read_bytes())


def fingerprint_of_bytes(content: bytes) -> str:
    """A short hash."""
    return hashlib.sha256(content).hexdigest()[:16]


def fingerprint_of_code(source: bytes | str) -> str:
    """The same for every version of Python, which `ast.dump` does not promise."""
    return fingerprint_of_bytes(ascii(_strip(ast.parse(source))).encode())


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
