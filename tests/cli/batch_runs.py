"""Rows, and `atv-local batch` over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from atv_cli.main import app

KINDS = ("apple", "cat", "pear", "dog", "plum", "cow")
ROWS = [{"input": f"{kind} {n}", "id": f"{kind}-{n}"} for n in range(5) for kind in KINDS]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def batch(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["batch", *map(str, arguments)], input=stdin)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def one_sentence(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    for word in words:
        assert word in result.stderr
