"""Records of measurements as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atv_local.text import one_line

_SIZES = {"batch": "queries"}  # what a size counts, if not tokens


def table(head: Sequence[str], rows: Sequence[Sequence[str]], n_text: int = 1) -> str:
    """A Markdown table; the first `n_text` columns are text, the others are numbers."""
    rule = [*["---"] * n_text, *["---:"] * (len(head) - n_text)]
    safe = [[one_line(cell).replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *safe)) + "\n"


def bench(record: dict[str, Any]) -> str:
    """What `atv_eval.bench.benchmark.run` found: where and on what, then ratios, then medians."""
    lines = "".join(f"- {one_line(line)}\n" for line in (*_place(record), *record["notes"]))
    parts = [f"# Cost of steering\n\n{lines}"]
    if record["ratios"]:
        head = ["part", "ratio", "size", "median", "quartiles", "pairs"]
        parts.append(table(head, [[*_cells(row), str(len(row["samples"]))] for row in record["ratios"]], 2))
    head = ["part", "of", "size", "median", "quartiles", "unit"]
    parts.append(table(head, [[*_cells(row), row["unit"]] for row in record["medians"]], 2))
    return "\n".join(parts)


def number(value: float) -> str:
    """Three significant digits, and all before the point."""
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def _place(record: dict[str, Any]) -> list[str]:
    machine, model, bundle = record["machine"], record["model"], record["bundle"]
    sizes = f"{model['parameters'] / 1e6:.0f}M parameters in {model['size'] / 1e6:.0f} MB"
    lines = [
        f"{model['name']}: {model['architecture']} {model['quantisation']}, {sizes}, "
        f"{model['n_layer']} layers of width {model['n_embd']}",
        f"context of {model['n_ctx']} tokens, {model['kv_bytes_per_token'] / 1e3:.1f} kB each",
        f"{machine['processor']}, {machine['threads']} threads on {machine['cpus']} cores",
        f"llama-cpp-python {machine['llama_cpp_python']}",
    ]
    if bundle:
        lines.append(f"bundle {bundle['id']}: {bundle['backbone']}, {bundle['precision']} on {bundle['provider']}")
    return lines


def _cells(row: dict[str, Any]) -> list[str]:
    size = f"{row['size']} {_SIZES.get(row['part'], 'tokens')}" if row["size"] else ""
    quartiles = f"{number(row['low'])} to {number(row['high'])}"
    return [row["part"], row["what"], size, number(row["median"]), quartiles]
