"""Tables and bars in a terminal: facts about a file, the vectors of queries, columns whose lines are never broken."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.filesize import decimal
from rich.text import Text

from atv_cli.screen.describe_file import cosines
from atv_local.generator import OUTSIDE_STEERED, VALID_RECALL
from atv_local.text import counted, one_line, shorten, some_of

if TYPE_CHECKING:
    from atv_local.vectors import TaskVector


_MAX_WIDTH = 80
"""The width limit of a column. A longer cell only moves the rest of its own line."""


def plot_norms(vector: TaskVector) -> None:
    """The Euclidean norm at each layer, as bars on stderr."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    values = vector.norms()
    width = max(10, min(60, console.width - 24))
    largest = float(values.max()) or 1.0
    console.print("layer      norm")
    for layer, value in enumerate(values, start=1):
        console.print(f"{layer:5d} {value:9.3f}  {'█' * round(width * float(value) / largest)}")


def print_facts(facts: Mapping[str, Any]) -> None:
    """Facts of `file_facts` as a table on stdout, but for those about queries, which `print_vectors` shows."""
    print_columns([(Text(name, style="bold"), Text(value)) for name, value in _flat(facts)])


def print_columns(rows: Sequence[Sequence[Text]], *, right: Collection[int] = ()) -> None:
    """Rows on stdout, in columns of which those in `right` are aligned to the right.

    A line is as long as its cells: breaking it is left to the terminal, where a path can then be copied whole.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    widths = [min(_MAX_WIDTH, max(cell.cell_len for cell in column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = Text()
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - cell.cell_len)
            line.append_text(Text.assemble(*((padding, cell) if index in right else (cell, padding)), "  "))
        line.rstrip()
        console.print(line, soft_wrap=True)


def print_vectors(queries: Sequence[str], vectors: Sequence[TaskVector]) -> None:
    """Mean norm of each layer with its range, and the cosine of each query's vector with every other, on stdout."""
    console = Console(highlight=False, markup=False, emoji=False)
    values = np.array([vector.norms() for vector in vectors])
    width = max(10, min(50, console.width - 40))
    largest = float(values.max()) or 1.0
    console.print("\nlayer     norm      from        to")
    for layer, column in enumerate(values.T, start=1):
        bar = "█" * round(width * float(column.mean()) / largest)
        console.print(f"{layer:5d} {column.mean():8.3f}  {column.min():8.3f}  {column.max():8.3f}  {bar}")
    shown = min(len(queries), 12)
    console.print("\ncosine of the queries' vectors" + (f" (the first {shown})" if shown < len(queries) else ""))
    for query, row in zip(queries[:shown], cosines(vectors)[:shown, :shown], strict=True):
        console.print(Text("  ".join([*(f"{value:5.2f}" for value in row), shorten(query)])), soft_wrap=True)


def _flat(facts: Mapping[str, Any], top: bool = True) -> list[tuple[str, str]]:
    """Rows of a table: nested names joined with dots, numbers and hashes short, nothing that is empty."""
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        if top and name == "gate" and facts.get("kind") == "bundle":
            rows += [(name, line) for line in _gate_lines(facts)]
        elif top and name == "queries":
            rows += [
                (name, f"{e['gate']['score']:.2f} as {e['gate']['task']}: {e['query']}") for e in value if "gate" in e
            ]
        elif (top and name in ("cosines", "norms")) or value in ("", None, {}, []):
            continue
        elif top and name == "files":
            rows += [(name, f"{file}  {decimal(e['size'])}  sha256 {_short(e['sha256'])}") for file, e in value.items()]
        elif name == "data" and isinstance(value, list):
            rows += [(name, f"{e['name']}  {e['rows']} rows  sha256 {_short(e['sha256'])}") for e in value]
        elif top and name == "tasks":
            rows += [(name, f"{e['name']}  {', '.join(e['labels']) or e['kind']}") for e in value]
        elif isinstance(value, Mapping):
            rows += [(f"{name}.{inner}", text) for inner, text in _flat(value, top=False)]
        elif name in ("layers", "steerable_layers") and isinstance(value, list):
            listed = facts.get("kind") == "control vector"  # elsewhere only the first and the last layer
            whole = not listed or value[-1] - value[0] + 1 == len(value)
            rows.append((name, f"{value[0]}-{value[-1]}" if whole else ", ".join(map(str, value))))
        elif name == "size" and isinstance(value, int):
            rows.append((name, decimal(value)))
        elif name.endswith("sha256"):
            rows.append((name, _short(str(value))))
        else:
            rows.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return [(one_line(name), one_line(text)) for name, text in rows]


def _gate_lines(facts: Mapping[str, Any]) -> list[str]:
    """Which queries a bundle steers, in a line or two."""
    gate, metrics = facts["gate"], facts["provenance"]["metrics"]
    if gate is None:
        return ["none; it steers every query"]
    tasks = [f"{e['name']} ({e['prototypes']} rows, threshold {e['threshold']:.3f})" for e in gate["tasks"]]
    against = f", against {counted(gate['outside'], 'query', 'queries')} outside" if gate["outside"] else ""
    names = {VALID_RECALL: "validation rows", OUTSIDE_STEERED: "unrelated queries"}
    shares = [
        f"{metrics[name]:.1%} of the {queries}" for name, queries in names.items() if metrics.get(name) is not None
    ]
    return [some_of(tasks) + against, *([f"steers {' and '.join(shares)}"] if shares else [])]


def _short(digest: str) -> str:
    return f"{digest[:16]}…"
